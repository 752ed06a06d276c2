"""A training step on the command line, in the configuration and in the reports."""

import json

import pytest
from typer.testing import CliRunner

from gradcheck.cli import app

TRAIN = """
import torch

def loss(model, batch):
    return ((model(batch["x"]) - batch["y"]) ** 2).mean()

def pieces():
    batch = {"x": torch.ones(4, 2), "y": torch.arange(4.0)[:, None]}
    return {"model": torch.nn.Linear(2, 1), "loss": loss, "batch": batch, "optimizer": torch.optim.Adam}

def detached():
    return {**pieces(), "loss": lambda model, batch: model(batch["x"]).detach().mean() + model.bias.sum()}

def misspelt():
    return {**pieces(), "optimiser": None}

def incomplete():
    return {"model": torch.nn.Linear(2, 1)}
"""
CONFIG = """
[[step]]
target = "train.py:pieces"
laws = ["receives", "norms"]

[[step]]
target = "train.py:detached"
name = "frozen"
laws = ["receives"]
expect = "fail"
because = "the head is trained alone"
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    (tmp_path / "train.py").write_text(TRAIN)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def invoke(*words):
    return CliRunner().invoke(app, [*words])


def test_a_right_step_exits_with_0_and_shows_a_line_for_each_law(project):
    done = invoke("step", "train.py:pieces", "--law", "receives", "--law", "norms")
    assert done.exit_code == 0
    assert "receives: all 2 trainable parameters receive a gradient" in done.stdout
    assert "norms: per number from" in done.stdout


def test_a_broken_step_exits_with_1_in_every_report(project):
    reports = {"json": "run.json", "junit-xml": "run.xml", "html": "run.html", "sarif": "run.sarif", "markdown": "run.md"}
    words = [word for name, path in reports.items() for word in (f"--{name}", path)]
    done = invoke("step", "train.py:detached", "--law", "receives", *words)
    assert done.exit_code == 1
    assert "replay: gradcheck step train.py:detached --law receives --seed 0" in done.stdout
    (law,) = json.loads((project / "run.json").read_text())["results"][0]["laws"]
    assert (law["verdict"], law["worst"]) == ("FAIL", "weight")
    for path in ("run.xml", "run.html", "run.sarif", "run.md"):
        assert "weight: disconnected, no gradient" in (project / path).read_text()


def test_the_configuration_lists_steps_for_both_commands(project):
    (project / "gradcheck.toml").write_text(CONFIG)
    for command in ("run", "step"):
        done = invoke(command, "--json", "run.json")
        assert done.exit_code == 0, done.output
        results = json.loads((project / "run.json").read_text())["results"]
        assert [result["case"] for result in results] == ["train.py:pieces", "train.py:detached[frozen]"]
        assert [[law["name"] for law in result["laws"]] for result in results] == [["receives", "norms"], ["receives"]]
        assert "gradcheck step train.py:pieces" in results[0]["replay"]


def test_an_unknown_key_of_a_step_is_named_with_its_line(project):
    (project / "gradcheck.toml").write_text('[[step]]\ntarget = "train.py:pieces"\nlaw = ["receives"]\n')
    done = invoke("step")
    assert done.exit_code == 2
    assert "gradcheck.toml:3: unknown key 'law'; did you mean laws?" in done.output


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("train.py:misspelt", "unknown key 'optimiser' (did you mean optimizer?)"),
        ("train.py:incomplete", "the dictionary of the step has no batch"),
        ("train.py", "expected module:name, got a module alone"),
    ],
)
def test_a_function_that_does_not_return_a_step_is_a_usage_error(project, target, words):
    done = invoke("step", target)
    assert done.exit_code == 2
    assert words in " ".join(done.output.split())

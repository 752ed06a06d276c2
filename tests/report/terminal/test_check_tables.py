import json

import pytest
import torch
from typer.testing import CliRunner

import gradcheck
from gradcheck import normal
from gradcheck.cli import app
from gradcheck.report.terminal import run_tables
from gradcheck.results import RunResult

ALL = "differential,descent,laws,sensitivity"


def run(*words):
    return CliRunner().invoke(app, ["run", *words])


@pytest.fixture(scope="module")
def shown():
    return run("torch.nn.functional:mse_loss", "--input", "normal(4)", "--input", "normal(4)", "--checks", ALL, "--json", "-")


def test_the_command_line_makes_the_checks_that_were_asked_for(shown):
    assert shown.exit_code == 0
    found = json.loads(shown.stdout)["results"][0]["checks"]
    assert [t["check"] for t in found] == ALL.split(",")
    assert all(t["verdict"] == "PASS" and t["conclusion"] for t in found)


def test_the_tables_survive_json(shown):
    data = json.loads(shown.stdout)
    assert RunResult.from_dict(data).to_dict() == data


@pytest.mark.parametrize("width", [60, 80, 140])
def test_no_line_is_wider_than_the_terminal(width):
    result = gradcheck.check(
        torch.nn.Linear(3, 1), normal(4, 3), checks=tuple(ALL.split(",")), name="a_rather_long_name_for_a_layer"
    )
    run_ = RunResult("0", {}, 0, {}, (result,))
    text = run_tables.render(run_, width=width)
    assert max(map(len, text.splitlines())) <= width
    for title in ALL.split(","):
        assert f"  {title}  " in text


def test_a_share_is_drawn_as_a_bar():
    result = gradcheck.check(
        lambda x: (x * torch.tensor([2.0, 1.0]).double()).sum(), torch.ones(2).double(), checks=("sensitivity",)
    )
    lines = [line for line in str(result).splitlines() if "▪" in line]
    assert [line.count("▪") for line in lines] == [24, 12]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--checks", "differental"], "expected one of differential, descent, laws, sensitivity"),
        (["--checks", "descent", "--optimizer", "torch.optim:Adm"], "did you mean Adam"),
        (["--checks", "laws", "--partner", "math"], "expected module:name"),
    ],
)
def test_a_misspelt_choice_is_a_usage_error(words, message):
    done = run("torch:sin", "--input", "normal(3)", *words)
    assert done.exit_code == 2
    assert message in done.stderr


def test_the_replay_command_repeats_the_checks():
    words = ["--input", "normal(3)", "--checks", "descent,laws", "--partner", "torch:cos", "--json", "-"]
    replay = json.loads(run("torch:sin", *words).stdout)["results"][0]["replay"]
    assert "--partner torch:cos --checks descent,laws" in replay

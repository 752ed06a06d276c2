"""A project with five layers, one of them wrong, goes through the gate: failing, known, in parts, fixed."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gradcheck.cli import app

PROJECT = Path(__file__).parents[1] / "data" / "sample_project"
WRONG = "layers.functions:Swish"


@pytest.fixture
def project(tmp_path, monkeypatch):
    place = tmp_path / "project"
    shutil.copytree(PROJECT, place, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield place
    forget()


def forget():
    """As in a process of its own: the layers are read again."""
    for name in [name for name in sys.modules if name.split(".")[0] == "layers"]:
        del sys.modules[name]


def gradcheck(*words):
    forget()
    return CliRunner().invoke(app, [str(word) for word in words])


def failed(path):
    return [r["case"] for r in json.loads(path.read_text())["results"] if r["verdict"] == "FAIL"]


def comparisons(path):
    return {r["case"]: r["comparisons"] for r in json.loads(path.read_text())["results"]}


def test_the_gate_is_red_and_names_the_wrong_layer_and_green_once_it_is_fixed(project):
    red = gradcheck("run", "--json", "run.json")
    assert red.exit_code == 1
    assert failed(project / "run.json") == [WRONG]
    assert f"replay: gradcheck run {WRONG} --seed 7" in red.stdout
    functions = project / "layers" / "functions.py"
    functions.write_text(functions.read_text().replace("s + x * s)", "s + x * s * (1 - s))"))
    green = gradcheck("run", "-q")
    assert (green.exit_code, "5 passed" in green.stdout) == (0, True)


def test_a_known_failure_passes_in_parts_too_and_the_parts_are_the_whole(project):
    assert gradcheck("run", "-q", "--baseline", "known.json", "--update-baseline", "--reason", "fixed soon").exit_code == 0
    for index in (1, 2):
        done = gradcheck("run", "-q", "--baseline", "known.json", "--shard", f"{index}/2", "--json", f"{index}.json")
        assert done.exit_code == 0
    whole = gradcheck("merge", "2.json", "1.json", "--json", "whole.json")
    assert (whole.exit_code, "FAIL (known: fixed soon)" in whole.stdout) == (0, True)
    assert "5 passed (1 of them known to the baseline)" in whole.stdout
    assert failed(project / "whole.json") == [WRONG]
    assert gradcheck("merge", "1.json").exit_code == 2
    gradcheck("run", "-q", "--json", "run.json")
    numbers = [
        [r["comparisons"] for r in json.loads((project / name).read_text())["results"]] for name in ("run.json", "whole.json")
    ]
    assert numbers[0] == numbers[1]

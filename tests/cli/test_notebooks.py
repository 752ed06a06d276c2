"""Notebooks on the command line and in the configuration: every command reads them as it reads files."""

import json
import sys
from pathlib import Path

import nbformat
import pytest
from hypothesis import settings
from typer.testing import CliRunner

from gradcheck.cli import app

FIRST = """%matplotlib inline
import numpy as np
import torch
from gradcheck import case, normal
scale = 3.0"""
LOSS = """def loss(x):
    return np.sum(x**2)

def loss_gradient(x):
    return scale * x"""
DECLARED = """@case(normal(3), gradient=lambda x: 2 * x)
def square(x):
    return np.sum(x**2)

class Layer(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x

    @staticmethod
    def backward(ctx, g):
        return g

def raises(x):
    return np.sum(x) / not_defined"""
FLAGS = ["--input", "x=normal(3)", "--methods", "analytic,numeric"]


@pytest.fixture
def cli(tmp_path, monkeypatch):
    """Run a command in a folder with a notebook."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("COLUMNS", "100")
    before = set(sys.modules)
    cells = [nbformat.v4.new_code_cell(text) for text in (FIRST, LOSS, "scale = 2.0", DECLARED)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), "fit.ipynb")
    yield lambda *words: CliRunner().invoke(app, [*words])
    for name in set(sys.modules) - before:
        if name.startswith("_notebook_"):
            del sys.modules[name]


def test_a_function_is_checked_with_the_gradient_of_another_cell(cli):
    gradient = ["--gradient", "fit.ipynb:loss_gradient"]
    done = cli("run", "fit.ipynb:loss", *FLAGS, *gradient)
    assert done.exit_code == 1
    assert "the claim is 1.5 times the derivative" in done.output
    assert "gradcheck run fit.ipynb:loss --input 'x=normal(3)'" in done.output
    assert cli("run", "fit.ipynb:loss", *FLAGS, "--gradient", "fit.ipynb:cell[3].loss_gradient").exit_code == 0
    assert cli("run", "fit.ipynb:cell[4].square", *FLAGS, "--gradient", "fit.ipynb:cell[2].loss_gradient").exit_code == 1


def test_list_names_the_declared_cases(cli):
    assert cli("list", "fit.ipynb").output == "fit.ipynb:square\n"
    assert cli("list", "fit.ipynb:cell[4]").output == "fit.ipynb:cell[4].square\n"
    assert cli("list", "fit.ipynb:cell[1]").exit_code == 5


def test_a_target_that_raises_shows_cell_and_line_everywhere(cli, tmp_path):
    done = cli("run", "fit.ipynb:raises", "--input", "normal(2)", "--json", "run.json", "--markdown", "run.md")
    assert done.exit_code == 3
    assert 'fit.ipynb cell 4", line 15, in raises' in " ".join(done.output.split())
    assert "return np.sum(x) / not_defined" in done.output
    (result,) = json.loads(Path("run.json").read_text())["results"]
    assert (result["file"], result["line"]) == (f"{tmp_path / 'fit.ipynb'} cell 4", 14)
    assert "At `fit.ipynb cell 4, line 14`." in Path("run.md").read_text()


def test_workers_load_the_notebook_themselves(cli):
    targets = ["fit.ipynb:square", "fit.ipynb:cell[4].square"]
    done = cli("run", *targets, "--methods", "analytic,numeric", "-j", "2")
    assert done.exit_code == 0, done.output
    assert "2 passed" in done.output


def test_init_drafts_the_targets_of_a_notebook_and_the_configuration_finds_it(cli, tmp_path, monkeypatch):
    done = cli("init", "fit.ipynb")
    assert 'target = "fit.ipynb"\n' in done.output
    assert 'target = "fit.ipynb:Layer"\n' in done.output
    keys = 'inputs = ["normal(3)"]\ngradient = "fit.ipynb:loss_gradient"\nmethods = ["analytic", "numeric"]'
    (tmp_path / "gradcheck.toml").write_text(f'[[target]]\ntarget = "fit.ipynb:loss"\n{keys}\n')
    (tmp_path / "deeper").mkdir()
    monkeypatch.chdir(tmp_path / "deeper")
    assert "fit.ipynb:loss  numpy, float64, full mode  FAIL" in cli("run").output


def test_fuzz_finds_an_input_and_imports_nothing_from_a_notebook(cli):
    settings.register_profile("none", database=None)
    settings.load_profile("none")
    flags = ["--gradient", "fit.ipynb:loss_gradient", "--examples", "3"]
    done = cli("fuzz", "fit.ipynb:loss", "--input", "normal(2)", *flags)
    settings.load_profile("default")
    assert done.exit_code == 1, done.output
    assert "gradient = ...  # cannot be imported: define it here" in done.output
    assert "_notebook_" not in done.output


def test_a_notebook_that_cannot_be_read_is_a_usage_error_in_one_line(cli):
    Path("fit.ipynb").write_text("{")
    done = cli("run", "fit.ipynb:loss")
    assert done.exit_code == 2
    assert done.output.count("\n") == 1
    assert "fit.ipynb is not a notebook: expected the JSON of nbformat" in done.output

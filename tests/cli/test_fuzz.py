import json
import shlex
import sys

import pytest
from hypothesis import settings
from typer.testing import CliRunner

from gradcheck.cli import app

SOURCE = """
import torch
from gradcheck import case, normal

class Right(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, w):
        if x.shape[0] == 0:
            raise ValueError("a batch needs a row")
        ctx.save_for_backward(x, w)
        return x * w

    @staticmethod
    def backward(ctx, g):
        x, w = ctx.saved_tensors
        return g * w, (g * x).sum(0)

class Wrong(Right):
    @staticmethod
    def backward(ctx, g):
        x, w = ctx.saved_tensors
        return g * w, (g * x)[:2].sum(0)

@case(x=normal("n"))
def declared(x): return torch.sum(x * x)

def never(x): raise ValueError("not today")
"""
INPUTS = ["--input", "normal(batch, 3)", "--input", "normal(3)"]


@pytest.fixture
def layers(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    path = tmp_path / "fuzzed_layers.py"
    path.write_text(SOURCE)
    settings.register_profile("none", database=None)
    settings.load_profile("none")
    yield str(path)
    settings.load_profile("default")
    sys.modules.pop("fuzzed_layers", None)


def fuzz(*words):
    return CliRunner().invoke(app, ["fuzz", *words])


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["{layers}:Right", *INPUTS, "--examples", "8"], 0, "8 inputs tried: "),
        (["{layers}", "--examples", "8"], 0, "1 passed"),
        (["{layers}:Wrong", *INPUTS, "--examples", "20"], 1, "the smallest input that fails:"),
        (["{layers}:Right", "--input", "normal(3"], 2, "^"),
        (["{layers}:Right", *INPUTS, "--budget", "soon"], 2, "a duration such as 30s"),
        (["{layers}:Right", *INPUTS, "--dim", "nobody=3"], 2, "no input has a size of that name"),
        (["{layers}:Right", "--input", "1.0", "--input", "2.0"], 2, "nothing to search"),
        (["{layers}:never", "--input", "normal(3)", "--framework", "torch", "--examples", "8"], 3, "not today"),
        (["{layers}", "-k", "nobody"], 5, "no case matches"),
    ],
    ids=["nothing found", "a module", "found", "spec", "budget", "dim", "nothing to search", "never", "nothing collected"],
)
def test_every_outcome_has_its_exit_code_and_message(layers, words, code, said):
    result = fuzz(*[word.replace("{layers}", layers) for word in words])
    assert said in result.output
    assert result.exit_code == code


def test_a_failure_is_replayed_by_the_printed_command_and_by_the_test(layers, tmp_path):
    result = fuzz(f"{layers}:Wrong", *INPUTS, "--examples", "20", "--json", str(tmp_path / "found.json"))
    (found,) = json.loads((tmp_path / "found.json").read_text())["results"]
    assert found["search"]["failed"] > 0
    assert found["example"] in result.output  # not broken, however narrow the terminal
    assert "rejected: every input with a batch of 0 (" in result.output
    again = CliRunner().invoke(app, shlex.split(found["replay"])[1:])
    assert again.exit_code == 1
    assert "FAIL" in again.output
    namespace = {}
    exec(found["example"], namespace)
    with pytest.raises(AssertionError, match="FAIL"):
        namespace["test_wrong"]()


def test_configured_targets_are_searched(layers, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    target = '[[target]]\ntarget = "fuzzed_layers.py:Wrong"\ninputs = ["normal(batch, 3)", "normal(3)"]\n'
    (tmp_path / "gradcheck.toml").write_text(f"seed = 3\n{target}")
    result = fuzz("--examples", "15")
    assert (result.exit_code, "seed 3" in result.stdout) == (1, True), result.output
    assert "fuzzed_layers.py:Wrong" in result.stdout
    assert "seed 5" in fuzz("--examples", "5", "--seed", "5").stdout

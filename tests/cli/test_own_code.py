"""Code as people write it on the command line: pairs by name, classes, parameters, scripts."""

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gradcheck.cli.app import app
from tests.support.own_code import layers

OWN_CODE = Path(layers.__file__).parent


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("layers", "networks", "courses"):
        text = (OWN_CODE / f"{name}.py").read_text().replace("tests.support.own_code.layers", "own_layers")
        (tmp_path / f"own_{name}.py").write_text(text)
    (tmp_path / "own_script.py").write_text("loss = sum(range(3))\n")

    def run_command(*words):
        result = CliRunner().invoke(app, ["run", *words])
        return result.exit_code, " ".join(result.output.split())

    yield run_command
    shutil.rmtree(tmp_path, ignore_errors=True)


AFFINE = ("--input", "normal(4, 3)", "--input", "normal(3, 2)", "--input", "normal(2)")
DATA = ("--input", "normal(4, 6)", "--input", "integers(0, 3, 4)")


@pytest.mark.parametrize(
    "words",
    [
        ("own_layers.py:affine_forward", *AFFINE),
        ("own_layers.py:affine_forward", *AFFINE, "--backward", "own_layers.py:affine_backward",
         "--backward-takes", "dout,cache"),
        ("own_networks.py:Affine", "--init", "W=normal(6, 3)", "--init", "b=normal(3)", "--input", "normal(4, 6)"),
        ("own_networks.py:Relu", "--input", "normal(4, 6)"),
        ("own_networks.py:TwoLayerNet.loss", "--init", "hidden=4", "--params", "params", "--gradient", "returned", *DATA),
        ("own_networks.py:LayerNet.loss", "--params", "params", "--gradient", "own_networks.py:LayerNet.gradient", *DATA),
        ("own_courses.py:logistic", "--gradient", "returned", "--input", "normal(3)", "--input", "normal(5, 3)",
         "--input", "integers(0, 2, 5)"),
    ],
    ids=["pair", "named backward", "class with arrays", "class", "method", "method with a gradient method", "returned"],
)  # fmt: skip
def test_right_code_passes(run, words):
    code, output = run(*words, "--methods", "analytic,numeric", "--strict")
    assert code == 0, output
    assert "analytic ~ numeric" in output


def test_a_file_of_pairs_asks_for_their_inputs(run):
    code, output = run("own_layers.py")
    assert code == 2
    assert "gradcheck run own_layers.py:lstm_forward --input x='normal(4, 3)'" in output


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("own_networks.py:TwoLayerNet", *DATA), 2, "name a method of it, as in own_networks.py:TwoLayerNet.loss"),
        (("own_networks.py:Affine", "--input", "normal(4, 6)"), 2, "--init W=... --init b=..."),
        (
            ("own_networks.py:TwoLayerNet.loss", "--params", "weights", "--gradient", "returned", *DATA),
            2,
            "weights does not exist",
        ),
        (("own_script.py",), 5, "defines no function: put the lines that compute the value and its gradient into one"),
        (
            ("own_layers.py:affine_forward", *AFFINE, "--backward", "own_layers.py:affine_back"),
            2,
            "did you mean affine_backward",
        ),
        (("own_layers.py:affine_forward", *AFFINE, "--gradient", "returned"), 3, "for an output of several numbers use"),
    ],
    ids=["class alone", "no init", "no params", "script", "misspelt backward", "cache"],
)
def test_wrong_uses_say_what_to_do(run, words, code, message):
    found, output = run(*words)
    assert found == code, output
    assert message in output


def test_a_method_declares_its_case_beside_its_code(run, tmp_path):
    (tmp_path / "own_declared.py").write_text(
        "import numpy as np\nfrom gradcheck import case, normal\n"
        "class Net:\n"
        "    def __init__(self, size):\n        self.params = {'w': np.ones(size)}\n"
        "    @case(normal(5, 3), init={'size': 3}, params='params', gradient='returned')\n"
        "    def loss(self, X):\n"
        "        e = X @ self.params['w']\n        return np.mean(e**2), {'w': 2 * X.T @ e / len(e)}\n"
    )
    code, output = run("own_declared.py", "--strict")
    assert code == 0, output
    assert "params['w']" in output

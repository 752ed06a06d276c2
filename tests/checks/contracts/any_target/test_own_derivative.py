"""What of the user's derivatives was not compared is named: nothing passes unlooked at in silence."""

import functools
import sys

import numpy as np
import pytest
import torch

import gradcheck
from gradcheck import Verdict, normal
from tests.support.own_code import layers, networks

HEAD = "no derivative of yours was checked: "
X, W = np.linspace(0.5, 2, 4), np.linspace(1, 2, 3)


def loss(w):
    return np.sum(w**3)


def loss_grad(w):
    return 3 * w**2


def cube(w):
    return np.sum(w**3)


def with_its_gradient(w):
    return np.sum(w**3), 2 * w**2


def with_named_gradients(w):
    return {"value": np.sum(w**3) * np.ones(2), "dw": 2 * w**2}


def parts_of_a_torch_model(x):
    return torch.sum(x**2), 2 * x


UNCHECKED = {
    "a gradient beside it": (loss, W, "loss_grad stands beside it; give gradient=loss_grad"),
    "a backward beside it": (layers.relu_forward, X, "relu_backward stands beside it; give backward=relu_backward"),
    "a backward of its object": (
        networks.Relu().forward,
        X,
        "Relu has a backward; give backward=...backward, or the Relu itself",
    ),
    "a returned gradient": (with_its_gradient, W, "output[1] looks like the gradient with respect to w"),
    "a named gradient": (with_named_gradients, W, "output['dw'] looks like the gradient with respect to w"),
    "none": (cube, W, "only PyTorch's derivative of the traced code was compared with differences"),
}


@pytest.mark.parametrize("name", UNCHECKED)
def test_what_was_not_compared_is_named_with_the_option_that_compares_it(name):
    function, x, message = UNCHECKED[name]
    result = gradcheck.check(function, x)
    assert result.verdict is Verdict.PASS
    assert result.unchecked.startswith(HEAD + message)


CHECKED = {
    "a gradient": (loss, W, {"gradient": loss_grad}),
    "a reference": (cube, W, {"reference": lambda w: np.sum(w * w * w)}),
    "a torch function": (torch.tanh, torch.ones(3), {}),
    "a torch function that returns an array of its input's shape": (parts_of_a_torch_model, torch.ones(3), {}),
    "left out": (cube, W, {"no_contract": ("own-derivative",)}),
    "tolerated": (cube, W, {"tolerates": {"own-derivative": "PyTorch trains it"}}),
}


@pytest.mark.parametrize("name", CHECKED)
def test_nothing_is_said_where_everything_was_compared_or_the_user_said_so(name):
    function, x, arguments = CHECKED[name]
    assert gradcheck.check(function, x, **arguments).unchecked == ""


def test_strict_does_not_accept_a_derivative_that_was_not_checked(write, monkeypatch):
    from typer.testing import CliRunner

    from gradcheck.cli.app import app

    write({"mine.py": "import numpy as np\ndef f(w):\n    return np.sum(w**3), 2 * w**2\n"})
    run = functools.partial(CliRunner().invoke, app)
    command = ["run", "mine.py:f", "--input", "normal(3)"]
    assert run(command).exit_code == 0
    strict = run([*command, "--strict"])
    assert strict.exit_code == 4
    assert "no derivative of yours was checked" in " ".join(strict.output.split())
    assert run([*command, "--strict", "--gradient", "returned"]).exit_code == 1
    sys.modules.pop("mine", None)


def test_the_summary_of_several_cases_names_them(write):
    from typer.testing import CliRunner

    from gradcheck.cli.app import app

    write({
        "several.py": """
        import numpy as np
        from gradcheck import case, normal
        @case(normal(3), gradient=lambda w: 3 * w**2)
        def right(w):
            return np.sum(w**3)
        @case(normal(3))
        def unlooked(w):
            return np.sum(w**3), 3 * w**2
        """
    })  # fmt: skip
    output = CliRunner().invoke(app, ["run", "several.py", "-q"]).output
    assert "no derivative of yours was checked in several.py:unlooked" in " ".join(output.split())
    sys.modules.pop("several", None)


def test_specs_of_the_strategies_are_drawn_for_a_returned_gradient():
    assert gradcheck.check(with_its_gradient, normal(3), gradient="returned").verdict is Verdict.FAIL

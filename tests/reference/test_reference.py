import pytest
import torch

import gradcheck
from gradcheck import Verdict
from gradcheck.options import Options
from gradcheck.reference import modules, regression, textbook
from gradcheck.run.case import check_case
from gradcheck.run.plan import Request, plan

CASES = plan(Request(["gradcheck.reference"]))


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name.rpartition(".")[2])
def test_every_model_comes_out_as_declared_by_three_methods(case):
    result = check_case(case, Options(every_entry=True))
    assert result.ok, str(result)
    other = check_case(case, Options(seed=1))
    assert other.ok, str(other)
    assert {"analytic", "reverse"} <= {c.method for c in result.comparisons}
    assert "numeric" in {c.against for c in result.comparisons}


CORRUPTIONS = {
    "factor 2": lambda g: 2 * g,
    "sign": lambda g: -g,
    "zero": lambda g: 0 * g,
    "a part in a million": lambda g: (1 + 1e-6) * g,
}


@pytest.mark.parametrize("corruption", CORRUPTIONS)
@pytest.mark.parametrize("name", ["mse", "half_mse"])
def test_a_corrupted_gradient_is_caught_on_each_leaf(name, corruption):
    function, gradient = getattr(regression, name), getattr(regression, f"{name}_gradient")

    def wrong(*args):
        return {leaf: CORRUPTIONS[corruption](g) for leaf, g in gradient(*args).items()}

    result = gradcheck.check(function, kwargs=regression.INPUTS, gradient=wrong, wrt=("w", "b"), dims={"N": 6})
    assert {c.wrt for c in result.comparisons if c.verdict is Verdict.FAIL} == {"w", "b"}


def test_a_missing_one_over_n_is_caught():
    def wrong(X, w, b, y):
        return {leaf: g * len(y) for leaf, g in regression.mse_gradient(X, w, b, y).items()}

    assert gradcheck.check(regression.mse, kwargs=regression.INPUTS, gradient=wrong, wrt=("w", "b")).verdict is Verdict.FAIL


def test_in_the_textbook_program_autodiff_agrees_with_the_program_and_the_formula_stands_alone():
    result = gradcheck.check(textbook.broadcast_mse)
    verdicts = {(c.wrt, c.method, c.against): c.verdict for c in result.comparisons}
    assert verdicts["w", "reverse", "numeric"] is Verdict.PASS
    assert verdicts["w", "analytic", "numeric"] is Verdict.FAIL
    assert verdicts["w", "analytic", "reverse"] is Verdict.FAIL
    assert "analytic stands alone" in str(result)


def test_the_numpy_models_and_the_module_compute_the_same_loss():
    torch.manual_seed(0)
    model, X, y = modules.LinearMSE(3).double(), torch.randn(7, 3).double(), torch.randn(7, 1).double()
    w, b = model.linear.weight.detach()[0], model.linear.bias.detach()[0]
    expected = regression.mse(X.numpy(), w.numpy(), b.numpy(), y[:, 0].numpy())
    assert model(X, y).item() == pytest.approx(expected, rel=1e-14)
    assert regression.torch_mse(X, w, b, y[:, 0]).item() == pytest.approx(expected, rel=1e-14)
    assert 2 * regression.half_mse(X.numpy(), w.numpy(), b.numpy(), y[:, 0].numpy()) == pytest.approx(expected, rel=1e-14)

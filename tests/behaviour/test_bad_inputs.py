"""What nobody should ask a derivative of: each gets a verdict and a reason, none is called wrong for it, nothing crashes."""

import numpy as np
import pytest
import torch

import gradcheck
from gradcheck import Reason, Verdict, normal
from gradcheck.report.terminal import run_tables
from gradcheck.results import RunResult


def random_every_time(x):
    return np.sum(x * np.random.default_rng().standard_normal(x.shape))


def raising_off_its_domain(x):
    if np.any(x < 1.0):
        raise ValueError("outside the domain")
    return np.sum(np.sqrt(x - 1.0))


def of_another_shape_nearby(x):
    return np.tanh(x) if np.all(x == 1.0) else np.tanh(np.append(x, x))


def raising_but_at_the_inputs(x):
    if not np.all(x == 1.0):
        raise ValueError("only here")
    return np.sum(x**2)


ONES = np.ones(3)
BAD = {
    "random every time": (random_every_time, ONES, np.zeros_like, Reason.NONDETERMINISTIC),
    "raises off its domain": (raising_off_its_domain, ONES, lambda x: x, None),
    "raises but here": (raising_but_at_the_inputs, ONES, lambda x: 2 * x, Reason.NOT_FINITE_NEARBY),
    "overflows": (lambda x: np.sum(np.exp(x)), np.array([710.0, 1.0]), np.exp, Reason.NON_FINITE),
    "overflows nearby": (lambda x: np.sum(np.exp(x)), np.array([709.7, 1.0]), np.exp, None),
    "NaN at the inputs": (lambda x: np.sum(np.log(x)), -ONES, lambda x: 1 / x, Reason.NON_FINITE),
    "an input that is NaN": (lambda x: np.sum(x**2), np.array([np.nan, 1.0]), lambda x: 2 * x, None),
    "an input that is infinite": (lambda x: np.sum(1 / x), np.array([np.inf, 1.0]), lambda x: -1 / x**2, None),
    "jumps": (lambda x: np.sum(np.where(x >= 1, 5.0, x)), ONES, np.zeros_like, None),
    "has a pole": (lambda x: np.sum(1 / (x - 1)), ONES, lambda x: -1 / (x - 1) ** 2, Reason.NON_FINITE),
    "denormal": (lambda x: np.sum(x), np.full(3, 5e-324), np.ones_like, None),
    "almost too large": (lambda x: np.sum(x), np.full(3, 1e307), np.ones_like, None),
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("mode", ["full", "probe"])
@pytest.mark.parametrize("name", BAD)
def test_it_is_not_called_wrong_and_says_why(name, mode):
    function, x, gradient, reason = BAD[name]
    result = gradcheck.check(function, x, gradient=gradient, mode=mode, name=name)
    assert result.verdict in (Verdict.INCONCLUSIVE, Verdict.PASS), str(result)
    assert reason in (None, result.reason), str(result)
    assert result.reason is not Reason.INTERNAL
    assert run_tables.render(RunResult("0", {}, 0, {}, (result,)), verbosity=2)


@pytest.mark.parametrize("mode", ["full", "probe"])
def test_another_shape_after_a_perturbation_decides_nothing(mode):
    def vjp(v, x):
        return v / np.cosh(x) ** 2

    result = gradcheck.check(of_another_shape_nearby, ONES, vjp=vjp, mode=mode)
    assert (result.verdict, result.reason) == (Verdict.INCONCLUSIVE, Reason.NOT_FINITE_NEARBY), str(result)


@pytest.mark.parametrize("mode", ["full", "probe"])
@pytest.mark.parametrize(
    "function", [lambda x: 7.0 + 0 * np.sum(x), lambda x: 0.0 * np.sum(x), lambda x: np.array(3.0)], ids=["constant", "0", "3"]
)
def test_a_function_that_never_moves_has_the_derivative_zero(function, mode):
    right = gradcheck.check(function, normal(4), gradient=np.zeros_like, mode=mode)
    assert right.verdict is Verdict.PASS, str(right)
    assert {c.reason for c in right.comparisons} == {Reason.BOTH_ZERO}
    wrong = gradcheck.check(function, normal(4), gradient=np.ones_like, mode=mode)
    assert (wrong.verdict, wrong.reason) == (Verdict.FAIL, Reason.DISAGREES), str(wrong)


class TwoScales(torch.autograd.Function):
    """Two outputs, the first 1e30 times as large."""

    factor = 1.0

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return 1e30 * torch.sin(x), torch.cos(x)

    @classmethod
    def backward(cls, ctx, large, small):
        (x,) = ctx.saved_tensors
        return 1e30 * large * torch.cos(x) - cls.factor * small * torch.sin(x)


@pytest.mark.parametrize(("mode", "size"), [("probe", 4), ("full", 30), ("probe", 30), ("probe", 2000)])
def test_outputs_of_very_different_scales_are_each_looked_at(mode, size):
    wrong_small = type("WrongSmall", (TwoScales,), {"factor": 2.0})
    assert gradcheck.check(TwoScales, normal(size), mode=mode).verdict is Verdict.PASS
    assert gradcheck.check(wrong_small, normal(size), mode=mode).verdict is not Verdict.PASS


WIDE = np.array([1e30, 1.0, 1e-30])


@pytest.mark.parametrize("mode", ["full", "probe"])
def test_inputs_of_very_different_scales_are_each_looked_at(mode):
    def logarithm(x):
        return np.sum(np.log(x))

    assert gradcheck.check(logarithm, WIDE, gradient=lambda x: 1 / x, mode=mode).verdict is Verdict.PASS
    for place in range(3):
        off = np.where(np.arange(3) == place, 1.01, 1.0)
        wrong = gradcheck.check(logarithm, WIDE, gradient=lambda x, off=off: off / x, mode=mode)
        assert wrong.verdict is not Verdict.PASS, place


def test_a_right_gradient_of_wide_inputs_passes():
    assert gradcheck.check(lambda x: x**2, WIDE, vjp=lambda v, x: 2 * v * x).verdict is Verdict.PASS


def test_terms_that_drown_in_a_sum_do_not_make_a_right_gradient_wrong():
    assert gradcheck.check(lambda x: np.sum(x**2), WIDE, gradient=lambda x: 2 * x).verdict is not Verdict.FAIL

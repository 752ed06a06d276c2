"""Straight-through estimators: a claim that is not zero of a constant function is named, and passes if it is declared."""

import numpy as np
import pytest
import torch

import gradcheck
from gradcheck import Reason, Verdict, normal

OFF_STEPS = np.array([0.3, -1.8, 2.2])  # inputs away from the jumps of all step functions
STEPS = {"round": torch.round, "sign": torch.sign, "a step": lambda x: (x > 0).to(x.dtype)}


def make_estimator(step, gradient=lambda g: g):
    class Estimator(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return step(x)

        @staticmethod
        def backward(ctx, g):
            return gradient(g)

    return Estimator


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", STEPS)
def test_a_straight_through_estimator_is_named_when_it_fails_and_passes_if_it_is_declared(name, dtype):
    layer, x = make_estimator(STEPS[name]), torch.from_numpy(OFF_STEPS)
    undeclared = gradcheck.check(layer, x, dtype=dtype)
    assert (undeclared.verdict, undeclared.reason) == (Verdict.FAIL, Reason.STRAIGHT_THROUGH), str(undeclared)
    declared = gradcheck.check(layer, x, dtype=dtype, straight_through=True)
    assert (declared.verdict, declared.reason) == (Verdict.PASS, Reason.STRAIGHT_THROUGH), str(declared)


@pytest.mark.parametrize("name", STEPS)
def test_the_zero_of_a_step_passes_without_a_declaration(name):
    result = gradcheck.check(make_estimator(STEPS[name], torch.zeros_like), torch.from_numpy(OFF_STEPS))
    assert result.verdict is Verdict.PASS, str(result)


@pytest.mark.parametrize("size", [50, 2000])
@pytest.mark.parametrize("name", STEPS)
def test_among_many_inputs_close_to_steps_an_estimator_does_not_pass_unless_declared(name, size):
    assert gradcheck.check(make_estimator(STEPS[name]), normal(size)).verdict is not Verdict.PASS


@pytest.mark.parametrize("declared", [False, True])
@pytest.mark.parametrize("size", [4, 2000])
def test_a_claim_for_an_unused_input_is_simply_wrong(size, declared):
    result = gradcheck.check(
        lambda x, y: np.sum(x**2),
        normal(size),
        normal(size),
        gradient=lambda x, y: (2 * x, np.ones_like(y)),
        straight_through=declared,
    )
    assert (result.verdict, result.reason) == (Verdict.FAIL, Reason.DISAGREES), str(result)
    assert {c.wrt for c in result.comparisons if c.verdict is Verdict.FAIL} == {"y"}


@pytest.mark.parametrize(
    ("function", "mode"),
    [
        (torch.tanh, "full"),
        (torch.tanh, "probe"),
        (torch.relu, "full"),
        (lambda x: torch.round(x) + x, "full"),
        (lambda x: torch.round(x) + x, "probe"),
    ],
)
def test_a_wrong_gradient_of_a_function_that_is_not_constant_fails_although_declared(function, mode):
    layer = make_estimator(function, lambda g: 3 * g)
    result = gradcheck.check(layer, torch.from_numpy(OFF_STEPS), straight_through=True, mode=mode)
    assert (result.verdict, result.reason) == (Verdict.FAIL, Reason.DISAGREES), str(result)


def test_a_declared_estimator_does_not_hide_a_wrong_entry_of_another_input():
    class Both(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, w):
            ctx.save_for_backward(x, w)
            return torch.round(x) * w

        @staticmethod
        def backward(ctx, g):
            x, w = ctx.saved_tensors
            return g * w, g * torch.round(x) * 1.01

    result = gradcheck.check(Both, torch.from_numpy(OFF_STEPS), normal(3), straight_through=True)
    assert {c.wrt for c in result.comparisons if c.verdict is Verdict.FAIL} == {"w"}


def test_what_cancellation_leaves_of_a_zero_is_not_a_straight_through_estimator():
    x = np.array(-1.8658410093384005e-08)  # here the function is exactly 0 in floating point, and so is its slope
    result = gradcheck.check(lambda x: np.sin(x) + np.abs(x), x, gradient=lambda x: np.cos(x) + np.sign(x), framework="numpy")
    assert result.verdict is not Verdict.FAIL


@pytest.mark.parametrize(("left", "verdict"), [(1e-16, Verdict.PASS), (1e-12, Verdict.FAIL)])
def test_what_cancellation_leaves_of_a_zero_passes_where_the_output_never_changes(left, verdict):
    """As below the diagonal of the R of a QR decomposition, whose backward leaves last bits there."""

    def function(x):
        return np.array([np.sum(np.sin(x)), 0.0])

    result = gradcheck.check(function, np.array([0.3, 0.8]), jacobian=lambda x: np.array([np.cos(x), [left, 0.0]]))
    assert result.verdict is verdict, str(result)


def test_last_bits_of_one_output_are_no_excuse_for_another():
    def function(x):
        return {"large": 1e12 * np.sin(x), "constant": np.ones(2)}

    def jacobian(x):
        return {"large": np.diag(1e12 * np.cos(x)), "constant": np.full((2, 2), 1e-6)}

    assert gradcheck.check(function, np.array([0.3, 0.8]), jacobian=jacobian).verdict is Verdict.FAIL


def test_the_backward_of_a_qr_decomposition_passes_in_float32():
    x = torch.tensor([[-0.9886, -0.2242, -0.5091, -0.2755, -0.9404], [0.2268, -0.5495, -0.0478, 0.2067, -0.2217]])
    assert gradcheck.check(torch.linalg.qr, x).verdict is Verdict.PASS


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("values", [[0.51, 0.49, 1.505, 0.3], [0.499], [0.502, 3.0, -1.2]])
def test_a_declared_estimator_passes_next_to_a_rounding_step(values, dtype):
    x, estimator = torch.tensor(values, dtype=dtype), make_estimator(torch.round)
    assert gradcheck.check(estimator, x, straight_through=True).verdict is Verdict.PASS
    assert gradcheck.check(estimator, x).verdict is Verdict.FAIL
    assert gradcheck.check(torch.round, x).verdict is Verdict.PASS


@pytest.mark.parametrize(("factor", "verdict"), [(1, Verdict.PASS), (2, Verdict.FAIL)])
def test_with_a_reference_the_step_size_of_a_learned_quantiser_is_checked(factor, verdict):
    class Quantise(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, s):
            ctx.save_for_backward(x, s)
            return torch.clamp(torch.round(x / s), -4, 3) * s

        @staticmethod
        def backward(ctx, g):
            x, s = ctx.saved_tensors
            inside = (x / s >= -4) & (x / s <= 3)
            slope = torch.where(inside, (x / s).round() - x / s, (x / s).round().clamp(-4, 3))
            return g * inside, factor * (g * slope).sum()

    def reference(x, s):
        clamped = torch.clamp(x / s, -4, 3)
        return (clamped + (torch.round(clamped) - clamped).detach()) * s

    x, s = torch.linspace(-2, 2, 12, dtype=torch.float64), torch.tensor(0.3, dtype=torch.float64)
    assert gradcheck.check(Quantise, x, s, reference=reference, straight_through=True).verdict is verdict

import jax.numpy as jnp
import numpy as np
import pytest
import torch

import gradcheck
from gradcheck import Reason, Verdict, normal


def contracts(result):
    return {c.name: c.verdict for c in result.contracts}


@pytest.mark.parametrize(
    ("function", "reason", "message"),
    [
        (lambda x: np.log(-np.abs(x)), Reason.NON_FINITE, r"output\[0\] is nan \(3 of 3 not finite\)"),
        (lambda x: np.sum(x) / 0.0, Reason.NON_FINITE, "output is"),
        (lambda x: np.sum(x) + np.random.default_rng().standard_normal(), Reason.NONDETERMINISTIC, "repeated calls differ"),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_function_without_a_value_to_differentiate_is_inconclusive_with_its_reason(function, reason, message):
    result = gradcheck.check(function, normal(3), gradient=None)
    assert (result.verdict, result.reason) == (Verdict.INCONCLUSIVE, reason)
    assert message.replace("\\", "") in str(result)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.array([[1.0, 2.0], [np.nan, 4.0]]), "output is nan (1 of 1 not finite); so are inputs: x[1, 0] is nan (1 of 4 not"),
        (np.array([1e200, 1.0]), "output is inf (1 of 1 not finite); the inputs are finite: look for"),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_value_that_is_not_finite_says_whether_the_inputs_are(x, message):
    assert message in gradcheck.check(lambda x: np.sum(x**2), x).message


@pytest.mark.parametrize(("slope", "verdict"), [(0.0, Verdict.PASS), (7.0, Verdict.FAIL)])
def test_inputs_that_no_step_moves_are_named(slope, verdict):
    def gradient(x):
        return np.where(np.isnan(x), slope, 2 * x)

    result = gradcheck.check(lambda x: np.nansum(x**2), np.array([1.0, np.nan, 2.0]), gradient=gradient)
    assert result.verdict is verdict
    assert any(note.startswith("x[1] is nan (1 of 3 not finite): no step moves") for note in result.notes)


@pytest.mark.parametrize("array", [np.asarray, torch.as_tensor, jnp.asarray])
@pytest.mark.parametrize(
    ("function", "shape", "message"),
    [(lambda x: x.sum(), (0, 3), "x has no entry"), (lambda x: x[:0] * 2, (2,), "output has no entry")],
)
def test_empty_inputs_and_outputs_pass_as_empty(array, function, shape, message):
    result = gradcheck.check(function, array(np.ones(shape)))
    assert (result.verdict, result.reason) == (Verdict.PASS, Reason.EMPTY)
    assert message in result.message


def test_an_empty_draw_does_not_stand_for_the_others():
    sizes = []

    def wrong(x):
        sizes.append(x.size)
        return 3 * x

    result = gradcheck.check(lambda x: np.sum(x**2), normal("n"), gradient=wrong, dims={"n": (0, 1)}, trials=6)
    assert {0, 1} == set(sizes)
    assert result.verdict is Verdict.FAIL


@pytest.mark.parametrize(("over", "found"), [(lambda n: n, "FAIL"), (lambda n: max(n, 1), "PASS")])
def test_of_no_output_the_gradient_of_what_rows_share_must_be_zero(over, found):
    def vjp(v, x, w):
        return v * w, (v * x).sum(0) / over(len(x))

    result = gradcheck.check(lambda x, w: x * w, normal(0, 3), normal(3), vjp=vjp, wrt=("x", "w"), framework="numpy")
    assert result.verdict.value == found
    assert ("the gradient at w[0] is nan instead of 0" in str(result)) is (found == "FAIL")


def test_a_derivative_that_raises_where_there_is_no_entry_is_an_error():
    result = gradcheck.check(lambda x: x**2, normal(0), vjp=lambda v, x: v * 2 * x / x[0], framework="numpy")
    assert (result.verdict, result.reason) == (Verdict.ERROR, Reason.DERIVATIVE_RAISED)
    assert "vjp= raised IndexError" in result.message


def test_a_little_randomness_is_counted_as_noise():
    noise = iter(np.random.default_rng(0).standard_normal(10_000))
    result = gradcheck.check(lambda x: np.sum(x**2) + 1e-9 * next(noise), normal(3), gradient=lambda x: 2 * x)
    assert result.verdict is Verdict.PASS
    assert contracts(result)["deterministic"] is Verdict.INCONCLUSIVE
    assert result.comparisons[0].bound > 1e-9


@pytest.mark.parametrize(("slope", "verdict"), [(2.0, Verdict.PASS), (3.0, Verdict.FAIL)])
def test_a_plain_function_that_changes_its_input_is_a_remark(slope, verdict):
    def changes(x):
        x *= 2
        return np.sum(x)

    x = np.ones(3)
    result = gradcheck.check(changes, x, gradient=lambda x: np.full(3, slope))
    assert result.verdict is verdict
    assert contracts(result)["inputs-intact"] is Verdict.INCONCLUSIVE
    assert "x in place" in next(c.message for c in result.contracts if c.name == "inputs-intact")
    assert np.array_equal(x, np.ones(3))
    assert not gradcheck.check(changes, x, gradient=lambda x: np.full(3, 2.0), contracts=False).contracts


class Scale(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, declared):
        if declared:
            ctx.mark_dirty(x)
            return x.mul_(3)
        y = x * 3
        x.zero_()
        return y

    @staticmethod
    def backward(ctx, v):
        return 3 * v, None


@pytest.mark.parametrize(("declared", "verdict"), [(True, Verdict.PASS), (False, Verdict.FAIL)])
def test_a_function_of_autograd_declares_what_it_changes(declared, verdict):
    result = gradcheck.check(Scale, torch.ones(3, dtype=torch.float64), declared)
    assert result.verdict is verdict
    assert contracts(result)["inputs-intact"] is verdict


def test_a_function_that_raises_off_the_primal_does_not_crash_the_check():
    def picky(x):
        if x[0] != 1.0:
            raise ValueError("only at 1")
        return np.sum(x**2)

    result = gradcheck.check(picky, np.ones(2), gradient=lambda x: 2 * x)
    assert result.verdict is Verdict.INCONCLUSIVE


def test_a_function_whose_output_changes_its_size_off_the_primal_does_not_crash_the_check():
    result = gradcheck.check(lambda x: x[x == 1.0], np.ones(3), vjp=lambda v, x: v)
    assert result.verdict is Verdict.INCONCLUSIVE

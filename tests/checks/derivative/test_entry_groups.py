"""Groups of entries in full mode: those that agree are confirmed together, the others are estimated one by one."""

import zlib

import numpy as np
import pytest
import torch
from elementwise import WRONG, changed, layer, with_forward_mode

import gradcheck
from gradcheck import Verdict, normal
from gradcheck.compare import evaluator

N = 300  # more entries than a group holds


def numeric(result):
    return next(comparison for comparison in result.comparisons if comparison.against == "numeric")


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", ["sin", "cube", "exp", "tanh"])
def test_a_right_gradient_takes_fewer_evaluations_than_it_has_entries(name, dtype):
    result = gradcheck.check(layer(name=name), normal(N), dtype=dtype, mode="full")
    assert (result.verdict, result.mode, result.evaluations < 40) == (Verdict.PASS, "full", True), str(result)
    assert numeric(result).certainty == 0.99  # of 300 outputs, combinations are looked at


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", WRONG)
def test_wrong_gradients_are_caught(name, dtype):
    result = gradcheck.check(layer(WRONG[name]), normal(N), dtype=dtype, mode="full", contracts=False)
    assert result.verdict is Verdict.FAIL, str(result)


@pytest.mark.parametrize("bad", [[0], [299], [127, 128], [3, 4, 250]])
def test_every_wrong_entry_is_listed_and_no_other(bad):
    where = numeric(gradcheck.check(layer(changed(*bad, factor=1.01)), normal(N), mode="full", contracts=False)).where
    assert {wrong.entry for wrong in where.entries} == {(i,) for i in bad}
    assert (where.count, where.examined) == (len(bad), 1.0)


@pytest.mark.parametrize("seed", range(4))
def test_errors_that_cancel_in_a_plain_sum_are_caught_by_random_directions(seed):
    def opposite(g):
        g = g.clone()
        g[10], g[11] = g[10] + 1e-4, g[11] - 1e-4
        return g

    result = gradcheck.check(layer(opposite), normal(N), mode="full", seed=seed, contracts=False)
    assert result.verdict is Verdict.FAIL


def test_a_leaf_with_small_derivatives_is_judged_by_its_own_size():
    """The gradient of the bias is far smaller than that of the weights."""

    class Affine(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, w, b):
            ctx.save_for_backward(x, w)
            return torch.sin(x @ w).sum() + 1e-6 * torch.sin(b).sum()

        @staticmethod
        def backward(ctx, g):
            x, w = ctx.saved_tensors
            c = g * torch.cos(x @ w)
            return c @ w.T, x.T @ c, torch.full((20,), 0.5e-6, dtype=torch.float64)

    inputs = (normal(5, 16), normal(16, 20), normal(20))
    result = gradcheck.check(Affine, *inputs, mode="full")
    assert {c.wrt for c in result.comparisons if c.verdict is Verdict.FAIL} == {"b"}, str(result)


def test_kinks_among_smooth_entries():
    x = torch.linspace(-1, 1, N + 1, dtype=torch.float64)  # one of them is exactly 0
    assert gradcheck.check(torch.relu, x, mode="full").verdict is Verdict.PASS
    at_zero = layer(lambda g: g)

    def twice(x):
        return torch.relu(x) + at_zero.apply(x)

    assert gradcheck.check(twice, x, mode="full").verdict is Verdict.PASS


def test_a_wrong_column_of_a_forward_mode_is_found():
    result = gradcheck.check(with_forward_mode(changed(200, factor=1.001)), normal(N), mode="full", contracts=False)
    wrong = [c for c in result.comparisons if c.verdict is Verdict.FAIL]
    assert {c.method for c in wrong if c.against == "numeric"} == {"forward"}
    assert {c.worst_entry for c in wrong} == {(200,)}


def test_a_numpy_gradient_by_hand():
    def f(x):
        return np.sum(np.sin(x) * x)

    def gradient(x):
        return np.sin(x) + x * np.cos(x)

    right = gradcheck.check(f, normal(N), gradient=gradient, mode="full")
    assert right.verdict is Verdict.PASS, str(right)
    wrong = gradcheck.check(
        f, normal(N), gradient=lambda x: np.where(np.arange(N) == 77, 1.001, 1.0) * gradient(x), mode="full"
    )
    assert wrong.verdict is Verdict.FAIL
    assert numeric(wrong).worst_entry == (77,)


def test_groups_are_given_up_soon_if_the_gradient_is_wrong_throughout():
    result = gradcheck.check(layer(lambda g: 2 * g), normal(400), mode="full", contracts=False)
    assert result.verdict is Verdict.FAIL
    assert numeric(result).where.count == 400
    assert result.evaluations < 7 * 400


def test_points_where_the_function_raises_do_not_affect_the_other_points_of_a_batch(monkeypatch):
    monkeypatch.setattr(evaluator, "MAX_BATCH_TIME", np.inf)

    def f(x):
        near_one = 1 - 3e-4 + 0.2 * (x - 1)
        one = torch.ones_like(near_one)
        rows = torch.stack([torch.stack([one, near_one], -1), torch.stack([near_one, one], -1)], -2)
        return torch.linalg.cholesky(rows).sum()

    x = torch.full((140,), 0.5, dtype=torch.float64)
    x[-20:] = 1.0  # a step further than the smallest leaves the domain
    assert gradcheck.check(f, x, mode="full").verdict is Verdict.PASS


def test_the_resolution_accounts_for_small_entries():
    """The small entries of a softmax are known less well than the large ones, and the table says so."""

    class Loss(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return torch.logsumexp(3 * x, 0)

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            gradient = 3 * torch.softmax(3 * x, 0)
            gradient[np.argsort(gradient)[750]] *= 1.00003
            return g * gradient

    result = gradcheck.check(Loss, normal(1500), mode="full")
    assert result.verdict is Verdict.FAIL or numeric(result).resolution > 3e-5, str(result)


def test_groups_with_a_low_resolution_are_not_confirmed():
    """Otherwise each of their entries would be refined later, at many times the cost."""
    x = torch.linspace(-1, 1, 200, dtype=torch.float64)
    x[:67] = 0.0
    result = gradcheck.check(lambda x: 1e-6 * x.abs().sum() + 3 * (x + 1).exp().sum(), x, mode="full")
    assert result.verdict is Verdict.PASS
    assert result.evaluations < 2000


@pytest.mark.parametrize("hidden", [None, 17])
def test_entries_that_the_function_does_not_use_are_estimated_together(hidden):
    def function(x, y):
        return np.sin(x) + (0.0 if hidden is None else 1e-7 * y[hidden])

    def claimed(v, x, y):
        return v * np.cos(x), 0 * y

    result = gradcheck.check(function, np.linspace(0.1, 1, 4), np.linspace(1, 2, 200), vjp=claimed, mode="full")
    assert result.verdict is (Verdict.PASS if hidden is None else Verdict.FAIL), str(result)
    assert result.evaluations < 400
    if hidden is not None:
        (wrong,) = {w.entry for c in result.comparisons if c.where for w in c.where.entries}
        assert wrong == (hidden,)


def test_zeros_whose_product_is_zero_are_unused_alone():
    result = gradcheck.check(
        lambda x: np.array([x[0], x[1] * x[2]]), np.zeros(3), vjp=lambda v, x: v[0] * np.eye(3)[0], mode="full"
    )
    assert result.verdict is Verdict.PASS, str(result)


def test_forward_mode_is_pushed_along_two_directions_if_it_agrees():
    pushed = []

    def count(tangent):
        pushed.append(tangent)
        return tangent

    result = gradcheck.check(with_forward_mode(count), normal(90), every_entry=True, contracts=False)
    assert (result.verdict, len(pushed)) == (Verdict.PASS, 2), str(result)


@pytest.mark.parametrize("fault", [0.0, 0.1])
def test_full_mode_estimates_only_the_entries_that_a_line_of_the_whole_input_leaves_open(fault):
    scales = np.r_[np.ones(20), 1e-7]  # the last entry is lost beside the others

    def gradient(x):
        right = scales * np.cos(x)
        right[-1] *= 1 + fault
        return right

    x = np.linspace(0.2, 1, 21)
    result = gradcheck.check(lambda x: np.sum(scales * np.sin(x)), x, gradient=gradient)
    every = gradcheck.check(lambda x: np.sum(scales * np.sin(x)), x, gradient=gradient, every_entry=True)
    assert result.comparisons[0].mode == "full"
    assert fault or result.evaluations < every.evaluations - 50
    assert result.verdict is every.verdict is (Verdict.FAIL if fault else Verdict.PASS), str(result)


@pytest.mark.parametrize("fault", [0.0, 1e-3])
def test_a_noisy_function_is_looked_at_by_the_step_ladder_along_two_lines(fault):
    """Each of its entries alone would take a ladder of its own."""

    def noisy(x):
        return np.sum(x**2) + 1e-9 * zlib.crc32(x.tobytes()) / 2**32

    def gradient(x):
        return 2 * x * (1 + fault * (np.arange(x.size) == 17))

    result = gradcheck.check(noisy, np.linspace(0.5, 1.5, 48), gradient=gradient)
    assert result.verdict is (Verdict.FAIL if fault else Verdict.PASS), str(result)
    assert fault or result.evaluations < 250

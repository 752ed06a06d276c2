"""Full mode in groups: what agrees is confirmed together, what does not is looked at one by one."""

import numpy as np
import pytest
import torch
from elementwise import WRONG, changed, layer, with_forward_mode

import gradcheck
from gradcheck import Verdict, normal

N = 300  # more than a group


def numeric(result):
    return next(c for c in result.comparisons if c.against == "numeric")


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", ["sin", "cube", "exp", "tanh"])
def test_a_right_gradient_takes_fewer_evaluations_than_it_has_entries(name, dtype):
    result = gradcheck.check(layer(name=name), normal(N), dtype=dtype, mode="full")
    assert (result.verdict, result.evaluations < N / 2) == (Verdict.PASS, True), str(result)
    assert numeric(result).certainty == 1.0


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", WRONG)
def test_wrong_gradients_are_caught(name, dtype):
    result = gradcheck.check(layer(WRONG[name]), normal(N), dtype=dtype, mode="full")
    assert result.verdict is Verdict.FAIL, str(result)


@pytest.mark.parametrize("bad", [[0], [299], [127, 128], [3, 4, 250]])
def test_every_wrong_entry_is_listed_and_no_other(bad):
    where = numeric(gradcheck.check(layer(changed(*bad, factor=1.01)), normal(N), mode="full")).where
    assert {w.entry for w in where.entries} == {(i,) for i in bad}
    assert (where.count, where.examined) == (len(bad), 1.0)


@pytest.mark.parametrize("seed", range(10))
def test_errors_that_cancel_in_a_sum_do_not_in_two_random_ones(seed):
    def opposite(g):
        g = g.clone()
        g[10], g[11] = g[10] + 1e-4, g[11] - 1e-4
        return g

    assert gradcheck.check(layer(opposite), normal(N), mode="full", seed=seed).verdict is Verdict.FAIL


def test_a_matrix_and_its_small_neighbour():
    """A bias whose gradient is far smaller than that of the weights is judged by its own size."""

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
    result = gradcheck.check(with_forward_mode(changed(200, factor=1.001)), normal(N), mode="full")
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


def test_a_gradient_wrong_throughout_is_given_up_soon():
    result = gradcheck.check(layer(lambda g: 2 * g), normal(1000), mode="full")
    assert result.verdict is Verdict.FAIL
    assert numeric(result).where.count == 1000
    assert result.evaluations < 7 * 1000

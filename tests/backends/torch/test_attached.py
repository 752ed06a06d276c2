import numpy as np
import pytest
import torch

import gradcheck
from gradcheck.results import Verdict

X = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)


def on_one_path(a, b):
    return (a.detach() * b).sin() + a**2


def by_data(a, b):
    return (a.data * b).sin() + a**2


def under_no_grad(a, b):
    with torch.no_grad():
        shift = a.max() - b.mean()
    return (a * b - shift).sin()


@pytest.mark.parametrize(
    ("function", "line"),
    [(on_one_path, "(a.detach() * b)"), (by_data, "(a.data * b)"), (under_no_grad, "with torch.no_grad()")],
)
def test_a_detached_part_is_named_with_its_line(function, line):
    result = gradcheck.check(function, X, X + 0.3, contracts=False)
    assert result.verdict is Verdict.FAIL
    diagnosis = next(c.diagnosis for c in result.comparisons if c.wrt == "a" and c.diagnosis)
    assert diagnosis.startswith("detached: ")
    assert line in diagnosis


def test_a_wrong_backward_beside_a_detach_that_explains_nothing_is_not_called_detached():
    class Cube(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x.detach() ** 3

        @staticmethod
        def backward(ctx, g):
            return 2 * g * ctx.saved_tensors[0] ** 2

    result = gradcheck.check(lambda x: Cube.apply(x) * x.detach().sign(), X, contracts=False)
    assert result.verdict is Verdict.FAIL
    assert not any((c.diagnosis or "").startswith("detached") for c in result.comparisons)


def test_a_detached_maximum_that_cancels_passes():
    def log_sum_exp(x):
        m = x.max().detach()
        return m + (x - m).exp().sum().log()

    assert gradcheck.check(log_sum_exp, X, contracts=False).verdict is Verdict.PASS


def test_in_jax_a_stopped_gradient_is_named_and_works_as_before_afterwards():
    jax = pytest.importorskip("jax")

    @jax.jit
    def stopped(a):
        return jax.numpy.sin(jax.lax.stop_gradient(a)) * a

    result = gradcheck.check(stopped, jax.numpy.asarray([0.5, 1.0, 2.0]))
    assert "detached" in {(c.diagnosis or "").partition(":")[0] for c in result.comparisons}
    assert np.all(np.asarray(jax.grad(lambda a: jax.lax.stop_gradient(a).sum())(jax.numpy.ones(2))) == 0)

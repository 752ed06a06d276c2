"""Rounding, conditioning, cancellation, mixed scales: no right gradient fails for them, no wrong one hides in them."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import layer_norm

import gradcheck
from gradcheck import Reason, Verdict


def normal(*shape, scale=1.0, dtype=torch.float32):
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)


RIGHT_IN_FLOAT32 = {
    "a saturated sigmoid": (torch.sigmoid, normal(12, scale=10)),
    "a saturated tanh": (torch.tanh, normal(12, scale=4)),
    "a peaked softmax": (lambda x: torch.softmax(x, -1), normal(2, 4, scale=10)),
    "a sum of saturated sigmoids": (lambda x: torch.sigmoid(x).sum(), normal(2000, scale=10)),
    "a variance far from zero": (lambda x: x.var(), normal(50) + 1e3),
}


@pytest.mark.parametrize("mode", ["full", "probe"])
@pytest.mark.parametrize("name", RIGHT_IN_FLOAT32)
def test_a_right_float32_gradient_passes_where_terms_cancel(name, mode):
    function, x = RIGHT_IN_FLOAT32[name]
    result = gradcheck.check(function, x, mode=mode, name=name)
    assert result.verdict is Verdict.PASS, str(result)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("mode", ["full", "probe"])
def test_a_bias_before_batch_norm_passes(mode, dtype):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)).to(dtype)
    result = gradcheck.check(net, normal(5, 4, dtype=dtype), mode=mode)
    assert result.verdict is Verdict.PASS, str(result)


@pytest.mark.parametrize(
    "function",
    [lambda x: layer_norm(x, (16,)).sum(), lambda x: torch.softmax(x, -1).sum(-1), lambda x: torch.softmax(x, -1).sum()],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_two_roundings_of_a_zero_derivative_are_not_held_against_each_other(function, dtype):
    assert gradcheck.check(function, normal(3, 16, dtype=dtype), mode="full").verdict is not Verdict.FAIL


MIXED = np.array([1e6, 1.0, -2.0, 0.5], dtype=np.float32)


@pytest.mark.parametrize("x", [MIXED, np.array([1e9, 1.0, -2.0, 0.5])], ids=["float32", "float64"])
def test_a_small_entry_is_looked_at_at_its_own_scale(x):
    def of_small(value):
        return lambda x: np.where(np.abs(x) < 10, value, np.sign(x))

    assert gradcheck.check(lambda x: np.sum(np.abs(x)), x, gradient=np.sign, mode="full").verdict is Verdict.PASS
    assert gradcheck.check(lambda x: np.sum(np.abs(x)), x, gradient=of_small(0.0), mode="full").verdict is Verdict.FAIL
    assert gradcheck.check(lambda x: np.sum(np.maximum(x, 0)), x, gradient=of_small(0.5), mode="full").verdict is Verdict.FAIL


def test_a_logarithm_of_mixed_scales_passes():
    x = np.array([1e-6, 1.0, 1e6])
    assert gradcheck.check(lambda x: np.sum(np.log(x)), x, gradient=lambda x: 1 / x).verdict is Verdict.PASS


def test_labels_that_the_code_compares_with_are_not_jittered():
    labels, x = torch.tensor([1.0, -1.0, 1.0], dtype=torch.float64), normal(3, dtype=torch.float64)

    def hinge(x, y):
        return torch.where(y == 1, x, torch.relu(1 - x))

    assert gradcheck.check(hinge, x.requires_grad_(), labels).verdict is Verdict.PASS


def test_an_oscillation_too_fast_for_every_step_decides_nothing():
    x = np.array([1e13, 1.0, -2.0, 0.5])
    assert gradcheck.check(lambda x: np.sum(np.sin(x)), x, gradient=np.cos).verdict is Verdict.INCONCLUSIVE


def test_a_slope_lost_in_the_last_bits_of_a_large_output_decides_nothing():
    x = np.linspace(-1, 1, 6)
    wrong = gradcheck.check(lambda x: 1e15 + np.sum(np.sin(x)), x, gradient=lambda x: 50 * np.cos(x))
    assert wrong.verdict is not Verdict.PASS


@pytest.mark.parametrize("size", [100, 5_000])
def test_a_float32_numpy_function_is_measured_in_float64(size):
    x = np.random.default_rng(0).standard_normal(size).astype(np.float32)
    right = gradcheck.check(lambda x: np.mean(x**2), x, gradient=lambda x: 2 * x / x.size)
    assert right.verdict is Verdict.PASS, str(right)
    assert gradcheck.check(lambda x: np.mean(x**2), x, gradient=lambda x: 2.01 * x / x.size).verdict is Verdict.FAIL


def test_a_derivative_of_other_code_does_not_judge_where_the_evidence_is_dull():
    def inside(x):
        return np.sum(np.sin(x.astype(np.float32))).astype(np.float64)

    for seed in range(6):
        x = np.random.default_rng(seed).standard_normal(8)
        assert gradcheck.check(inside, x, gradient=np.cos, seed=seed).verdict is Verdict.PASS


def test_a_function_that_depends_on_its_dtype_is_not_called_wrong():
    def entropy(p):
        return -(p * torch.log(p + torch.finfo(p.dtype).eps)).sum()

    p = torch.softmax(5 * normal(50, dtype=torch.float64), 0).float()
    result = gradcheck.check(entropy, p)
    assert (result.verdict, result.reason) == (Verdict.INCONCLUSIVE, Reason.DTYPE_DEPENDENT)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_measured_in_float64(dtype):
    x = normal(5, dtype=dtype)
    assert gradcheck.check(lambda x: (x**2).sum(), x).verdict is Verdict.PASS
    assert gradcheck.check(lambda x: (x**2).sum(), x, gradient=lambda x: 3 * x).verdict is Verdict.FAIL


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_a_tail_where_the_values_cancel_fails_no_right_gradient(approximate):
    """Of x (1 + tanh(u)) / 2 beside -6 the sum moves in whole ulps of 1: at fine steps only the factor x is seen to move."""
    x = -3 - 5 * torch.rand(10, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert gradcheck.check(torch.nn.GELU(approximate), x).verdict is not Verdict.FAIL
    assert gradcheck.check(torch.nn.GELU(approximate), torch.cat([x[:5], -x[5:]])).verdict is not Verdict.FAIL


class GeluWithoutItsTail(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.nn.functional.gelu(x)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        normal = torch.distributions.Normal(0.0, 1.0)
        return g * (normal.cdf(x) + torch.where(x > -3, x * normal.log_prob(x).exp(), 0.0))


def test_a_gradient_that_is_wrong_in_the_tail_fails():
    x = torch.tensor([-4.1, -3.5, -0.3, 0.7], dtype=torch.float64)
    assert gradcheck.check(GeluWithoutItsTail, x, contracts=False).verdict is Verdict.FAIL


def project(points, matrix):
    """Pixels of points by homogeneous coordinates; the last row of the matrix cancels, but for two small numbers."""
    moved = torch.cat([points, torch.ones_like(points[:, :1])], 1) @ matrix.T
    moved = moved[:, :3] / (moved[:, 3:] + 1e-8)
    return moved[:, :2] / (moved[:, 2:] + 1e-12)


@pytest.mark.parametrize("mode", ["full", "probe"])
@pytest.mark.parametrize("scale", [1.0, 1.001])
def test_a_claim_that_a_coarse_estimate_passes_is_not_failed_by_its_rounding_when_that_is_refined(mode, scale):
    points = 1000 * torch.rand(50, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) - 500
    matrix = torch.tensor([[20.0, 0, 10, 0], [0, 10, 5, 0], [0, 0, 1, 0], [0, 0, 0, 1]], dtype=torch.float64)

    def vjp(cotangent, points, matrix):
        inputs = [points.detach().requires_grad_(), matrix.detach().requires_grad_()]
        by_points, by_matrix = torch.autograd.grad(project(*inputs), inputs, cotangent)
        by_matrix[2] *= scale
        return by_points, by_matrix

    result = gradcheck.check(project, points, matrix, vjp=vjp, mode=mode)
    assert result.verdict is (Verdict.PASS if scale == 1 else Verdict.FAIL), str(result)

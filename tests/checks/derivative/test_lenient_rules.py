"""Rules that excuse rounding, kinks and small differences excuse nothing else: wrong claims that come close to them fail."""

import numpy as np
import pytest
import torch
from elementwise import with_backward

import gradcheck
from gradcheck import Verdict

TIED = np.array([1.0, 1.0, 0.3])


@pytest.mark.parametrize("width", [1e-10, 1e-6])
def test_a_mask_with_a_tolerance_counts_a_tie_twice(width):
    result = gradcheck.check(lambda x: x.max(), TIED, gradient=lambda x: (x.max() - x < width).astype(float))
    assert result.verdict is Verdict.FAIL, str(result)


def test_a_gradient_that_is_wrong_in_a_small_ball_around_a_kink():
    def gradient(x):
        size = np.linalg.norm(x)
        return x / size if size > 1e-6 else np.ones(3)

    assert gradcheck.check(np.linalg.norm, np.zeros(3), gradient=gradient).verdict is Verdict.FAIL


@pytest.mark.parametrize("factors", [[1, 1.0012, 1, 1], [1, 1, 1, -4.0]])
def test_a_kink_excuses_no_other_entry_in_float32(factors):
    weights = torch.tensor([1.0, -2.0, 0.5, 3e-4])

    def backward(g, x):
        right = g * (x > 0) * weights.to(x.dtype)
        return right * torch.tensor(factors) if x.dtype is torch.float32 else right

    weighted = with_backward(lambda x: (torch.relu(x) * weights.to(x.dtype)).sum(), backward)
    assert gradcheck.check(weighted, torch.tensor([0.0, 1.0, 2.0, 0.5])).verdict is Verdict.FAIL


@pytest.mark.parametrize("factor", [0.0, -5.0])
def test_small_values_do_not_excuse_a_backward_that_is_wrong_in_float32(factor):
    def backward(g, x):
        right = g * 1e-6 * torch.cos(x) / x.numel()
        return factor * right if x.dtype is torch.float32 else right

    small_mean = with_backward(lambda x: (1e-6 * torch.sin(x)).mean(), backward)
    result = gradcheck.check(small_mean, torch.linspace(-1, 1, 12), contracts=False)
    assert result.verdict is Verdict.FAIL, str(result)


def test_a_badly_conditioned_gradient_of_a_well_conditioned_function_does_not_pass():
    def deviation(x):
        return np.sqrt(np.mean((x - np.mean(x)) ** 2))

    def gradient(x):
        mean = np.mean(x)
        return (x - mean) / (x.size * np.sqrt(np.mean(x * x) - mean * mean))

    x = (1000 + np.random.default_rng(0).standard_normal(8)).astype(np.float32)
    assert gradcheck.check(deviation, x, gradient=gradient).verdict is not Verdict.PASS


@pytest.mark.parametrize(("factor", "verdict"), [(1.0, Verdict.PASS), (1 + 1e-6, Verdict.FAIL)])
def test_one_wrong_derivative_of_many_outputs_is_no_small_difference(factor, verdict):
    weights = np.random.default_rng(1).standard_normal((40, 5))

    def jacobian(x):
        jacobian = weights * np.cos(x)
        jacobian[7, 2] *= factor
        return jacobian

    result = gradcheck.check(lambda x: weights @ np.sin(x), np.linspace(0.2, 1, 5), jacobian=jacobian)
    assert result.verdict is verdict, str(result)


@pytest.mark.parametrize(("size", "verdict"), [(1e-6, Verdict.PASS), (3e-6, Verdict.FAIL)])
def test_a_float64_twin_of_another_size_is_no_twin(size, verdict):
    x = np.linspace(0.2, 1, 5).astype(np.float32)
    result = gradcheck.check(
        lambda x: (1e-6 if x.dtype == np.float32 else 3e-6) * np.sin(x), x, vjp=lambda v, x: v * np.float32(size) * np.cos(x)
    )
    assert result.verdict is verdict, str(result)


@pytest.mark.parametrize("factor", [1 / 7, 1.0, 1e3])
def test_scaled_sums_that_are_only_rounding_have_the_gradient_zero(factor):
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert gradcheck.check(lambda x: (x - x.mean(0)).sum() * factor, x).verdict is Verdict.PASS
    assert gradcheck.check(lambda x: (x - x.mean()).sum() * factor, x).verdict is Verdict.PASS


@pytest.mark.parametrize("claim", [1.0, 7.0])
def test_a_jump_at_the_border_of_a_domain_lets_no_claim_pass(claim):
    def jump(x):
        return np.where(x > 0, 1 + x, np.where(x < 0, np.nan, 0)).sum()

    result = gradcheck.check(jump, np.zeros(1), gradient=lambda x: claim + 0 * x, methods=("analytic", "numeric"))
    assert result.verdict is Verdict.INCONCLUSIVE, str(result)

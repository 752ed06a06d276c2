"""Functions whose value is nothing but rounding: a zero gradient is right there, and rounding hides no wrong one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from elementwise import with_backward
from torch.nn import functional

import gradcheck
from gradcheck import Verdict

BOTH = pytest.mark.parametrize("dtype", [torch.float64, torch.float32])


def draw(*shape, dtype=torch.float64, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def layer_norm_sum(x):
    return functional.layer_norm(x, (4,)).sum()


SUMS = {
    "layer norm": layer_norm_sum,
    "batch norm": lambda x: functional.batch_norm(x, None, None, training=True).sum(),
    "softmax": lambda x: x.softmax(-1).sum(),
    "centred": lambda x: (x - x.mean()).sum(),
}


@BOTH
@pytest.mark.parametrize("name", SUMS)
def test_the_gradient_of_a_sum_that_is_only_rounding_is_zero(name, dtype):
    result = gradcheck.check(SUMS[name], draw(3, 4, dtype=dtype))
    assert result.verdict is Verdict.PASS, str(result)


@BOTH
@pytest.mark.parametrize("name", SUMS)
def test_a_claim_of_ones_is_wrong_there(name, dtype):
    ones = with_backward(SUMS[name], lambda g, x: g * torch.ones_like(x))
    assert gradcheck.check(ones, draw(3, 4, dtype=dtype)).verdict is Verdict.FAIL


@BOTH
def test_a_layer_norm_that_forgets_mean_and_variance_is_caught_by_its_sum(dtype):
    layer = with_backward(
        lambda x: functional.layer_norm(x, (4,)), lambda g, x: g / (x.var(-1, keepdim=True, unbiased=False) + 1e-5).sqrt()
    )
    assert gradcheck.check(lambda x: layer(x).sum(), draw(3, 4, dtype=dtype)).verdict is Verdict.FAIL


def test_the_same_in_numpy_and_jax():
    x = draw(3, 4).numpy()

    def centred(x):
        return (x - x.mean()).sum()

    assert gradcheck.check(centred, x, gradient=np.zeros_like).verdict is Verdict.PASS
    assert gradcheck.check(centred, x, gradient=np.ones_like).verdict is Verdict.FAIL
    assert gradcheck.check(lambda x: jax.nn.softmax(x).sum(), jnp.asarray(x, jnp.float32)).verdict is Verdict.PASS
    assert gradcheck.check(centred, jnp.asarray(x, jnp.float32)).verdict is Verdict.PASS


def confident_logits():
    logits = 2 * draw(8, 10, dtype=torch.float32)
    logits[torch.arange(8), torch.arange(8)] += 12
    return logits


TRAINED = {
    "cross entropy, confident": (lambda x: functional.cross_entropy(x, torch.arange(8)), confident_logits()),
    "cross entropy, float32": (lambda x: functional.cross_entropy(x, torch.arange(4)), 20 * torch.eye(4)),
    "cross entropy, float64": (lambda x: functional.cross_entropy(x, torch.arange(4)), 40 * torch.eye(4, dtype=torch.float64)),
    "sigmoid and log": (lambda x: -torch.log(1 / (1 + torch.exp(-x))).sum(), torch.tensor([40.0, 45, 50], dtype=torch.float64)),
    "binary cross entropy": (lambda x: functional.binary_cross_entropy_with_logits(x, torch.ones(1)), torch.tensor([17.0])),
    "divergence of equals": (
        lambda p: functional.kl_div(p.log_softmax(-1), draw(3, 4, dtype=p.dtype).softmax(-1), reduction="batchmean"),
        draw(3, 4, dtype=torch.float32),
    ),
    "divergence from a normal": (lambda v: -0.5 * (1 + v - v.exp()).sum(), 1e-4 * draw(3, 4, dtype=torch.float32)),
}


@pytest.mark.parametrize("name", TRAINED)
def test_losses_of_trained_models_pass(name):
    function, x = TRAINED[name]
    result = gradcheck.check(function, x)
    assert result.verdict is Verdict.PASS, str(result)


@pytest.mark.parametrize("factor", [1.001, 8.0])
def test_a_wrong_gradient_of_a_confident_loss_is_caught(factor):
    target, x = torch.arange(8), confident_logits()
    loss = with_backward(
        lambda x: functional.cross_entropy(x, target),
        lambda g, x: g * factor / 8 * (torch.softmax(x, -1) - functional.one_hot(target, 10)),
    )
    assert gradcheck.check(loss, x).verdict is Verdict.FAIL


@pytest.mark.parametrize("seed", range(8))
def test_float32_inside_never_hides_a_missing_gradient(seed):
    factors = torch.tensor([1, 3e-3], dtype=torch.float64)
    layer = with_backward(
        lambda x: (factors * x.sin()).float().sum().double(),
        lambda g, x: g * factors * x.cos() * torch.tensor([1.0, 0.0]),
    )
    assert gradcheck.check(layer, draw(2, seed=seed)).verdict is not Verdict.PASS


@pytest.mark.parametrize(("second", "verdict"), [(1.0, Verdict.PASS), (0.0, Verdict.FAIL)])
def test_values_rounded_to_nine_digits_show_a_small_slope(second, verdict):
    result = gradcheck.check(
        lambda p: np.round(np.sin(p[0]) + 1e-6 * np.sin(p[1]), 9),
        np.array([0.4, 0.9]),
        gradient=lambda p: np.array([np.cos(p[0]), second * 1e-6 * np.cos(p[1])]),
    )
    assert result.verdict is verdict, str(result)


@pytest.mark.parametrize("factor", [0.0, 1.01, 2.0])
def test_sharper_evidence_decides_about_an_entry_that_differences_hardly_see(factor):
    sizes, x = 10.0 ** -np.arange(26), np.linspace(0.3, 1, 26)

    def gradient(x):
        right = sizes * np.cos(x)
        right[11] *= factor
        return right

    result = gradcheck.check(lambda x: np.sum(sizes * np.sin(x)), x, gradient=gradient)
    assert result.verdict is Verdict.FAIL, str(result)


def test_an_ill_conditioned_function_in_float32_is_not_called_wrong():
    x = torch.linspace(0, 1, 6)[:, None]
    y = torch.sin(4 * x)

    def likelihood(scale, x, y):
        kernel = torch.exp(-0.5 * ((x - x.T) / scale) ** 2) + 1e-4 * torch.eye(6, dtype=x.dtype)
        factor = torch.linalg.cholesky(kernel)
        return 0.5 * (y * torch.cholesky_solve(y, factor)).sum() + factor.diagonal().log().sum()

    result = gradcheck.check(likelihood, torch.tensor([0.5]), x, y)
    assert result.verdict is not Verdict.FAIL, str(result)
    assert {c.wrt for c in result.comparisons if c.against == "numeric" and c.verdict is Verdict.PASS} == {"x", "y"}


SCALES = pytest.mark.parametrize("scale", [1e6, 1e9, 123456.789])


@SCALES
@pytest.mark.parametrize("seed", range(3))
def test_a_sum_that_is_only_rounding_may_be_scaled(scale, seed):
    result = gradcheck.check(lambda x: (x - x.mean()).sum() * scale, draw(4, 6, seed=seed))
    assert result.verdict is Verdict.PASS, str(result)


@SCALES
def test_a_claim_of_ones_is_wrong_for_a_scaled_sum_that_is_only_rounding(scale):
    ones = with_backward(lambda x: (x - x.mean()).sum() * scale, lambda g, x: g * torch.ones_like(x))
    assert gradcheck.check(ones, draw(4, 6)).verdict is Verdict.FAIL


def test_a_small_slope_below_an_oscillation_is_not_called_rounding():
    wiggle = with_backward(lambda x: 1e-6 * x.sum() + 1e-6 * torch.sin(1e9 * x).sum(), lambda g, x: g * torch.zeros_like(x))
    assert gradcheck.check(wiggle, draw(4)).verdict is not Verdict.PASS

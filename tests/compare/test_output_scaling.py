import numpy as np
import pytest
import torch

import gradcheck
from gradcheck import Verdict
from gradcheck.compare.output_scaling import OutputScales


def test_a_cotangent_weighs_a_small_output_like_a_large_one():
    scales = np.concatenate([np.full(500, 1e6), np.full(500, 1e-6)])
    v = OutputScales(scales, np.zeros(1000, dtype=bool)).draw_cotangent(np.random.default_rng(0))
    large, small = np.linalg.norm(v[:500] * 1e6), np.linalg.norm(v[500:] * 1e-6)
    assert 0.8 < large / small < 1.25


SCALES = torch.ones(20, dtype=torch.float64)
SCALES[1::2] = 1e-30


class SmallOnesWrong(torch.autograd.Function):
    """Outputs that differ by 1e30 in scale; the gradient of the small ones is twice what it should be."""

    factor = 2.0

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.sin(x) * SCALES

    @classmethod
    def scaled(cls, ctx, g):
        (x,) = ctx.saved_tensors
        return g * torch.cos(x) * torch.where(SCALES < 1, cls.factor * SCALES, SCALES)

    @staticmethod
    def backward(ctx, g):
        return SmallOnesWrong.scaled(ctx, g)


class Right(SmallOnesWrong):
    factor = 1.0

    @staticmethod
    def backward(ctx, g):
        return Right.scaled(ctx, g)


@pytest.mark.parametrize("mode", ["full", "probe"])
def test_a_large_output_does_not_hide_a_small_one(mode):
    x = torch.linspace(0.1, 1, 20, dtype=torch.float64)
    assert gradcheck.check(SmallOnesWrong, x, mode=mode).verdict is Verdict.FAIL
    assert gradcheck.check(Right, x, mode=mode).verdict is Verdict.PASS


@pytest.mark.parametrize("mode", ["full", "probe"])
def test_one_output_at_the_border_of_its_domain_leaves_the_others_checked(mode):
    x = torch.linspace(0, 1, 20, dtype=torch.float64)
    result = gradcheck.check(lambda x: x**1.5, x, mode=mode)
    assert result.verdict is Verdict.PASS
    assert mode == "full" or "output[0]" in result.notes[0]


class WrongNearCertainty(torch.autograd.Function):
    """log_softmax whose gradient is off by 1 % for outputs next to 0, where a probability is next to 1."""

    @staticmethod
    def forward(ctx, x):
        y = torch.log_softmax(x, 1)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        g = g * torch.where(y > -1e-3, 1.01, 1.0)
        return g - y.exp() * g.sum(1, keepdim=True)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("mode", ["full", "probe"])
def test_outputs_that_are_small_because_large_terms_cancel_do_not_hide_the_others(mode, dtype):
    for seed in (3, 9):
        x = torch.rand(60, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).to(dtype) * 18 - 9
        assert gradcheck.check(torch.nn.LogSoftmax(1), x, mode=mode).verdict is Verdict.PASS
        assert gradcheck.check(WrongNearCertainty, x, mode=mode, contracts=False).verdict is Verdict.FAIL

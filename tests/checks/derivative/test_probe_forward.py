"""Forward mode along probes in float32: its own rounding is no error, a wrong factor is."""

import pytest
import torch

import gradcheck
from gradcheck import Verdict


class OnePlusTanh(torch.autograd.Function):
    """1 + tanh(x), whose forward mode is wrong by a factor."""

    factor = 1.0

    @staticmethod
    def forward(x):
        return 1 + torch.tanh(x)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return gradient * (1 - torch.tanh(x) ** 2)

    @staticmethod
    def jvp(ctx, tangent):
        (x,) = ctx.saved_tensors
        return OnePlusTanh.factor * tangent * (1 - torch.tanh(x) ** 2)


@pytest.mark.parametrize(("factor", "verdict"), [(1.0, Verdict.PASS), (1.01, Verdict.FAIL)])
@pytest.mark.parametrize("low", [-11.0, -2.0])
def test_what_cancels_in_the_outputs_cancels_in_forward_mode_too(factor, verdict, low, monkeypatch):
    monkeypatch.setattr(OnePlusTanh, "factor", factor)
    x = torch.linspace(low, low + 4, 3000)
    result = gradcheck.check(OnePlusTanh.apply, x, mode="probe", contracts=False)
    assert result.verdict is verdict, str(result)

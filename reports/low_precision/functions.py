"""Functions of bfloat16 and float16, right and wrong: normalisation, softmax, attention, cross-entropy.

Each function is written in PyTorch's plain operations, and as an autograd.Function with a hand-written backward that computes
in float32 inside. The wrong ones sum in the low dtype, in blocks as a kernel would, or forget a cast.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - as everybody calls it
from torch import Tensor, nn

EXACT_BLOCK = 1  # numbers that are summed exactly before a partial sum is rounded to the low dtype
EPS = 1e-6  # added to the mean square in RMSNorm
Sum = Callable[[Tensor], Tensor]  # sums over the last axis, which stays with length 1
Cast = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class FunctionPair:
    """One function, written in plain operations and as a Function with a hand-written backward.

    Attributes:
        plain: the function in plain operations.
        make_by_hand: makes the Function from the sum of the forward, the sum of the backward, and the cast.
        shapes: the shapes of the inputs; the targets of a cross-entropy are made from its logits.
    """

    name: str
    plain: Callable[..., Tensor]
    make_by_hand: Callable[..., type[torch.autograd.Function]]
    shapes: tuple[tuple[int, ...], ...]


def sum_exactly(x: Tensor) -> Tensor:
    """Sum over the last axis in float32."""
    return x.float().sum(-1, keepdim=True)


def make_low_precision_sum(low: torch.dtype) -> Sum:
    """Make a sum over the last axis whose partial sums are rounded to a low dtype."""

    def total(x: Tensor) -> Tensor:
        blocks = x.unflatten(-1, (-1, EXACT_BLOCK)).sum(-1).to(low)
        partial_sum = torch.zeros_like(blocks[..., :1])
        for k in range(blocks.shape[-1]):
            partial_sum = partial_sum + blocks[..., k : k + 1]
        return partial_sum.to(x.dtype)

    return total


def cast_to_float32(x: Tensor) -> Tensor:
    """Cast to float32."""
    return x.float()


def skip_cast(x: Tensor) -> Tensor:
    """Return the tensor as it is, without a cast."""
    return x


# The names of the makers below are part of the names of their Functions, which seed the random numbers of a check.


# --- softmax


def plain_softmax(x: Tensor) -> Tensor:
    """Compute the softmax over the last axis by PyTorch."""
    return torch.softmax(x, -1)


def softmax(
    forward_sum: Sum = sum_exactly, backward_sum: Sum = sum_exactly, cast: Cast = cast_to_float32
) -> type[torch.autograd.Function]:
    """Make a softmax with a hand-written backward."""

    class Softmax(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            e = torch.exp(cast(x) - cast(x).amax(-1, keepdim=True))
            p = e / forward_sum(e)
            ctx.save_for_backward(p)
            return p.to(x.dtype)

        @staticmethod
        def backward(ctx: Any, g: Tensor) -> Tensor:
            (p,) = ctx.saved_tensors
            g_ = cast(g)
            return (p * (g_ - backward_sum(p * g_))).to(g.dtype)

    return Softmax


# --- RMSNorm


def plain_rms_norm(x: Tensor, w: Tensor) -> Tensor:
    """Compute RMSNorm over the last axis in PyTorch's operations."""
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + EPS) * w


def rms_norm(
    forward_sum: Sum = sum_exactly, backward_sum: Sum = sum_exactly, cast: Cast = cast_to_float32
) -> type[torch.autograd.Function]:
    """Make an RMSNorm with a hand-written backward."""

    class RMSNorm(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor, w: Tensor) -> Tensor:
            x_ = cast(x)
            r = torch.rsqrt(forward_sum(x_ * x_) / x.shape[-1] + EPS)
            ctx.save_for_backward(x, w, r)
            return (x_ * r * cast(w)).to(x.dtype)

        @staticmethod
        def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor]:
            x, w, r = ctx.saved_tensors
            x_, gw = cast(x), cast(g) * cast(w)
            back = r * gw - x_ * r**3 * backward_sum(gw * x_) / x.shape[-1]
            rows = (cast(g) * x_ * r).transpose(0, -1)
            return back.to(x.dtype), sum_exactly(rows).flatten().to(w.dtype)

    return RMSNorm


# --- attention


def plain_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Compute scaled dot-product attention in PyTorch's operations."""
    return torch.softmax(q @ k.mT / q.shape[-1] ** 0.5, -1) @ v


def attention(
    forward_sum: Sum = sum_exactly, backward_sum: Sum = sum_exactly, cast: Cast = cast_to_float32
) -> type[torch.autograd.Function]:
    """Make an attention with a hand-written backward."""

    class Attention(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            q_, k_, v_ = cast(q), cast(k), cast(v)
            s = q_ @ k_.mT / q.shape[-1] ** 0.5
            e = torch.exp(s - s.amax(-1, keepdim=True))
            p = e / forward_sum(e)
            ctx.save_for_backward(q, k, v, p)
            return (p.to(v_.dtype) @ v_).to(q.dtype)

        @staticmethod
        def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            q, k, v, p = ctx.saved_tensors
            q_, k_, v_, g_ = cast(q), cast(k), cast(v), cast(g)
            dp = g_ @ v_.mT
            ds = (p * (dp - backward_sum(p * dp)) / q.shape[-1] ** 0.5).to(q_.dtype)
            dv = p.to(g_.dtype).mT @ g_
            return (ds @ k_).to(q.dtype), (ds.mT @ q_).to(k.dtype), dv.to(v.dtype)

    return Attention


# --- cross-entropy: the mean over rows, with targets 0, 1, 2, ...


def make_targets(x: Tensor) -> Tensor:
    """Make the class of each row."""
    return torch.arange(x.shape[0]) * 7 % x.shape[-1]


def plain_cross_entropy(x: Tensor) -> Tensor:
    """Compute the cross-entropy of logits by PyTorch."""
    return F.cross_entropy(x, make_targets(x))


def cross_entropy(
    forward_sum: Sum = sum_exactly, backward_sum: Sum = sum_exactly, cast: Cast = cast_to_float32
) -> type[torch.autograd.Function]:
    """Make a cross-entropy of logits with a hand-written backward."""

    class CrossEntropy(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            x_ = cast(x)
            m = x_.amax(-1, keepdim=True)
            lse = m + torch.log(forward_sum(torch.exp(x_ - m)))
            ctx.save_for_backward(x)
            return (lse - x_.gather(-1, make_targets(x)[:, None])).mean().to(x.dtype)

        @staticmethod
        def backward(ctx: Any, g: Tensor) -> Tensor:
            (x,) = ctx.saved_tensors
            x_ = cast(x)
            e = torch.exp(x_ - x_.amax(-1, keepdim=True))
            p = e / backward_sum(e)
            p = p - F.one_hot(make_targets(x), x.shape[-1])
            return (cast(g) * p / x.shape[0]).to(x.dtype)

    return CrossEntropy


def make_pairs(rows: int, columns: int) -> tuple[FunctionPair, ...]:
    """Make the functions for a number of rows and columns."""
    heads = (1, columns, 32)
    return (
        FunctionPair("softmax", plain_softmax, softmax, ((rows, columns),)),
        FunctionPair("RMSNorm", plain_rms_norm, rms_norm, ((rows, columns), (columns,))),
        FunctionPair("attention", plain_attention, attention, ((1, rows, 32), heads, heads)),
        FunctionPair("cross-entropy", plain_cross_entropy, cross_entropy, ((rows, columns),)),
    )


def draw_inputs(pair: FunctionPair, dtype: torch.dtype, seed: int) -> list[Tensor]:
    """Draw standard normal inputs in a dtype."""
    rng = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=rng).to(dtype) for shape in pair.shapes]


class Residual(nn.Module):
    """Residual blocks, each of which adds its output to its input."""

    def __init__(self, blocks: int, width: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, width))
            for _ in range(blocks)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Add the output of each block to its input, one block after the other."""
        for block in self.blocks:
            x = x + block(x)
        return x


def make_stack(blocks: int, width: int) -> nn.Module:
    """Make blocks one after the other."""
    parts = ((nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width)) for _ in range(blocks))
    return nn.Sequential(*(part for block in parts for part in block))


def make_convolutional() -> nn.Module:
    """Make a convolution, batch norm in training mode, max pooling, and a linear layer."""
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8 * 9, 5))


MODULES: tuple[tuple[str, Callable[[], nn.Module], tuple[int, ...]], ...] = (
    ("TransformerEncoderLayer", lambda: nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True), (2, 10, 32)),
    ("LSTM", lambda: nn.LSTM(8, 16, batch_first=True), (2, 12, 8)),
    ("GRU", lambda: nn.GRU(8, 16, batch_first=True), (2, 12, 8)),
    ("convolution, batch norm, pooling", make_convolutional, (4, 3, 8, 8)),
    ("10 × linear, GELU, layer norm", lambda: make_stack(10, 32), (4, 32)),
    ("12 residual blocks", lambda: Residual(12, 32), (4, 32)),
    ("24 residual blocks", lambda: Residual(24, 32), (4, 32)),
)

"""What is written in bfloat16 and float16, right and wrong: normalisation, softmax, attention, cross-entropy.

Each is there in PyTorch's plain operations, and as an autograd.Function with a backward by hand that computes in float32
inside. The wrong ones add up in the low dtype, in blocks as a kernel would, or forget a cast.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - as everybody calls it
from torch import Tensor, nn

BLOCK = 1  # numbers that are added up exactly before a partial sum is kept
EPS = 1e-6
Sum = Callable[[Tensor], Tensor]  # over the last axis, which stays
Cast = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Pair:
    """One function: plain operations, and the makers of its Function with a backward by hand.

    Attributes:
        by_hand: from how it adds up and how it casts, in the forward and in the backward, to the Function.
        shapes: of its inputs; the targets of a cross-entropy are made from its logits.
    """

    name: str
    plain: Callable[..., Tensor]
    by_hand: Callable[..., type[torch.autograd.Function]]
    shapes: tuple[tuple[int, ...], ...]


def exact(x: Tensor) -> Tensor:
    """The sum over the last axis, in float32."""
    return x.float().sum(-1, keepdim=True)


def in_low(low: torch.dtype) -> Sum:
    """The sum over the last axis whose partial sums are kept in a low dtype."""

    def total(x: Tensor) -> Tensor:
        blocks = x.unflatten(-1, (-1, BLOCK)).sum(-1).to(low)
        found = torch.zeros_like(blocks[..., :1])
        for k in range(blocks.shape[-1]):
            found = found + blocks[..., k : k + 1]
        return found.to(x.dtype)

    return total


def wide(x: Tensor) -> Tensor:
    """The cast to float32."""
    return x.float()


def forgotten(x: Tensor) -> Tensor:
    """No cast."""
    return x


# --- softmax


def plain_softmax(x: Tensor) -> Tensor:
    """The softmax over the last axis, PyTorch's own."""
    return torch.softmax(x, -1)


def softmax(forward_sum: Sum = exact, backward_sum: Sum = exact, cast: Cast = wide) -> type[torch.autograd.Function]:
    """The same by hand."""

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
    """RMSNorm over the last axis, in PyTorch's operations."""
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + EPS) * w


def rms_norm(forward_sum: Sum = exact, backward_sum: Sum = exact, cast: Cast = wide) -> type[torch.autograd.Function]:
    """The same by hand."""

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
            return back.to(x.dtype), exact(rows).flatten().to(w.dtype)

    return RMSNorm


# --- attention


def plain_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Scaled dot-product attention, in PyTorch's operations."""
    return torch.softmax(q @ k.mT / q.shape[-1] ** 0.5, -1) @ v


def attention(forward_sum: Sum = exact, backward_sum: Sum = exact, cast: Cast = wide) -> type[torch.autograd.Function]:
    """The same by hand."""

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


def targets(x: Tensor) -> Tensor:
    """The class of each row."""
    return torch.arange(x.shape[0]) * 7 % x.shape[-1]


def plain_cross_entropy(x: Tensor) -> Tensor:
    """PyTorch's own."""
    return F.cross_entropy(x, targets(x))


def cross_entropy(forward_sum: Sum = exact, backward_sum: Sum = exact, cast: Cast = wide) -> type[torch.autograd.Function]:
    """The same by hand, from logits."""

    class CrossEntropy(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            x_ = cast(x)
            m = x_.amax(-1, keepdim=True)
            lse = m + torch.log(forward_sum(torch.exp(x_ - m)))
            ctx.save_for_backward(x)
            return (lse - x_.gather(-1, targets(x)[:, None])).mean().to(x.dtype)

        @staticmethod
        def backward(ctx: Any, g: Tensor) -> Tensor:
            (x,) = ctx.saved_tensors
            x_ = cast(x)
            e = torch.exp(x_ - x_.amax(-1, keepdim=True))
            p = e / backward_sum(e)
            p = p - F.one_hot(targets(x), x.shape[-1])
            return (cast(g) * p / x.shape[0]).to(x.dtype)

    return CrossEntropy


def pairs(rows: int, columns: int) -> tuple[Pair, ...]:
    """The functions, at rows of so many numbers."""
    heads = (1, columns, 32)
    return (
        Pair("softmax", plain_softmax, softmax, ((rows, columns),)),
        Pair("RMSNorm", plain_rms_norm, rms_norm, ((rows, columns), (columns,))),
        Pair("attention", plain_attention, attention, ((1, rows, 32), heads, heads)),
        Pair("cross-entropy", plain_cross_entropy, cross_entropy, ((rows, columns),)),
    )


def inputs(pair: Pair, dtype: torch.dtype, seed: int) -> list[Tensor]:
    """Standard normal inputs in a dtype."""
    rng = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=rng).to(dtype) for shape in pair.shapes]


class Residual(nn.Module):
    """Blocks whose outputs are added to what they are given."""

    def __init__(self, blocks: int, width: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, width))
            for _ in range(blocks)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the last sum."""
        for block in self.blocks:
            x = x + block(x)
        return x


def stacked(blocks: int, width: int) -> nn.Module:
    """Blocks one after the other."""
    parts = ((nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width)) for _ in range(blocks))
    return nn.Sequential(*(part for block in parts for part in block))


def convolutional() -> nn.Module:
    """A convolution, batch norm in training mode, max pooling, and a linear layer."""
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8 * 9, 5))


MODULES: tuple[tuple[str, Callable[[], nn.Module], tuple[int, ...]], ...] = (
    ("TransformerEncoderLayer", lambda: nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True), (2, 10, 32)),
    ("LSTM", lambda: nn.LSTM(8, 16, batch_first=True), (2, 12, 8)),
    ("GRU", lambda: nn.GRU(8, 16, batch_first=True), (2, 12, 8)),
    ("convolution, batch norm, pooling", convolutional, (4, 3, 8, 8)),
    ("10 × linear, GELU, layer norm", lambda: stacked(10, 32), (4, 32)),
    ("12 residual blocks", lambda: Residual(12, 32), (4, 32)),
    ("24 residual blocks", lambda: Residual(24, 32), (4, 32)),
)

"""Layers whose backward is wrong for rare inputs only, each with a right version."""

import torch
from torch.autograd import Function

from gradcheck import normal


class Scaled(Function):
    """Rows times weights."""

    @staticmethod
    def forward(ctx, x, w):
        ctx.save_for_backward(x, w)
        return x * w

    @staticmethod
    def backward(ctx, g):
        x, w = ctx.saved_tensors
        return g * w, (g * x).sum(0)


class NoRows(Scaled):
    """The mean of no rows is NaN, and stays NaN."""

    @staticmethod
    def backward(ctx, g):
        x, w = ctx.saved_tensors
        return g * w, (g * x).mean(0) * len(x)


class OneRow(Scaled):
    """The degrees of freedom of a single row are corrected to 1, but their numerator is not."""

    @staticmethod
    def backward(ctx, g):
        x, w = ctx.saved_tensors
        return g * w, (g * x).sum(0) * (len(x) - 1) / max(len(x) - 1, 1)


class Largest(Function):
    """The largest of each row."""

    @staticmethod
    def forward(ctx, x):
        values, where = x.max(-1)
        ctx.save_for_backward(x, values, where)
        return values

    @staticmethod
    def backward(ctx, g):
        x, _, where = ctx.saved_tensors
        return torch.zeros_like(x).scatter_(-1, where[..., None], g[..., None])


class TiesTwice(Largest):
    """Every entry at a tie gets the whole gradient."""

    @staticmethod
    def backward(ctx, g):
        x, values, _ = ctx.saved_tensors
        return g[..., None] * (x == values[..., None])


class NegativeZero(Scaled):
    """The sign is read from a bit that negative zero has, too."""

    @staticmethod
    def backward(ctx, g):
        x, w = ctx.saved_tensors
        signs = torch.where(torch.signbit(x), -torch.sign(x), torch.ones_like(x))
        return g * w * signs, (g * x).sum(0)


class ByBuffer(Scaled):
    """The cotangent is read as if it were contiguous."""

    @staticmethod
    def backward(ctx, g):
        x, w = ctx.saved_tensors
        g = torch.as_strided(g, g.shape, torch.empty(g.shape).stride())
        return g * w, (g * x).sum(0)


class OneWanted(Scaled):
    """The weights get no gradient if they alone require one."""

    @staticmethod
    def backward(ctx, g):
        x, w = ctx.saved_tensors
        both = ctx.needs_input_grad[0]
        return g * w if both else None, (g * x).sum(0) if both else torch.zeros_like(w)


class Squared(Function):
    """Squares."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 2 * g * x


class Clamped(Squared):
    """Large gradients are clipped on the way."""

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 2 * g * x.clamp(-1e4, 1e4)


SCALED = (normal("batch", 3), normal(3))
RARE = {  # what only they are wrong for: the wrong one, the right one, inputs
    "a batch without a row": (NoRows, Scaled, SCALED),
    "a batch of one row": (OneRow, Scaled, SCALED),
    "ties": (TiesTwice, Largest, (normal("batch", 3),)),
    "negative zero": (NegativeZero, Scaled, SCALED),
    "cotangents that are not contiguous": (ByBuffer, Scaled, SCALED),
    "one subset of requires_grad": (OneWanted, Scaled, SCALED),
    "above 1e4": (Clamped, Squared, (normal("n"),)),
}

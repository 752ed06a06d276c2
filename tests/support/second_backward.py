"""x² sin(w) whose first derivatives are right, and whose second ones can be corrupted."""

import numpy as np
import torch
from lawful import Function
from unruly import other


def nested(corrupt=lambda gx, gw, gg: (gx, gw, gg)):
    """Make a Function whose backward is a Function too; that one's backward returns `corrupt` of its right gradients."""

    class Backward(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, w, g):
            ctx.save_for_backward(x, w, g)
            return g * 2 * x * torch.sin(w), g * x**2 * torch.cos(w)

        @staticmethod
        def backward(ctx, a, b):
            x, w, g = ctx.saved_tensors
            sin, cos = torch.sin(w), torch.cos(w)
            gx = 2 * g * (a * sin + b * x * cos)
            gw = g * x * (2 * a * cos - b * x * sin)
            return corrupt(gx, gw, x * (2 * a * sin + b * x * cos))

    def backward(ctx, g):
        return Backward.apply(*ctx.saved_tensors, g)

    return other(backward=backward)


def detached(ctx, g):
    x, w = ctx.saved_tensors
    return g * 2 * x.detach() * torch.sin(w), g * x**2 * torch.cos(w)


def in_numpy(ctx, g):
    x, w = (t.detach().numpy() for t in ctx.saved_tensors)
    v = g.detach().numpy()
    return torch.from_numpy(v * 2 * x * np.sin(w)), torch.from_numpy(v * x**2 * np.cos(w))


def keeps_an_intermediate(ctx, x, w):
    ctx.cos = torch.cos(w)
    return Function.forward(ctx, x, w)


def reads_the_intermediate(ctx, g):
    x, w = ctx.saved_tensors
    return g * 2 * x * torch.sin(w), g * x**2 * ctx.cos


def saves_an_intermediate(ctx, x, w):
    ctx.save_for_backward(x, w, torch.sin(w))
    return x**2 * torch.sin(w)


def reads_what_was_saved(ctx, g):
    x, w, sin = ctx.saved_tensors
    return g * 2 * x * sin, g * x**2 * torch.cos(w)


WRONG = {
    "detached": lambda: other(backward=detached),
    "in NumPy": lambda: other(backward=in_numpy),
    "an intermediate in the context": lambda: other(keeps_an_intermediate, reads_the_intermediate),
    "an intermediate that is saved": lambda: other(saves_an_intermediate, reads_what_was_saved),
    "forgets a term": lambda: nested(lambda gx, gw, gg: (gx, 0.5 * gw, gg)),
    "of the other sign": lambda: nested(lambda gx, gw, gg: (-gx, gw, gg)),
    "twice as large": lambda: nested(lambda gx, gw, gg: (2 * gx, 2 * gw, gg)),
    "by a little": lambda: nested(lambda gx, gw, gg: (gx, gw * 1.003, gg)),
    "of one entry": lambda: nested(lambda gx, gw, gg: (gx + torch.eye(1, gx.numel(), dtype=gx.dtype).view_as(gx), gw, gg)),
}

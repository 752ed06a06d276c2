"""Functions, modules and operators as a program has them, right and wrong, for tests of what is collected from it."""

import torch
from torch import nn


class Swish(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        s = torch.sigmoid(x)
        return g * s * (1 + x * (1 - s))


class WrongSwish(Swish):
    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * torch.sigmoid(x)


class Scale(torch.autograd.Function):
    """With setup_context, a plain argument and a default."""

    @staticmethod
    def forward(x, factor, power=1):
        return factor * x**power

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.inputs = inputs

    @staticmethod
    def backward(ctx, g):
        x, factor, power = ctx.inputs
        return g * factor * power * x ** (power - 1), None, None


@torch.library.custom_op("watched::cube", mutates_args=())
def cube(x: torch.Tensor) -> torch.Tensor:
    return x**3


cube.register_fake(torch.empty_like)
cube.register_autograd(
    lambda ctx, g: 3 * ctx.saved_tensors[0] ** 2 * g,
    setup_context=lambda ctx, inputs, output: ctx.save_for_backward(inputs[0]),
)


class Block(nn.Module):
    def __init__(self, dim, wrong=False):
        super().__init__()
        self.dim = dim
        self.wrong = wrong
        self.linear = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(0.25)

    def forward(self, x, *, residual=False):
        y = (WrongSwish if self.wrong else Swish).apply(self.linear(x))
        return self.dropout(y) + x if residual else self.dropout(y)


class Bias(nn.Module):
    """With a parameter of its own, and another module of the user inside."""

    def __init__(self, dim):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(dim))
        self.block = Block(dim)

    def forward(self, x):
        return self.block(x) + self.bias


class Model(nn.Module):
    """Only holds other modules of the user."""

    def __init__(self, dim=4, wrong=False):
        super().__init__()
        self.first = Block(dim)
        self.second = Block(dim, wrong)

    def forward(self, x):
        return self.second(self.first(x))

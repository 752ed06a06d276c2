"""Modules and Functions with a mistake of their authors, which a check must name with the line of code."""

import io
import threading

import torch
from torch import nn


class Base(nn.Module):
    """A right module."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, x):
        return torch.tanh(self.linear(x))


class Prints(Base):
    def forward(self, x):
        print("the shape is", tuple(x.shape))  # noqa: T201 - what it is for
        return super().forward(x)


class NeedsAGpu(Base):
    def forward(self, x):
        return super().forward(x.cuda())


class RaisesInEval(Base):
    def forward(self, x):
        y = super().forward(x)
        return y if self.training else y[:, 7]


class Holds(Base):
    """A module with attributes that cannot be copied or pickled, also inside a list and a dict."""

    def __init__(self):
        super().__init__()
        self.lock, self.log = threading.Lock(), io.StringIO()
        self.both, self.named = [threading.Lock(), self.log], {"lock": self.lock}

    def forward(self, x):
        with self.lock, self.both[0]:
            self.log.write("called ")
            return super().forward(x)

    def __reduce_ex__(self, protocol):
        raise TypeError("must not be copied")

    def __deepcopy__(self, memo):
        raise TypeError("must not be copied")


class ReturnsNone(Base):
    def forward(self, x):
        super().forward(x)


class Detaches(Base):
    def forward(self, x):
        return super().forward(x).detach()


class ReturnsAFloat(Base):
    def forward(self, x):
        return super().forward(x).sum().item()


class WithoutGrad(Base):
    def forward(self, x):
        with torch.no_grad():
            return super().forward(x)


class HalfWithoutGrad(Base):
    def forward(self, x):
        with torch.no_grad():
            h = self.linear(x)
        return torch.tanh(h) + x[:, :3]


class Sine(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.sin(x)

    @staticmethod
    def backward(ctx, g):
        return g * torch.cos(y)  # noqa: F821 - the mishap


class RaisesInBackward(Base):
    def forward(self, x):
        return Sine.apply(super().forward(x))


class OfAnotherShape(Sine):
    @staticmethod
    def backward(ctx, g):
        return g[0]


class TooMany(Sine):
    @staticmethod
    def backward(ctx, g):
        return g, g


class NothingReturned(Sine):
    @staticmethod
    def backward(ctx, g):
        g * torch.cos(ctx.saved_tensors[0])


class NoBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return torch.sin(x)


class RaisesInJvp(Sine):
    @staticmethod
    def backward(ctx, g):
        return g * torch.cos(ctx.saved_tensors[0])

    @staticmethod
    def jvp(ctx, u):
        return u * ctx.never_saved

"""Modules with another behaviour in training than in evaluation: right ones, and some that are wrong in one of the two."""

import time

import torch
from lawful import Block
from torch import nn

from gradcheck import normal


class Mlp(nn.Module):
    """A perceptron that behaves equally in both modes."""

    def __init__(self):
        super().__init__()
        self.inner, self.outer = nn.Linear(4, 5), nn.Linear(5, 3)

    def forward(self, x):
        return self.outer(torch.tanh(self.inner(x)))


class Dropped(Mlp):
    """A perceptron with dropout."""

    def forward(self, x):
        return self.outer(nn.functional.dropout(torch.tanh(self.inner(x)), 0.4, self.training))


class Normed(Mlp):
    """A perceptron with running statistics."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(5)

    def forward(self, x):
        return self.outer(torch.tanh(self.norm(self.inner(x))))


class Noisy(Mlp):
    """A perceptron with noise in training, from its own generator."""

    def __init__(self):
        super().__init__()
        self.generator = torch.Generator()

    def forward(self, x):
        h = self.inner(x)
        noise = torch.randn(h.shape, generator=self.generator.manual_seed(1), dtype=h.dtype) if self.training else 0.0
        return self.outer(torch.tanh(h + noise))


class Random(Mlp):
    """A perceptron with noise that nothing replays."""

    def forward(self, x):
        h = self.inner(x)
        generator = torch.Generator().manual_seed(time.perf_counter_ns())
        noise = torch.randn(h.shape, generator=generator, dtype=h.dtype) if self.training else 0.0
        return self.outer(torch.tanh(h + noise))


class Deep(Mlp):
    """A perceptron with stochastic depth."""

    def forward(self, x):
        keep = (torch.rand(len(x), 1) > 0.5).to(x) if self.training else 0.5
        return self.outer(torch.tanh(self.inner(x)) * keep)


class Auxiliary(Mlp):
    """A perceptron with a second output in training."""

    def forward(self, x):
        h = torch.tanh(self.inner(x))
        return (self.outer(h), h.sum(1)) if self.training else self.outer(h)


class Classes(Mlp):
    """A perceptron that returns classes, which have no gradient, in evaluation."""

    def forward(self, x):
        y = self.outer(torch.tanh(self.inner(x)))
        return y if self.training else y.argmax(1)


class Rounded(Mlp):
    """A perceptron with a straight-through estimator in evaluation."""

    def forward(self, x):
        y = self.outer(torch.tanh(self.inner(x)))
        return y if self.training else y + (y.round() - y).detach()


class Frozen(Normed):
    """A perceptron whose batch norm stays in evaluation mode, by its own `train`."""

    def train(self, mode=True):
        super().train(mode)
        self.norm.eval()
        self.outer.weight.requires_grad_(mode)
        return self


class Refusing(Mlp):
    """A perceptron for evaluation only, which says so."""

    def forward(self, x):
        if self.training:
            raise NotImplementedError("call eval() first")
        return super().forward(x)


class Counted(Mlp):
    """A perceptron that counts its calls in training, in a buffer and in an attribute."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))
        self.seen = []

    def forward(self, x):
        if self.training:
            self.calls += 1
            self.seen.append(len(x))
        return super().forward(x) * (2.0 if self.training else 1.0)


X = normal(6, 4)
RIGHT = {
    "the same": (Mlp, (X,), True),
    "dropout": (Dropped, (X,), True),
    "dropout in evaluation": (Dropped, (X,), False),
    "batch norm": (Normed, (X,), True),
    "batch norm in evaluation": (Normed, (X,), False),
    "noise": (Noisy, (X,), True),
    "noise, in evaluation": (Noisy, (X,), False),
    "stochastic depth": (Deep, (X,), True),
    "stochastic depth, in evaluation": (Deep, (X,), False),
    "a second output": (Auxiliary, (X,), True),
    "a second output, in evaluation": (Auxiliary, (X,), False),
    "frozen": (Frozen, (X,), True),
    "counted": (Counted, (X,), True),
    "Functions inside": (Block, (X,), True),
    "a sequence": (lambda: nn.Sequential(Dropped(), nn.BatchNorm1d(3)), (X,), True),
}
NOT_TRIED = {
    "classes": (Classes, (X,), True, "no output carries a gradient"),
    "random": (Random, (X,), False, "too coarse"),
    "refusing": (Refusing, (X,), False, "call eval() first"),
    "one row": (Normed, (normal(1, 4),), False, "train mode is refused"),
}


class Iterated(Mlp):
    """A layer scaled by a buffer that follows the weights in training, outside of autograd, as in spectral normalisation."""

    def __init__(self):
        super().__init__()
        self.register_buffer("u", torch.linspace(1, 2, 5))

    def forward(self, x):
        if self.training:
            with torch.no_grad():
                self.u.mul_(0.5).add_(self.inner.weight.sum(1))
        return torch.tanh(self.inner(x) * (1 + self.u.clone()))


class Detached(Mlp):
    """A perceptron whose gradient ends half way in one mode."""

    mode = False

    def forward(self, x):
        h = torch.tanh(self.inner(x))
        return self.outer(h if self.training is not self.mode else h.detach() + 0.1 * h) * (1.5 if self.training else 1.0)


class Tripled(torch.autograd.Function):
    """3 x, with the gradient of 2 x."""

    @staticmethod
    def forward(ctx, x):
        return 3 * x

    @staticmethod
    def backward(ctx, g):
        return 2 * g


class Own(Mlp):
    """A perceptron with a wrong Function in one mode."""

    mode = False

    def forward(self, x):
        y = super().forward(x)
        return Tripled.apply(y) if self.training is self.mode else y


class Unbound(Mlp):
    """A perceptron with a name that is bound in training only."""

    def forward(self, x):
        if self.training:
            scale = 2.0
        return scale * super().forward(x)


class Strict(Mlp):
    """A perceptron whose `train` takes no mode."""

    def train(self):
        return super().train()

    def forward(self, x):
        return super().forward(x)


def in_train_mode(kind):
    return type(kind.__name__, (kind,), {"mode": True})


WRONG = {
    "detached": (Detached, True, "in eval mode the derivative along a random direction"),
    "detached in training": (in_train_mode(Detached), False, "in train mode the derivative along a random direction"),
    "a Function": (Own, True, "in eval mode the derivative"),
    "a Function in training": (in_train_mode(Own), False, "in train mode the derivative"),
    "a name": (Unbound, True, "in eval mode the forward raises UnboundLocalError"),
    "train()": (Strict, True, "in eval mode the forward raises TypeError"),
}

"""Custom autograd Functions whose backward can be corrupted."""

import torch

FUNCTIONS = {
    "sin": (torch.sin, torch.cos),
    "cube": (lambda x: x**3, lambda x: 3 * x**2),
    "exp": (torch.exp, torch.exp),
    "identity": (torch.clone, torch.ones_like),
    "tanh": (torch.tanh, lambda x: 1 - torch.tanh(x) ** 2),
}


def layer(corrupt=lambda g: g, name="sin"):
    """Make an elementwise Function; its backward returns `corrupt` of a copy of the right gradient."""
    f, df = FUNCTIONS[name]

    class Layer(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return f(x)

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return corrupt(g * df(x))

    return Layer


def make_function(forward, backward):
    """Make a Function with one input x, whose backward is (g, x) -> gradient."""

    class Layer(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return forward(x)

        @staticmethod
        def backward(ctx, g):
            return backward(g, *ctx.saved_tensors)

    return Layer


def with_backward(forward, backward):
    """Make the function of such a Function."""
    return make_function(forward, backward).apply


def with_forward_mode(corrupt):
    """Make a sine with a right backward; its forward mode returns `corrupt` of a copy of the right tangent."""

    class Layer(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            ctx.save_for_forward(x)
            return torch.sin(x)

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return g * torch.cos(x)

        @staticmethod
        def jvp(ctx, u):
            (x,) = ctx.saved_tensors
            return corrupt(u * torch.cos(x))

    return Layer


def square(corrupt=lambda found: None):
    """Make the square of complex numbers; `corrupt` changes its right gradient in place."""

    class Square(torch.autograd.Function):
        @staticmethod
        def forward(ctx, z):
            ctx.save_for_backward(z)
            return z**2

        @staticmethod
        def backward(ctx, g):
            (z,) = ctx.saved_tensors
            found = g * (2 * z).conj()
            corrupt(found)
            return found

    return Square


def changed(*places, factor=1.0, by=0.0):
    """Make a corruption of the entries at some flat indices."""

    def corrupt(g):
        flat = g.clone().view(-1)
        flat[list(places)] = flat[list(places)] * factor + by
        return flat.view(g.shape)

    return corrupt


def swapped(g):
    """Swap two neighbours, so that their errors are opposite."""
    return torch.cat([g[1:2], g[0:1], g[2:]])


WRONG = {
    "zero": torch.zeros_like,
    "sign": torch.neg,
    "a constant factor": lambda g: 1.001 * g,
    "flipped": lambda g: g.flip(0),
    "rolled": lambda g: g.roll(1, 0),
    "two neighbours swapped": swapped,
    "one entry": changed(7, factor=1.01),
    "one entry gone": changed(3, factor=0.0),
    "NaN at one entry": changed(5, by=float("nan")),
}

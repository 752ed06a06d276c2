"""Functions with a custom forward mode: right ones, and some whose jvp disagrees with their backward."""

import torch
from elementwise import square, with_forward_mode
from lawful import Affine, Function, Gathered, Normalised, Residual, Softmax, TwoOutputs

from gradcheck import array, normal


def kept(of, jvp, forward=None):
    """A right Function with a jvp; what its backward saves is kept for that as well, or what another forward keeps."""

    def keeping(ctx, *inputs):
        output = of.forward(ctx, *inputs)
        ctx.save_for_forward(*(x for x in inputs if isinstance(x, torch.Tensor)))
        return output

    return type(of.__name__, (of,), {"forward": staticmethod(forward or keeping), "jvp": staticmethod(jvp)})


def of_product(ctx, u, v):
    x, w = ctx.saved_tensors
    return u * 2 * x * torch.sin(w) + v * x**2 * torch.cos(w)


def of_affine(ctx, u, v, b):
    x, w, _ = ctx.saved_tensors
    return u @ w.T + x @ v.T + b


def of_softmax(ctx, u):
    y = torch.softmax(ctx.saved_tensors[0], -1)
    return y * (u - (u * y).sum(-1, keepdim=True))


def of_norm(ctx, u, _):
    (x,) = ctx.saved_tensors
    centred = x - x.mean(-1, keepdim=True)
    inverse = torch.rsqrt(centred.square().mean(-1, keepdim=True) + 1e-5)
    y, moved = centred * inverse, u - u.mean(-1, keepdim=True)
    return inverse * (moved - y * (moved * y).mean(-1, keepdim=True))


def of_rows(ctx, u, _):
    return u[ctx.saved_tensors[1]]


def of_residual(ctx, u, v, b):
    a, x, _ = ctx.saved_tensors
    return u @ x + a @ v - b


def of_two(ctx, u, v):
    x, w = ctx.saved_tensors
    u, v = (torch.zeros_like(x) if t is None else t for t in (u, v))
    return 2 * x * w * u + x**2 * v, torch.cos(x) * u


def of_square(ctx, u):
    return 2 * ctx.saved_tensors[0] * u


def with_none(ctx, u, v):
    x, w = ctx.saved_tensors
    return (0 if u is None else u * 2 * x * torch.sin(w)) + (0 if v is None else v * x**2 * torch.cos(w))


def keeping_none(ctx, x, w):
    ctx.set_materialize_grads(False)
    ctx.save_for_forward(x, w)
    return Function.forward(ctx, x, w)


class Turned(torch.autograd.Function):
    """The transpose of a matrix."""

    @staticmethod
    def forward(ctx, x):
        return x.T.clone()

    @staticmethod
    def backward(ctx, g):
        return g.T

    @staticmethod
    def jvp(ctx, u):
        return u.T.clone()


class Summed(Turned):
    """Running sums along the last axis."""

    @staticmethod
    def forward(ctx, x):
        return x.cumsum(-1)

    @staticmethod
    def backward(ctx, g):
        return g.flip(-1).cumsum(-1).flip(-1)

    @staticmethod
    def jvp(ctx, u):
        return u.cumsum(-1)


class Largest(torch.autograd.Function):
    """The largest entry of each row; at a tie the backward shares out, while the jvp takes the first entry's tangent."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        ctx.save_for_forward(x)
        return x.amax(-1)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        hit = (x == x.amax(-1, keepdim=True)).to(x.dtype)
        return g[..., None] * hit / hit.sum(-1, keepdim=True)

    @staticmethod
    def jvp(ctx, u):
        (x,) = ctx.saved_tensors
        return u.gather(-1, x.argmax(-1, keepdim=True))[..., 0]


class Module(torch.nn.Module):
    """A Function with a jvp inside, and a parameter."""

    def __init__(self, function, size):
        super().__init__()
        self.function, self.weight = function, torch.nn.Parameter(torch.linspace(-1, 1, size))

    def forward(self, x):
        return torch.tanh(self.function.apply(x, self.weight.expand_as(x)))


PRODUCT = kept(Function, of_product)
TIES = torch.tensor([[1.0, 2.0, 2.0], [0.5, 0.0, -1.0]], dtype=torch.float64)
RIGHT = {
    "sine": (with_forward_mode(lambda u: u), (normal(3, 4),)),
    "product": (PRODUCT, (normal(3, 4), normal(3, 4))),
    "affine": (kept(Affine, of_affine), (normal(5, 4), normal(3, 4), normal(3))),
    "softmax": (kept(Softmax, of_softmax), (normal(3, 4),)),
    "normalised": (kept(Normalised, of_norm), (normal(3, 8), 1e-5)),
    "gathered": (kept(Gathered, of_rows), (normal(6, 2), array([0, 3, 3, 5], dtype="int64"))),
    "residual": (kept(Residual, of_residual), (normal(4, 4), normal(4, 4), normal(4, 4))),
    "two outputs": (kept(TwoOutputs, of_two), (normal(3, 4), normal(3, 4))),
    "square": (kept(square(), of_square), (normal(3, 4, dtype="complex128"),)),
    "None": (kept(Function, with_none, keeping_none), (normal(3, 4), normal(3, 4))),
    "turned": (Turned, (normal(3, 4),)),
    "summed": (Summed, (normal(3, 40),)),
    "largest": (Largest, (normal(3, 4),)),
    "module": (Module(PRODUCT, 12), (normal(5, 12),)),
    "many": (Summed, (normal(100, 80),)),
}


def one_off(ctx, u, v):
    moved = of_product(ctx, u, v)
    moved.view(-1)[5] *= 1.1
    return moved


WRONG = {
    "a factor": lambda ctx, u, v: 2 * of_product(ctx, u, v),
    "a little": lambda ctx, u, v: 1.01 * of_product(ctx, u, v),
    "one input": lambda ctx, u, v: of_product(ctx, u, -v),
    "a tangent ignored": lambda ctx, u, v: of_product(ctx, u, torch.zeros_like(v)),
    "rows flipped": lambda ctx, u, v: of_product(ctx, u.flip(0), v),
    "zero": lambda ctx, u, v: torch.zeros_like(u),
    "NaN": lambda ctx, u, v: of_product(ctx, u, v) * torch.nan,
    "one entry": one_off,
}

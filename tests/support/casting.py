"""Functions under autocast: right ones, made for it or not, and some that go wrong in bfloat16 alone."""

import torch
from lawful import Affine, Convolved, Function, Normalised, Softmax
from torch.amp import custom_bwd, custom_fwd

from gradcheck import normal


def declared(of, **options):
    """Make a Function for autocast by custom_fwd and custom_bwd."""
    parts = {
        "forward": staticmethod(custom_fwd(of.forward, device_type="cpu", **options)),
        "backward": staticmethod(custom_bwd(of.backward, device_type="cpu")),
    }
    return type(of.__name__, (of,), parts)


class Linear(torch.autograd.Function):
    """x w', as in PyTorch's own tutorial: its backward multiplies a bfloat16 cotangent by float32 weights, and raises."""

    @staticmethod
    def forward(ctx, x, w):
        ctx.save_for_backward(x, w)
        return x @ w.T

    @staticmethod
    def backward(ctx, g):
        x, w = ctx.saved_tensors
        return g @ w, g.T @ x


class Converted(Linear):
    """x w' with a backward that converts its dtypes itself."""

    @staticmethod
    def backward(ctx, g):
        x, w = ctx.saved_tensors
        return g @ w.to(g.dtype), g.T @ x.to(g.dtype)


class Batched(torch.autograd.Function):
    """A product of batches of matrices."""

    @staticmethod
    def forward(ctx, a, b):
        ctx.save_for_backward(a, b)
        return torch.bmm(a, b)

    @staticmethod
    def backward(ctx, g):
        a, b = ctx.saved_tensors
        return torch.bmm(g, b.mT), torch.bmm(a.mT, g)


class Attention(torch.autograd.Function):
    """softmax(q k') v."""

    @staticmethod
    def forward(ctx, q, k, v):
        p = torch.softmax(q @ k.T, -1)
        ctx.save_for_backward(q, k, v, p)
        return p @ v

    @staticmethod
    def backward(ctx, g):
        q, k, v, p = ctx.saved_tensors
        h = g @ v.T
        s = p * (h - (h * p).sum(-1, keepdim=True))
        return s @ k, s.T @ q, p.T @ g


class Scaled(torch.autograd.Function):
    """x / rms(x), in float32 whatever comes in."""

    @staticmethod
    def forward(ctx, x):
        y = x.float()
        inverse = torch.rsqrt(y.square().mean(-1, keepdim=True) + 1e-6)
        ctx.save_for_backward(y, inverse)
        ctx.dtype = x.dtype
        return (y * inverse).to(x.dtype)

    @staticmethod
    def backward(ctx, g):
        y, inverse = ctx.saved_tensors
        h = g.float()
        return (inverse * h - y * inverse**3 * (h * y).mean(-1, keepdim=True)).to(ctx.dtype)


class Gate(torch.autograd.Function):
    """x sigmoid(w), which autocast leaves alone."""

    @staticmethod
    def forward(ctx, x, w):
        s = torch.sigmoid(w)
        ctx.save_for_backward(x, s)
        return x * s

    @staticmethod
    def backward(ctx, g):
        x, s = ctx.saved_tensors
        return g * s, g * x * s * (1 - s)


class Cancelling(torch.autograd.Function):
    """The rows of x w' less their mean: what is left of the gradient of a common shift is rounding."""

    @staticmethod
    def forward(ctx, x, w, b):
        ctx.save_for_backward(x, w)
        z = x @ w.T + b
        return z - z.mean(0)

    @staticmethod
    def backward(ctx, g):
        x, w = ctx.saved_tensors
        h = g - g.mean(0)
        return h @ w.to(h.dtype), h.T @ x.to(h.dtype), h.sum(0)


TWO = (normal(5, 4), normal(3, 4))
THREE = (normal(5, 4), normal(3, 4), normal(3))
RIGHT = {
    "linear for autocast": (declared(Linear), TWO),
    "linear in float32": (declared(Linear, cast_inputs=torch.float32), TWO),
    "converted": (Converted, TWO),
    "affine for autocast": (declared(Affine), THREE),
    "batched for autocast": (declared(Batched), (normal(2, 3, 4), normal(2, 4, 3))),
    "attention for autocast": (declared(Attention), (normal(5, 4), normal(6, 4), normal(6, 3))),
    "attention in bfloat16": (declared(Attention, cast_inputs=torch.bfloat16), (normal(5, 4), normal(6, 4), normal(6, 3))),
    "convolved in float32": (declared(Convolved, cast_inputs=torch.float32), (normal(1, 2, 5, 5), normal(2, 2, 3, 3))),
    "scaled": (Scaled, (normal(3, 8, dtype="float32"),)),
    "gate": (Gate, (normal(3, 4), normal(3, 4))),
    "cancelling": (Cancelling, (normal(20, 4), normal(3, 4), normal(3))),
    "product": (Function, (normal(3, 4), normal(3, 4))),
    "softmax for autocast": (declared(Softmax), (normal(3, 4),)),
    "normalised": (Normalised, (normal(3, 8), 1e-5)),
}
RAISING = {"linear": (Linear, TWO), "affine": (Affine, THREE), "batched": (Batched, (normal(2, 3, 4), normal(2, 4, 3)))}


def corrupt_gradients(corrupt, of=Converted):
    """Corrupt the gradients of a right Function, in bfloat16 alone if `corrupt` looks at the dtype."""
    return type(of.__name__, (of,), {"backward": staticmethod(lambda ctx, g: corrupt(g, *of.backward(ctx, g)))})


def reads_floats(g, gx, gw):
    """Read memory as a kernel does that takes every pointer for one to float32."""
    return (gx.contiguous().view(torch.float32).view(torch.bfloat16).flip(-1) if gx.dtype is torch.bfloat16 else gx), gw


def is_bfloat16(g):
    return g.dtype is torch.bfloat16


WRONG = {
    "scaled": lambda g, gx, gw: (gx * 2 if is_bfloat16(g) else gx, gw),
    "zero": lambda g, gx, gw: (gx, gw * 0 if is_bfloat16(g) else gw),
    "sign": lambda g, gx, gw: (-gx if is_bfloat16(g) else gx, gw),
    "half of it": lambda g, gx, gw: (gx * (torch.arange(4) < 2) if is_bfloat16(g) else gx, gw),
    "memory read as float32": reads_floats,
    "NaN": lambda g, gx, gw: (gx, gw / 0 * 0 if is_bfloat16(g) else gw),
}

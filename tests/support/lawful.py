"""Custom layers that keep every contract of PyTorch."""

import numpy as np
import torch
from elementwise import layer, square

from gradcheck import array, normal


class Function(torch.autograd.Function):
    """x² sin(w), whose parts are replaced one by one."""

    saved = None

    @staticmethod
    def forward(ctx, x, w):
        ctx.save_for_backward(x, w)
        return x**2 * torch.sin(w)

    @staticmethod
    def backward(ctx, g):
        x, w = ctx.saved_tensors
        return g * 2 * x * torch.sin(w), g * x**2 * torch.cos(w)


class Separate(torch.autograd.Function):
    """x² sin(w) in the form that torch.func takes."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x, w):
        return x**2 * torch.sin(w)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, g):
        return Function.backward(ctx, g)


class TwoOutputs(torch.autograd.Function):
    """x² w and sin(x); the second's cotangent may be None."""

    @staticmethod
    def forward(ctx, x, w):
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, w)
        return x**2 * w, torch.sin(x)

    @staticmethod
    def backward(ctx, g, h):
        x, w = ctx.saved_tensors
        return (0 if g is None else 2 * x * w * g) + (0 if h is None else torch.cos(x) * h), None if g is None else x**2 * g


class Affine(torch.autograd.Function):
    """x w' + b, with gradients only for the inputs that require one."""

    @staticmethod
    def forward(ctx, x, w, b):
        ctx.save_for_backward(x, w)
        return x @ w.T + b

    @staticmethod
    def backward(ctx, g):
        x, w = ctx.saved_tensors
        wanted = ctx.needs_input_grad
        return g @ w if wanted[0] else None, g.T @ x if wanted[1] else None, g.sum(0) if wanted[2] else None


class Softmax(torch.autograd.Function):
    """Softmax over the last axis, differentiated from its output."""

    @staticmethod
    def forward(ctx, x):
        y = torch.softmax(x, -1)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        return y * (g - (g * y).sum(-1, keepdim=True))


class Normalised(torch.autograd.Function):
    """A layer norm, with a number among its inputs."""

    @staticmethod
    def forward(ctx, x, eps):
        centred = x - x.mean(-1, keepdim=True)
        inverse = torch.rsqrt(centred.square().mean(-1, keepdim=True) + eps)
        ctx.save_for_backward(centred * inverse, inverse)
        return centred * inverse

    @staticmethod
    def backward(ctx, g):
        y, inverse = ctx.saved_tensors
        return inverse * (g - g.mean(-1, keepdim=True) - y * (g * y).mean(-1, keepdim=True)), None


class Convolved(torch.autograd.Function):
    """A 3x3 convolution of images."""

    @staticmethod
    def forward(ctx, x, w):
        ctx.save_for_backward(x, w)
        return torch.conv2d(x, w)

    @staticmethod
    def backward(ctx, g):
        x, w = ctx.saved_tensors
        return torch.nn.grad.conv2d_input(x.shape, w, g), torch.nn.grad.conv2d_weight(x, w.shape, g)


class Turned(torch.autograd.Function):
    """The transpose, as a view would be."""

    @staticmethod
    def forward(ctx, x):
        return x.T.clone()

    @staticmethod
    def backward(ctx, g):
        return g.T


class Added(torch.autograd.Function):
    """x + b for a row b; PyTorch also accepts a gradient that still has to be summed."""

    @staticmethod
    def forward(ctx, x, b):
        return x + b

    @staticmethod
    def backward(ctx, g):
        return g, g.sum(0)


class Averaged(Added):
    """x + b for a row b, with a gradient by a mean over the rows."""

    @staticmethod
    def backward(ctx, g):
        return g, g.mean(0) * len(g)


class Gathered(torch.autograd.Function):
    """Rows of a table."""

    @staticmethod
    def forward(ctx, table, rows):
        ctx.save_for_backward(rows)
        ctx.size = table.shape
        return table[rows]

    @staticmethod
    def backward(ctx, g):
        (rows,) = ctx.saved_tensors
        return torch.zeros(ctx.size, dtype=g.dtype).index_add(0, rows, g.contiguous()), None


class Picked(torch.autograd.Function):
    """The entry of each row that its label names; a kernel would not check that there are as many labels as rows."""

    @staticmethod
    def forward(ctx, x, labels):
        assert len(x) == len(labels)
        ctx.save_for_backward(labels)
        ctx.size = x.shape
        return x.gather(1, labels[:, None])[:, 0]

    @staticmethod
    def backward(ctx, g):
        (labels,) = ctx.saved_tensors
        return torch.zeros(ctx.size, dtype=g.dtype).scatter(1, labels[:, None], g[:, None]), None


class Once(torch.autograd.Function):
    """A backward in NumPy, that cannot be differentiated and says so."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.from_numpy(np.sinh(x.detach().numpy()))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * torch.from_numpy(np.cosh(x.numpy()))


class Dropped(torch.autograd.Function):
    """Dropout with its own mask."""

    @staticmethod
    def forward(ctx, x):
        mask = (torch.rand_like(x) > 0.3).to(x.dtype)
        ctx.save_for_backward(mask)
        return x * mask

    @staticmethod
    def backward(ctx, g):
        return g * ctx.saved_tensors[0]


class Residual(torch.autograd.Function):
    """A x - b, which is nothing but rounding where b is A x."""

    @staticmethod
    def forward(ctx, a, x, b):
        ctx.save_for_backward(a, x)
        return a @ x - b

    @staticmethod
    def backward(ctx, g):
        a, x = ctx.saved_tensors
        return g @ x.T, a.T @ g, -g


class Mixed(torch.autograd.Function):
    """A product with a flag among its inputs."""

    @staticmethod
    def forward(ctx, x, flag, y):
        ctx.save_for_backward(x, y)
        return x * y if flag else x

    @staticmethod
    def backward(ctx, g):
        x, y = ctx.saved_tensors
        return g * y, None, g * x


class MeanSquare(torch.autograd.Function):
    """A loss: the mean over all of (x - y)²."""

    @staticmethod
    def forward(ctx, x, y):
        ctx.save_for_backward(x, y)
        return torch.mean((x - y) ** 2)

    @staticmethod
    def backward(ctx, g):
        x, y = ctx.saved_tensors
        slope = g * 2 * (x - y) / x.numel()
        return slope, -slope


class Forces(torch.nn.Module):
    """An energy and its gradient: it needs autograd in its forward."""

    def forward(self, x):
        x.requires_grad_(True)
        energy = torch.sum(layer().apply(x))
        return energy, torch.autograd.grad(energy, x, create_graph=True)[0]


class Block(torch.nn.Module):
    """A module with custom Functions inside."""

    def __init__(self):
        super().__init__()
        self.linear, self.weight = torch.nn.Linear(4, 4), torch.nn.Parameter(torch.linspace(-1, 1, 16).view(4, 4))
        self.bias = torch.nn.Parameter(torch.linspace(0, 1, 4))

    def forward(self, x):
        return x + Affine.apply(Normalised.apply(torch.sin(self.linear(x)), 0.1), self.weight, self.bias)


MATRIX = torch.linspace(-1, 1, 4096, dtype=torch.float64).view(64, 64).sin()
RIGHT = {
    "residual": (Residual, (MATRIX, MATRIX.T.contiguous(), MATRIX @ MATRIX.T)),
    "mixed": (Mixed, (normal(3), True, normal(3))),
    "mean square": (MeanSquare, (normal(5, 2), normal(5, 2))),
    "forces": (Forces(), (torch.linspace(-1, 1, 6, dtype=torch.float64),)),
    "function": (Function, (normal(3, 4), normal(3, 4))),
    "separate": (Separate, (normal(3, 4), normal(3, 4))),
    "two outputs": (TwoOutputs, (normal(3, 4), normal(3, 4))),
    "affine": (Affine, (normal(5, 4), normal(3, 4), normal(3))),
    "softmax": (Softmax, (normal(3, 4),)),
    "normalised": (Normalised, (normal(3, 8), 1e-5)),
    "convolved": (Convolved, (normal(1, 2, 5, 5), normal(2, 2, 3, 3))),
    "turned": (Turned, (normal(3, 4),)),
    "added": (Added, (normal(3, 4), normal(4))),
    "gathered": (Gathered, (normal(6, 2), array([0, 3, 3, 5], dtype="int64"))),
    "picked": (Picked, (normal(4, 3), array([2, 0, 1, 1], dtype="int64"))),
    "once": (Once, (normal(3, 4),)),
    "squared": (square(), (normal(3, 4, dtype="complex128"),)),
    "dropped": (Dropped, (normal(3, 4),)),
    "block": (Block, (normal(3, 4),)),
    "a number": (Function, (normal(), normal())),
    "large": (Function, (normal(300, 40), normal(300, 40))),
}

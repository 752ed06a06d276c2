"""Operators registered with torch.library: right ones, and some that do not do what they declare."""

import torch
from lawful import Function, Separate
from torch import Tensor
from torch.library import custom_op

from gradcheck import array, normal

LIBRARY = torch.library.Library("registered", "FRAGMENT")


def saving(ctx, inputs, output):
    ctx.save_for_backward(*(x for x in inputs if isinstance(x, Tensor)))


def like_first(x, *_):
    return torch.empty_like(x)


def of_product(ctx, g):
    return Separate.backward(ctx, g)


def product(name, fake=like_first):
    """x² sin(w) as an operator, with a fake implementation of its own."""

    @custom_op(f"registered::{name}", mutates_args=())
    def operator(x: Tensor, w: Tensor) -> Tensor:
        return x**2 * torch.sin(w)

    operator.register_autograd(of_product, setup_context=saving)
    if fake is not None:
        operator.register_fake(fake)
    return operator


@custom_op("registered::counted", mutates_args=())
def counted(x: Tensor, w: Tensor, calls: Tensor) -> Tensor:
    calls += 1
    return x**2 * torch.sin(w)


counted.register_fake(like_first)
counted.register_autograd(
    lambda ctx, g: (*of_product(ctx, g), None), setup_context=lambda ctx, inputs, output: saving(ctx, inputs[:2], output)
)


def called(operator):
    """Call an operator with inputs that nothing else uses."""
    return lambda x, w: operator(1.0 * x, 1.0 * w)


@custom_op("registered::scale", mutates_args=())
def scale(x: Tensor, factor: float) -> Tensor:
    return x * factor


scale.register_fake(like_first)
scale.register_autograd(
    lambda ctx, g: (g * ctx.factor, None), setup_context=lambda ctx, inputs, output: setattr(ctx, "factor", inputs[1])
)


@custom_op("registered::polar", mutates_args=())
def polar(r: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    return r * torch.cos(t), r * torch.sin(t)


@polar.register_fake
def _(r, t):
    return torch.empty_like(r), torch.empty_like(r)


def of_polar(ctx, g, h):
    r, t = ctx.saved_tensors
    return g * torch.cos(t) + h * torch.sin(t), r * (h * torch.cos(t) - g * torch.sin(t))


polar.register_autograd(of_polar, setup_context=saving)


@custom_op("registered::rows", mutates_args=())
def rows(table: Tensor, index: Tensor) -> Tensor:
    return table[index]


@rows.register_fake
def _(table, index):
    return table.new_empty((*index.shape, *table.shape[1:]))


def of_rows(ctx, g):
    table, index = ctx.saved_tensors
    return torch.zeros_like(table).index_add(0, index, g.contiguous()), None


rows.register_autograd(of_rows, setup_context=saving)


@custom_op("registered::total", mutates_args=())
def total(parts: list[Tensor]) -> Tensor:
    return torch.stack(parts).sum(0)


total.register_fake(lambda parts: torch.empty_like(parts[0]))
total.register_autograd(
    lambda ctx, g: ([g] * ctx.count,), setup_context=lambda ctx, inputs, output: setattr(ctx, "count", len(inputs[0]))
)


@custom_op("registered::shifted", mutates_args=())
def shifted(x: Tensor, shift: Tensor | None) -> Tensor:
    return x.clone() if shift is None else x + shift


shifted.register_fake(like_first)
shifted.register_autograd(
    lambda ctx, g: (g, g if ctx.needs_input_grad[1] else None), setup_context=lambda ctx, inputs, output: None
)


@custom_op("registered::times", mutates_args=())
def times(a: Tensor, b: Tensor) -> Tensor:
    return a @ b


times.register_fake(lambda a, b: a.new_empty(a.shape[0], b.shape[1]))


def of_times(ctx, g):
    a, b = ctx.saved_tensors
    return g @ b.T, a.T @ g


times.register_autograd(of_times, setup_context=saving)


@custom_op("registered::repeated", mutates_args=())
def repeated(x: Tensor, count: int) -> Tensor:
    return x.repeat(count, 1)


repeated.register_fake(lambda x, count: x.new_empty(x.shape[0] * count, x.shape[1]))
repeated.register_autograd(
    lambda ctx, g: (g.view(ctx.count, -1, g.shape[1]).sum(0), None),
    setup_context=lambda ctx, inputs, output: setattr(ctx, "count", inputs[1]),
)


@custom_op("registered::fill", mutates_args=("out",))
def fill(x: Tensor, out: Tensor) -> None:
    out.copy_(torch.sinh(x))


fill.register_fake(lambda x, out: None)


class Filled(torch.autograd.Function):
    """An operator that writes to a buffer, and declares it."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        out = torch.empty_like(x)
        fill(x, out)
        return out

    @staticmethod
    def backward(ctx, g):
        return g * torch.cosh(ctx.saved_tensors[0])


@custom_op("registered::cosine", mutates_args=())
def cosine(x: Tensor) -> Tensor:
    return torch.cos(x)


cosine.register_fake(like_first)


class Backward(Function):
    """x² sin(w) with an operator that is called in the backward only."""

    @staticmethod
    def backward(ctx, g):
        x, w = ctx.saved_tensors
        return g * 2 * x * torch.sin(w), g * x**2 * cosine(w)


@custom_op("registered::doubling", mutates_args=())
def doubling(out: Tensor) -> None:
    out.mul_(2)


doubling.register_fake(lambda out: None)


class Doubled(torch.autograd.Function):
    """2 x, by an operator that writes to what it is given and does not say so: a compiler leaves it out."""

    @staticmethod
    def forward(ctx, x):
        out = torch.ones_like(x)
        doubling(out)
        return x * out

    @staticmethod
    def backward(ctx, g):
        return 2 * g


LIBRARY.define("defined(Tensor x, Tensor w) -> Tensor")
LIBRARY.impl("defined", lambda x, w: x**2 * torch.sin(w), "CompositeExplicitAutograd")
torch.library.register_fake("registered::defined", like_first, lib=LIBRARY)
torch.library.register_autograd("registered::defined", of_product, setup_context=saving, lib=LIBRARY)

LIBRARY.define("misplaced(Tensor x, Tensor w) -> Tensor")
LIBRARY.impl("misplaced", lambda x, w: Function.apply(x, w), "CPU")
torch.library.register_fake("registered::misplaced", like_first, lib=LIBRARY)


class Around(Function):
    """An operator without a derivative to carry, inside a Function that carries it."""

    @staticmethod
    def forward(ctx, x, w):
        ctx.save_for_backward(x, w)
        return torch.ops.registered.misplaced(x, w)


TWO = (normal(3, 4), normal(3, 4))
RIGHT = {
    "product": (called(product("right")), TWO),
    "scale": (lambda x: scale(x, 0.3), (normal(3, 4),)),
    "polar": (lambda r, t: polar(r, t), TWO),
    "rows": (lambda table, index: rows(table, index), (normal(6, 2), array([0, 3, 3, 5], dtype="int64"))),
    "total": (lambda x, w: total([x, w, x]), TWO),
    "shifted": (lambda x, w: shifted(x, w), TWO),
    "not shifted": (lambda x: shifted(x, None), (normal(3, 4),)),
    "times": (lambda a, b: times(a, b), (normal(3, 4), normal(4, 2))),
    "repeated": (lambda x: repeated(x, 2), (normal(3, 4),)),
    "filled": (Filled, (normal(3, 4),)),
    "backward": (Backward, TWO),
    "around": (Around, TWO),
    "defined": (lambda x, w: torch.ops.registered.defined(x, w), TWO),
}


WRONG = {
    "counted": (lambda x, w: counted(x, w, torch.zeros(())), "Argument calls is not defined as mutable"),
    "shape": (called(product("shape", fake=lambda x, w: x.new_empty(x.shape[0]))), r"Shapes \[3, 4\] and \[3\]"),
    "dtype": (called(product("dtype", fake=lambda x, w: x.new_empty(x.shape, dtype=torch.float16))), r"Dtypes .*float16"),
    "misplaced": (lambda x, w: torch.ops.registered.misplaced(x, w), "not registered for Autograd"),
}
REMARKED = {
    "no fake": (called(product("no_fake", fake=None)), "There was no fake impl"),
    "raising fake": (called(product("raising", fake=lambda x, w: x.new_empty(x.sum().item()))), "TypeError"),
}

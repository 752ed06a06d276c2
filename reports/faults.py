"""Faults to plant in a right gradient, and the autograd Function that carries one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

Function = Callable[..., Tensor]


@dataclass(frozen=True)
class Backward:
    """One call of a backward pass, as a fault sees it.

    Attributes:
        inputs: the leaves.
        right: the right gradient of each.
        v: the cotangent.
        vjp: the right gradients for any other cotangent.
        leaf: number of the leaf that a fault of a single leaf is planted in.
        entry: place of an entry of typical size in it, flattened.
    """

    inputs: Sequence[Tensor]
    right: Sequence[Tensor]
    v: Tensor
    vjp: Callable[[Tensor], list[Tensor]]
    leaf: int
    entry: int


Spoil = Callable[[Backward], Sequence[Tensor]]


@dataclass(frozen=True)
class Kind:
    """One kind of fault.

    Attributes:
        text: what is wrong, in words.
        spoil: the wrong gradients in place of the right ones.
        fits: whether a problem of such leaves and output can have it.
    """

    text: str
    spoil: Spoil
    fits: Callable[[Sequence[Tensor], Tensor], bool] = lambda inputs, output: True


@dataclass
class Record:
    """The right and the wrong gradients of the first calls of a planted backward, leaf by leaf."""

    wanted: int
    calls: list[tuple[list[Tensor], list[Tensor]]] = field(default_factory=list)

    def add(self, right: Sequence[Tensor], wrong: Sequence[Tensor]) -> None:
        """Keep a call, if it is among those wanted."""
        if len(self.calls) < self.wanted:
            self.calls.append((_kept(right), _kept(wrong)))


def _kept(side: Sequence[Tensor]) -> list[Tensor]:
    return [g.detach().double().clone() for g in side]


def planted(function: Function, kind: Kind, size: float, place: tuple[int, int], record: Record | None = None) -> Any:
    """An autograd Function whose backward is right but for a fault of relative size `size`: g + size (spoilt - g).

    Args:
        place: leaf and entry of a fault in a single one.
        record: where the first calls are kept.
    """

    class Planted(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *inputs: Tensor) -> Tensor:
            ctx.save_for_backward(*inputs)
            return function(*inputs)

        @staticmethod
        def backward(ctx: Any, v: Tensor) -> tuple[Tensor, ...]:
            right, wrong = gradients(function, kind, size, place, ctx.saved_tensors, v)
            if record is not None:
                record.add(right, wrong)
            return tuple(wrong)

    return Planted


def gradients(
    function: Function, kind: Kind, size: float, place: tuple[int, int], inputs: Sequence[Tensor], v: Tensor
) -> tuple[list[Tensor], list[Tensor]]:
    """The right gradients of a function, and the spoilt ones."""
    leaves = [x.detach().requires_grad_() for x in inputs]
    with torch.enable_grad():
        output = function(*leaves)

    def vjp(cotangent: Tensor) -> list[Tensor]:
        found = torch.autograd.grad(output, leaves, cotangent, retain_graph=True, allow_unused=True)
        return [torch.zeros_like(x) if g is None else g for g, x in zip(found, leaves, strict=True)]

    right = vjp(v)
    if size == 0:
        return right, right
    spoilt = kind.spoil(Backward([x.detach() for x in leaves], right, v, vjp, *place))
    return right, [g + size * (s - g) for g, s in zip(right, spoilt, strict=True)]


def on_leaf(change: Callable[[Tensor, Backward], Tensor]) -> Spoil:
    """A fault in the gradient of a single leaf."""

    def spoil(b: Backward) -> list[Tensor]:
        return [change(g, b) if i == b.leaf else g for i, g in enumerate(b.right)]

    return spoil


def rms(g: Tensor) -> Tensor:
    """Root mean square."""
    return g.square().mean().sqrt()


def _one_entry(g: Tensor, b: Backward) -> Tensor:
    changed = g.clone(memory_format=torch.contiguous_format)
    changed.view(-1)[b.entry] *= 2
    return changed


def _block(g: Tensor, b: Backward) -> Tensor:
    changed, n = g.clone(memory_format=torch.contiguous_format), g.numel()
    changed.view(-1)[n // 3 : n // 3 + max(2, n // 10)] = 0
    return changed


def _transposed(g: Tensor, b: Backward) -> Tensor:
    return g.mT.reshape(g.shape)


def _axis(g: Tensor) -> int:
    """The last axis along which there is more than one entry."""
    return max((i for i, n in enumerate(g.shape) if n > 1), default=0)


def _flipped(g: Tensor, b: Backward) -> Tensor:
    return g.flip(_axis(g))


def _rolled(g: Tensor, b: Backward) -> Tensor:
    return g.roll(1, 0)


def _shuffled(g: Tensor, b: Backward) -> Tensor:
    order = torch.randperm(g.numel(), generator=torch.Generator().manual_seed(g.numel()))
    return g.reshape(-1)[order].reshape(g.shape)


def _averaged(g: Tensor, b: Backward) -> Tensor:
    return g.mean(_axis(g), keepdim=True).expand_as(g)


def _border(g: Tensor, b: Backward) -> Tensor:
    inner = torch.ones_like(g)
    for axis in range(g.ndim):
        inner.narrow(axis, 0, 1).zero_()
        inner.narrow(axis, g.shape[axis] - 1, 1).zero_()
    return g * inner


def _outputs_reversed(b: Backward) -> list[Tensor]:
    return b.vjp(b.v.reshape(-1).flip(0).reshape(b.v.shape))


def _output_forgotten(b: Backward) -> list[Tensor]:
    kept = b.v.clone().reshape(-1)
    kept[-max(1, kept.numel() // 10) :] = 0
    return b.vjp(kept.reshape(b.v.shape))


def _several(inputs: Sequence[Tensor], output: Tensor) -> bool:
    return len(inputs) > 1


def _entries(inputs: Sequence[Tensor], output: Tensor) -> bool:
    return all(x.numel() > 1 for x in inputs)


def _matrix(inputs: Sequence[Tensor], output: Tensor) -> bool:
    return any(x.ndim > 1 and min(x.shape[-2:]) > 1 for x in inputs)


def _outputs(inputs: Sequence[Tensor], output: Tensor) -> bool:
    return output.numel() > 1


KINDS = {
    "zero": Kind("the gradient of every leaf is zero", lambda b: [torch.zeros_like(g) for g in b.right]),
    "sign": Kind("the sign is wrong", on_leaf(lambda g, b: -g)),
    "factor": Kind("a factor 2", on_leaf(lambda g, b: 2 * g)),
    "one entry": Kind("one entry of typical size is doubled", on_leaf(_one_entry)),
    "block": Kind("a tenth of the entries, side by side, is zero", on_leaf(_block), _entries),
    "transposed": Kind("a matrix is written in the order of its transpose", on_leaf(_transposed), _matrix),
    "flipped": Kind("the last axis runs backwards", on_leaf(_flipped), _entries),
    "off by one": Kind("each row gets the gradient of the row before", on_leaf(_rolled), _entries),
    "shuffled": Kind("the entries are in a random order", on_leaf(_shuffled), _entries),
    "leaf dropped": Kind("one of several leaves gets zero", on_leaf(lambda g, b: torch.zeros_like(g)), _several),
    "averaged": Kind("the mean along an axis in place of each entry", on_leaf(_averaged), _entries),
    "missing mean": Kind("the mean of the gradient is left out", on_leaf(lambda g, b: g - g.mean()), _entries),
    "missing term": Kind("the last tenth of the outputs contributes nothing", _output_forgotten, _outputs),
    "cotangent ignored": Kind("ones in place of the cotangent", lambda b: b.vjp(torch.ones_like(b.v))),
    "outputs reversed": Kind("the cotangent is read backwards", _outputs_reversed, _outputs),
    "negative inputs": Kind("doubled where the input is negative", on_leaf(lambda g, b: g * (1 + (b.inputs[b.leaf] < 0)))),
    "border": Kind("zero at the first and last entry of every axis", on_leaf(_border)),
    "absolute": Kind("the absolute value", on_leaf(lambda g, b: g.abs())),
    "constant": Kind("the gradient's own size is added to each entry", on_leaf(lambda g, b: g + rms(g))),
    "clipped": Kind("clipped to its own root mean square", on_leaf(lambda g, b: g.clamp(-rms(g), rms(g)))),
}

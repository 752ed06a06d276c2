"""Faults to inject into a right gradient, and the autograd Function that carries one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

Function = Callable[..., Tensor]


@dataclass(frozen=True)
class BackwardCall:
    """One call of a backward pass, as a fault is given it.

    Attributes:
        inputs: the leaves.
        right: the right gradient of each leaf.
        v: the cotangent.
        vjp: computes the right gradients for any other cotangent.
        leaf: index of the leaf that a fault of a single leaf goes into.
        entry: flat index of an entry of typical size in that leaf.
    """

    inputs: Sequence[Tensor]
    right: Sequence[Tensor]
    v: Tensor
    vjp: Callable[[Tensor], list[Tensor]]
    leaf: int
    entry: int


Corruption = Callable[[BackwardCall], Sequence[Tensor]]


@dataclass(frozen=True)
class FaultKind:
    """One kind of fault.

    Attributes:
        text: what is wrong, in words.
        corrupt: computes the wrong gradients from a backward call.
        fits: whether a problem with these leaves and this output can have the fault.
    """

    text: str
    corrupt: Corruption
    fits: Callable[[Sequence[Tensor], Tensor], bool] = lambda inputs, output: True


@dataclass
class GradientRecord:
    """The right and the wrong gradients of the first calls of a faulty backward, leaf by leaf.

    Attributes:
        wanted: how many calls are recorded.
        calls: the right and the wrong gradients of each call.
    """

    wanted: int
    calls: list[tuple[list[Tensor], list[Tensor]]] = field(default_factory=list)

    def add(self, right: Sequence[Tensor], wrong: Sequence[Tensor]) -> None:
        """Record a call if it is among the first `wanted`."""
        if len(self.calls) < self.wanted:
            self.calls.append((_copy_gradients(right), _copy_gradients(wrong)))


def _copy_gradients(side: Sequence[Tensor]) -> list[Tensor]:
    return [g.detach().double().clone() for g in side]


def plant_fault(
    function: Function, kind: FaultKind, size: float, place: tuple[int, int], record: GradientRecord | None = None
) -> Any:
    """Make an autograd Function whose backward has a fault of relative size `size`: g + size (wrong - g).

    Args:
        function: the forward.
        kind: the kind of fault.
        size: 0 for the right gradient, 1 for the whole fault.
        place: index of the leaf and flat index of the entry, for a fault in a single one.
        record: where the first calls are recorded.
    """

    class Planted(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *inputs: Tensor) -> Tensor:
            ctx.save_for_backward(*inputs)
            return function(*inputs)

        @staticmethod
        def backward(ctx: Any, v: Tensor) -> tuple[Tensor, ...]:
            right, wrong = compute_gradients(function, kind, size, place, ctx.saved_tensors, v)
            if record is not None:
                record.add(right, wrong)
            return tuple(wrong)

    return Planted


def compute_gradients(
    function: Function, kind: FaultKind, size: float, place: tuple[int, int], inputs: Sequence[Tensor], v: Tensor
) -> tuple[list[Tensor], list[Tensor]]:
    """Compute the right gradients of a function, and the faulty ones."""
    leaves = [x.detach().requires_grad_() for x in inputs]
    with torch.enable_grad():
        output = function(*leaves)

    def vjp(cotangent: Tensor) -> list[Tensor]:
        gradients = torch.autograd.grad(output, leaves, cotangent, retain_graph=True, allow_unused=True)
        return [torch.zeros_like(x) if g is None else g for g, x in zip(gradients, leaves, strict=True)]

    right = vjp(v)
    if size == 0:
        return right, right
    corrupted = kind.corrupt(BackwardCall([x.detach() for x in leaves], right, v, vjp, *place))
    return right, [g + size * (wrong - g) for g, wrong in zip(right, corrupted, strict=True)]


def corrupt_leaf(change: Callable[[Tensor, BackwardCall], Tensor]) -> Corruption:
    """Turn a change of one gradient into a fault in the gradient of a single leaf."""

    def corrupt(call: BackwardCall) -> list[Tensor]:
        return [change(g, call) if i == call.leaf else g for i, g in enumerate(call.right)]

    return corrupt


def rms(g: Tensor) -> Tensor:
    """Compute the root mean square."""
    return g.square().mean().sqrt()


def _double_one_entry(g: Tensor, call: BackwardCall) -> Tensor:
    changed = g.clone(memory_format=torch.contiguous_format)
    changed.view(-1)[call.entry] *= 2
    return changed


def _zero_a_block(g: Tensor, call: BackwardCall) -> Tensor:
    changed, n = g.clone(memory_format=torch.contiguous_format), g.numel()
    changed.view(-1)[n // 3 : n // 3 + max(2, n // 10)] = 0
    return changed


def _transpose(g: Tensor, call: BackwardCall) -> Tensor:
    return g.mT.reshape(g.shape)


def _last_long_axis(g: Tensor) -> int:
    """Return the last axis along which there is more than one entry."""
    return max((i for i, n in enumerate(g.shape) if n > 1), default=0)


def _flip(g: Tensor, call: BackwardCall) -> Tensor:
    return g.flip(_last_long_axis(g))


def _roll(g: Tensor, call: BackwardCall) -> Tensor:
    return g.roll(1, 0)


def _shuffle(g: Tensor, call: BackwardCall) -> Tensor:
    order = torch.randperm(g.numel(), generator=torch.Generator().manual_seed(g.numel()))
    return g.reshape(-1)[order].reshape(g.shape)


def _average(g: Tensor, call: BackwardCall) -> Tensor:
    return g.mean(_last_long_axis(g), keepdim=True).expand_as(g)


def _zero_the_border(g: Tensor, call: BackwardCall) -> Tensor:
    inner = torch.ones_like(g)
    for axis in range(g.ndim):
        inner.narrow(axis, 0, 1).zero_()
        inner.narrow(axis, g.shape[axis] - 1, 1).zero_()
    return g * inner


def _reverse_outputs(call: BackwardCall) -> list[Tensor]:
    return call.vjp(call.v.reshape(-1).flip(0).reshape(call.v.shape))


def _drop_outputs(call: BackwardCall) -> list[Tensor]:
    cotangent = call.v.clone().reshape(-1)
    cotangent[-max(1, cotangent.numel() // 10) :] = 0
    return call.vjp(cotangent.reshape(call.v.shape))


def _has_several_leaves(inputs: Sequence[Tensor], output: Tensor) -> bool:
    return len(inputs) > 1


def _has_several_entries(inputs: Sequence[Tensor], output: Tensor) -> bool:
    return all(x.numel() > 1 for x in inputs)


def _has_a_matrix(inputs: Sequence[Tensor], output: Tensor) -> bool:
    return any(x.ndim > 1 and min(x.shape[-2:]) > 1 for x in inputs)


def _has_several_outputs(inputs: Sequence[Tensor], output: Tensor) -> bool:
    return output.numel() > 1


FAULT_KINDS = {
    "zero": FaultKind("the gradient of every leaf is zero", lambda call: [torch.zeros_like(g) for g in call.right]),
    "sign": FaultKind("the sign is wrong", corrupt_leaf(lambda g, call: -g)),
    "factor": FaultKind("a factor 2", corrupt_leaf(lambda g, call: 2 * g)),
    "one entry": FaultKind("one entry of typical size is doubled", corrupt_leaf(_double_one_entry)),
    "block": FaultKind("a tenth of the entries, side by side, is zero", corrupt_leaf(_zero_a_block), _has_several_entries),
    "transposed": FaultKind("a matrix is written in the order of its transpose", corrupt_leaf(_transpose), _has_a_matrix),
    "flipped": FaultKind("the last axis runs backwards", corrupt_leaf(_flip), _has_several_entries),
    "off by one": FaultKind("each row gets the gradient of the row before", corrupt_leaf(_roll), _has_several_entries),
    "shuffled": FaultKind("the entries are in a random order", corrupt_leaf(_shuffle), _has_several_entries),
    "leaf dropped": FaultKind(
        "one of several leaves gets zero", corrupt_leaf(lambda g, call: torch.zeros_like(g)), _has_several_leaves
    ),
    "averaged": FaultKind("the mean along an axis in place of each entry", corrupt_leaf(_average), _has_several_entries),
    "missing mean": FaultKind(
        "the mean of the gradient is left out", corrupt_leaf(lambda g, call: g - g.mean()), _has_several_entries
    ),
    "missing term": FaultKind("the last tenth of the outputs contributes nothing", _drop_outputs, _has_several_outputs),
    "cotangent ignored": FaultKind("ones in place of the cotangent", lambda call: call.vjp(torch.ones_like(call.v))),
    "outputs reversed": FaultKind("the cotangent is read backwards", _reverse_outputs, _has_several_outputs),
    "negative inputs": FaultKind(
        "doubled where the input is negative", corrupt_leaf(lambda g, call: g * (1 + (call.inputs[call.leaf] < 0)))
    ),
    "border": FaultKind("zero at the first and last entry of every axis", corrupt_leaf(_zero_the_border)),
    "absolute": FaultKind("the absolute value", corrupt_leaf(lambda g, call: g.abs())),
    "constant": FaultKind("the gradient's own size is added to each entry", corrupt_leaf(lambda g, call: g + rms(g))),
    "clipped": FaultKind("clipped to its own root mean square", corrupt_leaf(lambda g, call: g.clamp(-rms(g), rms(g)))),
}

"""What every other way of asking for a gradient is held against: the plain one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from gradcheck.backends.torch.tensors import flat_of, seed
from gradcheck.evidence import directions
from gradcheck.seeds import generator

if TYPE_CHECKING:
    from torch import Tensor

    from gradcheck.backends.layer_view import Layer
    from gradcheck.evidence.line import F64

SHAKES = 3
UNITS = 64.0  # in the last place of terms as large as the outputs, which may cancel in a gradient


class Remarked(Exception):  # noqa: N818 - not an error of the layer: its numbers are right
    """What is worth a remark though every number is right; the message is the remark."""


class Raised(Exception):  # noqa: N818 - says where an error, its cause, was met
    """What a way of asking raised; the message says which way, the cause is what was raised."""


class Unsupported(Exception):  # noqa: N818 - not an error: a way of asking that is refused, and says so
    """A way of asking that does not apply to this target; the message says why."""


@dataclass(frozen=True)
class Baseline:
    """One vjp, asked for plainly: contiguous cotangents for all outputs, gradients for all leaves.

    Attributes:
        inputs, cotangents, outputs: tensors that nobody writes to.
        gradients: one a leaf, as numbers; zeros where autograd has none. Empty where no function is the user's own.
        moved: () -> how far the gradient moves, number by number (N,), when the inputs do by their own rounding.
        shaken: () -> the same of the outputs, one array each.
    """

    layer: Layer
    inputs: list[Tensor]
    cotangents: list[Tensor]
    outputs: list[Tensor]
    gradients: list[F64]
    moved: Callable[[], F64]
    shaken: Callable[[], list[F64]]

    def leaves(self) -> list[Tensor]:
        """New leaves at the inputs, all of which want gradients."""
        return [x.detach().clone().requires_grad_() for x in self.inputs]

    def given(self) -> list[Tensor]:
        """New tensors of the cotangents."""
        return [v.clone() for v in self.cotangents]


def baseline(layer: Layer, moved: Callable[[F64], F64], label: str) -> Baseline:
    """Ask for the vjp of cotangents of about size 1, with random signs.

    Args:
        moved: how far the gradient of a cotangent (M,) moves, (N,).
    """
    inputs = layer.tensors()
    given = [x.detach().clone().requires_grad_() for x in inputs]
    outputs = layer.call(given)
    together = np.empty(sum(leaf.entries * leaf.width for leaf in layer.outputs))
    directions.even(generator(0, "contracts", label), np.ones(together.size), together)
    cotangents = [seed(together, leaf, out) for leaf, out in zip(layer.outputs, outputs, strict=True)]
    values = [out.detach().clone() for out in outputs]
    gradients = rows(outputs, given, [v.clone() for v in cotangents]) if layer.own else []
    shaken = cache(lambda: _shaken(layer, inputs, values))
    return Baseline(layer, inputs, cotangents, values, gradients, cache(lambda: moved(together)), shaken)


def _shaken(layer: Layer, inputs: list[Tensor], outputs: list[Tensor]) -> list[F64]:
    found = [np.zeros(flat_of(out).shape) for out in outputs]
    for k in range(SHAKES):
        rng = generator(0, "shaken", k)
        signs = [torch.from_numpy(rng.choice([-1.0, 1.0], tuple(x.shape))).to(x.device) for x in inputs]
        moved = [(x * (1 + layer.eps * sign)).to(x.dtype).requires_grad_() for x, sign in zip(inputs, signs, strict=True)]
        for spread, out, before in zip(found, layer.call(moved), outputs, strict=True):
            np.fmax(spread, np.abs(flat_of(out) - flat_of(before)), out=spread)
    return found


def pulled(
    outputs: Sequence[Tensor], inputs: Sequence[Tensor], cotangents: Sequence[Any], **options: Any
) -> list[Tensor | None]:
    """Gradients with respect to some inputs; None where there is none."""
    attached = [(out, v) for out, v in zip(outputs, cotangents, strict=True) if out.requires_grad and v is not None]
    if not attached:
        return [None] * len(inputs)
    found, given = zip(*attached, strict=True)
    with torch.enable_grad():
        return list(torch.autograd.grad(found, inputs, given, allow_unused=True, **options))


def rows(outputs: Sequence[Tensor], leaves: Sequence[Tensor], cotangents: Sequence[Any], **options: Any) -> list[F64]:
    """The same as numbers."""
    return numbers(pulled(outputs, leaves, cotangents, **options), leaves)


def numbers(gradients: Sequence[Tensor | None], inputs: Sequence[Tensor]) -> list[F64]:
    """Gradients as numbers, zero where there is none."""
    return [
        np.zeros(x.numel() * (2 if x.is_complex() else 1)) if g is None else flat_of(g.to_dense() if g.is_sparse else g).copy()
        for g, x in zip(gradients, inputs, strict=True)
    ]


def other(
    base: Baseline, gradients: Sequence[F64 | None], expected: Sequence[F64] | None = None, *, same_inputs: bool = False
) -> str:
    """Where gradients asked for in another way differ from the plain ones, in words; '' where they do not.

    Rounding may be another where sums are taken in another order: up to the square root of the dtype's spacing of the leaf's
    largest, and up to what rounding of the inputs does to it.

    Args:
        gradients: one a leaf; None is not looked at.
        expected: what they should be, where that is not the plain gradient.
        same_inputs: to the last bit, and asked for in the same way, so that their rounding explains nothing.
    """
    layer = base.layer
    largest = max((float(v.abs().max()) for v in base.outputs if v.numel()), default=0.0)
    for leaf, x, found, plain in zip(layer.leaves, base.inputs, gradients, expected or base.gradients, strict=True):
        if found is None or not plain.size:
            continue
        size, scale = float(np.max(np.abs(plain))), directions.scale_of(flat_of(x))
        excess = np.nan_to_num(np.abs(found - plain), nan=np.inf) - layer.eps**0.5 * size - UNITS * layer.eps * largest / scale
        if np.any(excess > 0) and not same_inputs:
            excess -= UNITS * base.moved()[leaf.span]
        if np.any(excess > 0):
            worst = int(np.argmax(excess))
            return f"the gradient at {leaf.entry(leaf.start + worst)} is {found[worst]:.6g} in place of {plain[worst]:.6g}"
    return ""


def other_outputs(base: Baseline, outputs: Sequence[Tensor]) -> str:
    """Where outputs differ by more than rounding from those of the plain call, in words; '' where they do not."""
    for k, (leaf, found, plain) in enumerate(zip(base.layer.outputs, outputs, base.outputs, strict=True)):
        if found.shape != plain.shape:
            return f"{leaf.path} has the shape {tuple(found.shape)} in place of {tuple(plain.shape)}"
        if not found.numel():
            continue
        now, before = flat_of(found), flat_of(plain)
        excess = np.nan_to_num(np.abs(now - before), nan=np.inf) - base.layer.eps**0.5 * np.max(np.abs(before))
        if np.any(excess > 0):
            excess -= UNITS * (base.shaken()[k] + np.max(base.shaken()[k]))  # a few draws say little of a single output
        worst = int(np.argmax(excess))
        if excess[worst] > 0:
            return f"{leaf.entry(leaf.start + worst)} is {now[worst]:.6g} in place of {before[worst]:.6g}"
    return ""

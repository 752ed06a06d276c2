"""The plain vjp that every contract compares with, and the comparison of outputs and gradients with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from gradcheck.backends.torch.tensors import flat_of, leaf_part
from gradcheck.compare.conditioning import jitter_points, measure_shift
from gradcheck.compare.identity import bound_reordering, bound_round_off, explain_by_shift, find_unexplained
from gradcheck.evidence import directions
from gradcheck.evidence.line import F64
from gradcheck.seeds import make_generator

if TYPE_CHECKING:
    from gradcheck.backends.contract_target import Layer

# A contract tries at most this many leaves, outputs or subsets of leaves one by one.
SAMPLE = 8
# The layer's own inputs times this factor are other inputs for calls before or between.
OTHER_INPUTS = 0.75


class Remark(Exception):  # noqa: N818 - not an error of the layer: its numbers are right
    """Raise if no number is wrong but users should know of something; the contract is INCONCLUSIVE with this message."""


class UserCodeRaised(Exception):  # noqa: N818 - says in which situation the cause was raised
    """Raise from an exception of the user's code that breaks the contract; the message says in which situation.

    A breach is reported with the cause and the user's own lines.
    """


class NotApplicable(Exception):  # noqa: N818 - not an error: the contract does not apply, and the reason is reported
    """Raise if a contract cannot be tried on this target, or only in part; the contract is a PASS with this reason."""


@dataclass(frozen=True)
class Baseline:
    """The vjp that every contract compares with: contiguous cotangents for all outputs, gradients for all leaves.

    Attributes:
        inputs, cotangents, outputs: tensors that nobody writes to.
        gradients: one flat array for each leaf; zeros for leaves without a gradient. Empty if the layer calls no function of
            the user.
        gradient_shift: () -> how far each number of the gradient moves when the inputs move by their own rounding, (N,).
        output_shift: () -> how far each number of the outputs moves then, (M,).
        internal_tolerance: () -> what derivatives may be off by, relative to their terms, because of lower precision inside.
    """

    layer: Layer
    inputs: list[Tensor]
    cotangents: list[Tensor]
    outputs: list[Tensor]
    gradients: list[F64]
    gradient_shift: Callable[[], F64]
    output_shift: Callable[[], F64]
    internal_tolerance: Callable[[], float]

    def new_leaves(self) -> list[Tensor]:
        """Copy the inputs to new leaves that all require a gradient."""
        return [x.detach().clone().requires_grad_() for x in self.inputs]

    def new_call(self) -> tuple[list[Tensor], list[Tensor]]:
        """Call the layer on new leaves; return these and the outputs."""
        leaves = self.new_leaves()
        return leaves, self.layer.call(leaves)

    def new_other_leaves(self) -> list[Tensor]:
        """Make new leaves at other inputs, `OTHER_INPUTS` times the layer's own."""
        return [(OTHER_INPUTS * x).detach().requires_grad_() for x in self.inputs]

    def new_cotangents(self) -> list[Tensor]:
        """Copy the cotangents to new tensors."""
        return [v.clone() for v in self.cotangents]

    @property
    def largest_output(self) -> float:
        """The largest absolute value among the outputs; 0 if there is none."""
        return max((float(v.abs().max()) for v in self.outputs if v.numel()), default=0.0)


def compute_baseline(
    layer: Layer, gradient_shift: Callable[[F64], F64], internal_tolerance: Callable[[], float], label: str
) -> Baseline:
    """Compute the vjp of cotangents of about size 1 with random signs.

    Args:
        gradient_shift: cotangent (M,) -> how far its gradient moves when the inputs move by their own rounding, (N,).
        internal_tolerance: as in `Baseline`.
        label: names the random stream.
    """
    inputs = layer.make_tensors()
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    outputs = layer.call(leaves)
    cotangent = np.empty(sum(leaf.entries * leaf.width for leaf in layer.outputs))
    directions.fill_even(make_generator(0, "contracts", label), np.ones(cotangent.size), cotangent)
    cotangents = [leaf_part(cotangent, leaf, out) for leaf, out in zip(layer.outputs, outputs, strict=True)]
    values = [out.detach().clone() for out in outputs]
    gradients = compute_flat_vjp(outputs, leaves, [v.clone() for v in cotangents]) if layer.user_functions else []
    output_shift = cache(lambda: _measure_output_shift(layer, inputs, values))
    shifts = cache(lambda: gradient_shift(cotangent)), output_shift
    return Baseline(layer, inputs, cotangents, values, gradients, *shifts, internal_tolerance)


def _measure_output_shift(layer: Layer, inputs: list[Tensor], outputs: list[Tensor]) -> F64:
    """Measure how far the outputs move, at most, when the inputs move by one unit in the last place."""

    def call(point: F64) -> F64:
        leaves = [leaf_part(point, leaf, x).requires_grad_() for leaf, x in zip(layer.leaves, inputs, strict=True)]
        return np.concatenate([flat_of(out) for out in layer.call(leaves)])

    point, value = (np.concatenate([flat_of(x) for x in tensors]) for tensors in (inputs, outputs))
    return measure_shift(call, value, jitter_points(point, layer.eps, "outputs", move_whole_numbers=True))


def compute_vjp(
    outputs: Sequence[Tensor], inputs: Sequence[Tensor], cotangents: Sequence[Any], **options: Any
) -> list[Tensor | None]:
    """Compute the gradients with respect to some inputs; None for an input that has none.

    Args:
        cotangents: one for each output; an output whose cotangent is None is left out.
        options: passed to `torch.autograd.grad`.
    """
    pairs = [(out, v) for out, v in zip(outputs, cotangents, strict=True) if out.requires_grad and v is not None]
    if not pairs:
        return [None] * len(inputs)
    attached, seeds = zip(*pairs, strict=True)
    with torch.enable_grad():
        return list(torch.autograd.grad(attached, inputs, seeds, allow_unused=True, **options))


def compute_flat_vjp(
    outputs: Sequence[Tensor], leaves: Sequence[Tensor], cotangents: Sequence[Any], **options: Any
) -> list[F64]:
    """Compute the gradients with respect to some leaves as flat arrays, zero for a leaf that has none."""
    return flatten_gradients(compute_vjp(outputs, leaves, cotangents, **options), leaves)


def flatten_gradients(gradients: Sequence[Tensor | None], inputs: Sequence[Tensor]) -> list[F64]:
    """Copy gradients to flat arrays, zero for an input that has none."""
    return [
        np.zeros(x.numel() * (2 if x.is_complex() else 1)) if g is None else flat_of(g.to_dense() if g.is_sparse else g).copy()
        for g, x in zip(gradients, inputs, strict=True)
    ]


def compare_gradients(
    base: Baseline, gradients: Sequence[F64 | None], expected: Sequence[F64] | None = None, *, same_inputs: bool = False
) -> str:
    """Describe the largest difference between gradients and the plain ones; '' if they differ by no more than rounding.

    Sums may be taken in another order, and terms as large as the outputs may cancel. Rounding of the inputs is allowed for.

    Args:
        gradients: one flat array for each leaf; None is not compared.
        expected: what they should be, if that is not the plain gradient.
        same_inputs: the inputs are the same to the last bit and the gradient is computed in the same way, so that rounding of
            the inputs explains nothing.
    """
    layer, largest = base.layer, base.largest_output
    for leaf, x, gradient, right in zip(layer.leaves, base.inputs, gradients, expected or base.gradients, strict=True):
        if gradient is None or not right.size:
            continue
        size, scale = float(np.max(np.abs(right))), directions.compute_leaf_scale(flat_of(x))
        allowed = bound_reordering(layer.eps, size) + bound_round_off(layer.eps, largest / scale)
        explanations = [] if same_inputs else [explain_by_shift(base.gradient_shift, leaf.span)]
        worst = find_unexplained(np.abs(gradient - right), allowed, *explanations)
        if worst is not None:
            return f"the gradient at {leaf.entry(leaf.start + worst)} is {gradient[worst]:.6g} instead of {right[worst]:.6g}"
    return ""


def compare_outputs(base: Baseline, outputs: Sequence[Tensor]) -> str:
    """Describe where outputs differ from those of the plain call; '' if they differ by no more than rounding."""
    for leaf, output, right in zip(base.layer.outputs, outputs, base.outputs, strict=True):
        if output.shape != right.shape:
            return f"{leaf.path} has the shape {tuple(output.shape)} instead of {tuple(right.shape)}"
        if not output.numel():
            continue
        after, before = flat_of(output), flat_of(right)
        allowed = bound_reordering(base.layer.eps, float(np.max(np.abs(before))))
        explanation = explain_by_shift(base.output_shift, leaf.span, largest=True)
        worst = find_unexplained(np.abs(after - before), allowed, explanation)
        if worst is not None:
            return f"{leaf.entry(leaf.start + worst)} is {after[worst]:.6g} instead of {before[worst]:.6g}"
    return ""

"""Compare a gradient with differences along random directions, at inputs or in modes that no other check tries."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor

from gradcheck.backends.torch.tensors import carries_gradient, flat_of
from gradcheck.checks.contracts.slope_comparison import SlopeComparison, compare_slope
from gradcheck.checks.contracts.torch.support.plain_vjp import SAMPLE, NotApplicable, Remark, compute_vjp
from gradcheck.evidence import directions
from gradcheck.evidence.line import F64
from gradcheck.seeds import make_generator

if TYPE_CHECKING:
    from gradcheck.backends.contract_target import LayerFunction


class CompareAlong(Protocol):
    """Compares a gradient with differences along one of the random directions, or along its part in one leaf."""

    def __call__(self, direction: int, leaf: int | None = None, /) -> SlopeComparison:
        """Compare along the direction with this number; `leaf` is the index of the only leaf that moves."""


def describe_wrong_gradient(there: CompareAlong, here: CompareAlong, names: Sequence[str]) -> str:
    """Describe how a gradient is wrong along two random directions; '' if it is not. A coarse direction is drawn again.

    Args:
        there: compares where the gradient is in question.
        here: compares at the target's own inputs and in its own mode; an error there is reported by another check.

    Raises:
        Remark: if the function is constant there, as a straight-through estimator is.
        NotApplicable: if differences decide nothing.
    """
    for k in (0, 2):
        first = there(k)
        if not (first.differs or first.is_coarse):
            return ""
        if first.is_wrong and there(k + 1).is_wrong:
            break
        if first.differs:
            raise NotApplicable("differences are too coarse to decide")
    else:
        raise NotApplicable("differences are too coarse to decide along two directions")
    if any(comparison.differs or comparison.is_coarse for comparison in (here(0), here(1))):
        raise NotApplicable("at the inputs themselves, too, the gradient disagrees with differences, or these are too coarse")
    if first.estimate == 0 and math.isfinite(first.claimed):
        raise Remark("the function is constant there, but its gradient is not zero: a straight-through estimator?")
    by_leaf = ((name, there(0, k)) for k, name in enumerate(names[:SAMPLE]) if len(names) > 1)
    wrong_leaves = ((f" of {name}", comparison) for name, comparison in by_leaf if comparison.is_wrong)
    of_leaf, worst = next(wrong_leaves, ("", first))
    return f"the derivative along a random direction{of_leaf} is {worst.claimed:.6g} instead of {worst.estimate:.6g}"


def compare_along_direction(
    call: LayerFunction, inputs: Sequence[Tensor], eps: float, direction: int, leaf: int | None = None
) -> SlopeComparison:
    """Compare the gradient of a random combination of outputs with its differences along a random direction.

    Args:
        call: tensors -> outputs, of which those that carry a gradient count. If it raises away from the primal, or its outputs
            have another form there, the difference is NaN.
        eps: relative spacing of floats in the coarsest dtype among them.
        direction: number of the random direction.
        leaf: index of the only leaf that moves; None: all leaves move.
    """
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    outputs = call(leaves)
    weights = [
        draw_like(out, np.ones_like, direction, "weight", k) if carries_gradient(out) else None for k, out in enumerate(outputs)
    ]
    tangents = [draw_like(x, np.asarray, direction, "tangent", k) for k, x in enumerate(leaves)]
    tangents = [u if leaf in (None, k) else torch.zeros_like(u) for k, u in enumerate(tangents)]
    weighted = [(k, flat_of(v), flat_of(outputs[k])) for k, v in enumerate(weights) if v is not None]
    gradients = compute_vjp(outputs, leaves, weights)
    sums = [_sum_terms(g, u) for g, u in zip(gradients, tangents, strict=True) if g is not None]

    def change(t: float) -> float:
        after = call([(x.detach() + t * u).requires_grad_() for x, u in zip(leaves, tangents, strict=True)])
        return sum(float(v @ (flat_of(after[k]) - before)) for k, v, before in weighted)

    outputs_size = math.sqrt(sum(float(before @ before) for _, _, before in weighted))
    return compare_slope(
        change,
        (sum(total for total, _ in sums), math.sqrt(sum(squares for _, squares in sums))),
        eps * outputs_size + sum(_quantum(outputs[k]) * before.size for k, _, before in weighted),
        eps,
        claim_error=sum(_quantum(x) * float(u.abs().sum()) for x, u in zip(leaves, tangents, strict=True)),
        negligible=eps**0.5 * outputs_size,
    )


def _quantum(x: Tensor) -> float:
    """Return the smallest positive number of a tensor's dtype, which is the spacing of all numbers near zero."""
    limits = torch.finfo(x.dtype)
    return limits.tiny * limits.eps


def _sum_terms(gradient: Tensor, tangent: Tensor) -> tuple[float, float]:
    """Sum the terms of one leaf, and their squares, without keeping them: together the leaves of a module may be large."""
    terms = flat_of(gradient) * flat_of(tangent)
    return float(np.sum(terms)), float(terms @ terms)


def draw_like(x: Tensor, scale: Callable[[F64], F64], *stream: object) -> Tensor:
    """Draw random numbers of either sign in the form of a tensor, each at least half as large as the scale of its entry.

    Args:
        scale: flat entries -> the scale of each, (n,).
        stream: names the random stream.
    """
    scales = scale(flat_of(x))
    numbers = np.empty_like(scales)
    directions.fill_even(make_generator(0, "direction", *stream), scales, numbers)
    drawn = torch.from_numpy(numbers)
    return (torch.view_as_complex(drawn.view(*x.shape, 2)) if x.is_complex() else drawn.view(x.shape)).to(x.device, x.dtype)

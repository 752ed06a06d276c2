"""Automatic differentiation, by PyTorch, of a combination of functions of the same inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gradcheck.backends.binding import Binding
from gradcheck.backends.flat import F64
from gradcheck.backends.program import Member, Unavailable
from gradcheck.backends.torch.tensors import carries_gradient, gradients, seed


def vjp(
    call: Callable[[Callable[..., Any] | None, list[Any]], Sequence[Any]],
    values: list[Any],
    bound: Binding,
    members: Sequence[Member],
    combine: Callable[..., Any],
    cotangent: F64,
) -> F64:
    """The vector-Jacobian product of the combination, (N,).

    Args:
        call: (function, every leaf of the inputs) -> every leaf of what it returns; None stands for the target.
        values: every leaf of the inputs, the differentiable ones as tensors that require a gradient.

    Raises:
        Unavailable: where an output carries no derivative.
    """
    outputs = []
    for function, scales in members:
        given = list(values)
        for i, scale in zip(bound.places, scales, strict=True):
            given[i] = values[i] if scale == 1 else values[i] * scale
        found = call(function, given)
        outputs.append([found[i] for i in bound.kept])
    totals = [combine(*parts) for parts in zip(*outputs, strict=True)]
    attached = [(t, leaf) for t, leaf in zip(totals, bound.outputs, strict=True) if carries_gradient(t)]
    if not attached:
        raise Unavailable("the combination carries no derivative")
    seeds = [seed(cotangent, leaf, t) for t, leaf in attached]
    return gradients([t for t, _ in attached], [values[i] for i in bound.places], seeds, bound.leaves)

"""A torch target along one line, as bare as it can be: one buffer that moves, and tensors that look into it.

Nothing is built or copied from one evaluation to the next, so a large problem costs little more than its forward passes. On
a GPU the point stays there: one vector of outputs comes back for each evaluation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from gradcheck.backends.flat import EPS
from gradcheck.backends.torch.precision import wide_default
from gradcheck.backends.torch.tensors import (
    WIDE,
    flat_of,
    name_of,
    shaped,
    with_moved,
)
from gradcheck.trees import flatten

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradcheck.backends.binding import Binding
    from gradcheck.backends.flat import F64, Leaf


def lines(
    run: Callable[..., Any], bound: Binding, point: F64, *, wide: bool
) -> Callable[[F64], Callable[[float], list[F64]]] | None:
    """From a tangent to the line t -> outputs at point + t tangent, one array a leaf; None where leaves need copies.

    What a line returns may be the function's own memory: it is to be used before the next call.
    """
    templates = [bound.call.leaves[i] for i in bound.places]
    if not all(_fits(t, leaf, wide) for t, leaf in zip(templates, bound.leaves, strict=True)):
        return None
    places = {t.device for t in templates if isinstance(t, torch.Tensor)} or {torch.device("cpu")}
    if len(places) > 1:
        return None
    device = places.pop()
    buffers: list[torch.Tensor] = []  # every line uses it in turn

    def along(tangent: F64) -> Callable[[float], list[F64]]:
        start, direction = torch.from_numpy(point).to(device), torch.from_numpy(tangent).to(device)
        if not buffers:
            buffers.append(torch.empty_like(start))
        at = buffers[0]
        views = {i: shaped(at[leaf.span], leaf) for i, leaf in zip(bound.places, bound.leaves, strict=True)}

        def values(t: float) -> list[F64]:
            torch.add(start, direction, alpha=t, out=at)
            given = with_moved(bound.call.leaves, views, wide)
            with wide_default(wide, bound.leaves):
                found = flatten(run(given, bound, wide=wide)).leaves
            return [flat_of(found[i]) for i in bound.kept]

        return values

    return along


def _fits(template: Any, leaf: Leaf, wide: bool) -> bool:
    """Whether a leaf can be a view of float64 numbers that lie one after the other."""
    if leaf.width == 2 and leaf.start % 2:
        return False
    if not isinstance(template, torch.Tensor):
        return EPS[leaf.dtype] == EPS["float64"]
    dtype = WIDE.get(template.dtype, template.dtype) if wide else template.dtype
    plain = template.is_contiguous() and not (template.is_conj() or template.is_neg())
    return plain and EPS[name_of(dtype)] == EPS["float64"]

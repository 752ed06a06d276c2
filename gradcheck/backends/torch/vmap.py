"""A torch target at many points at once, through `torch.func.vmap`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from gradcheck.backends.program import Unavailable
from gradcheck.backends.torch.precision import wide_default
from gradcheck.backends.torch.tensors import (
    WIDE,
    aligned,
    shaped,
    with_moved,
)
from gradcheck.tracebacks import one_line
from gradcheck.trees import flatten

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradcheck.backends.binding import Binding
    from gradcheck.backends.flat import F64, Leaf


def many(run: Callable[..., Any], bound: Binding, *, wide: bool) -> Callable[[F64], F64]:
    """From points (B, N) to the outputs there, (B, M).

    What the target draws at random it draws once for all of them, as it would for each by itself. Raises Unavailable where
    the target, or an operator in it, cannot be mapped.
    """
    moving = dict(zip(bound.places, bound.leaves, strict=True))

    def at(point: torch.Tensor) -> torch.Tensor:
        moved = {i: _leaf(point, leaf, bound.call.leaves[i], wide) for i, leaf in moving.items()}
        given = with_moved(bound.call.leaves, moved, wide)
        found = flatten(run(given, bound, wide=wide)).leaves
        return torch.cat([_numbers(found[i]) for i in bound.kept])

    def outputs(points: F64) -> F64:
        try:
            with torch.no_grad(), wide_default(wide, bound.leaves):
                found: F64 = torch.func.vmap(at, randomness="same")(torch.from_numpy(points)).numpy()
        except Exception as error:
            raise Unavailable(one_line(error, 100)) from None
        return found

    return outputs


def _leaf(point: torch.Tensor, leaf: Leaf, template: Any, wide: bool) -> torch.Tensor:
    dtype = getattr(torch, leaf.dtype)
    device = template.device if isinstance(template, torch.Tensor) else "cpu"
    return shaped(aligned(point[leaf.span], leaf), leaf).to(WIDE.get(dtype, dtype) if wide else dtype).to(device)


def _numbers(output: Any) -> torch.Tensor:
    value = torch.view_as_real(output.resolve_conj()) if output.is_complex() else output
    return value.reshape(-1).to("cpu").to(torch.float64)  # a device need not have float64

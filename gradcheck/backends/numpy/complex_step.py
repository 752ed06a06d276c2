"""TODO: describe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.backends.binding import Binding
from gradcheck.backends.flat import F64
from gradcheck.backends.program import COMPLEX_STEP, Member, Unavailable
from gradcheck.tracebacks import one_line
from gradcheck.trees import flatten

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray


def _complex_step(function: Callable[..., Any], bound: Binding) -> Callable[[F64, F64], F64] | None:
    """Im f(x + i h u) / h. W. Squire and G. Trapp, SIAM Rev. 40 (1998), 110-112."""
    if any(leaf.dtype != "float64" for leaf in (*bound.leaves, *bound.outputs)):
        return None

    def derivative(point: F64, tangent: F64) -> F64:
        parts = _complex_outputs(function, bound, point, tangent)
        return np.concatenate([np.imag(part).reshape(-1) for part in parts]) / COMPLEX_STEP

    return derivative


def _complex_outputs(function: Callable[..., Any], bound: Binding, point: F64, tangent: F64) -> list[NDArray[Any]]:
    """The outputs at x + i h u.

    Raises:
        Unavailable: where the function does not take complex numbers, or drops the imaginary part.
    """
    values = [x.copy() if isinstance(x, np.ndarray) else x for x in bound.call.leaves]
    for i, leaf in zip(bound.places, bound.leaves, strict=True):
        values[i] = (point[leaf.span] + 1j * COMPLEX_STEP * tangent[leaf.span]).reshape(leaf.shape)
    args, kwargs = bound.call.rebuild(values)
    try:
        found = flatten(function(*args, **kwargs)).leaves
        parts = [np.asarray(found[i]) for i in bound.kept]
    except Exception as error:
        raise Unavailable(f"the function does not take complex numbers ({one_line(error)})") from None
    if [part.shape for part in parts] != [leaf.shape for leaf in bound.outputs]:
        raise Unavailable("the function returns another shape for complex numbers")
    if not any(np.iscomplexobj(part) for part in parts):
        raise Unavailable("the function drops the imaginary part")
    return parts


def _pushed(
    function: Callable[..., Any], bound: Binding, at: F64, u: F64, members: Sequence[Member], combine: Callable[..., Any]
) -> F64:
    """A combination's derivative along a tangent by the complex step, (M,)."""
    outputs = []
    for member, scales in members:
        wide = np.concatenate([np.full(leaf.entries, s) for leaf, s in zip(bound.leaves, scales, strict=True)])
        outputs.append(_complex_outputs(member or function, bound, at * wide, u * wide))
    totals = [np.imag(combine(*parts)).reshape(-1) for parts in zip(*outputs, strict=True)]
    return np.concatenate(totals) / COMPLEX_STEP

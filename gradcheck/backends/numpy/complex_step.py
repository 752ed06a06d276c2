"""Directional derivatives of NumPy functions by the complex step, which has no round-off error.

Source: W. Squire and G. Trapp, SIAM Rev. 40 (1998), 110-112.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradcheck.backends.flat import F64, match_class
from gradcheck.backends.flat_call import Binding
from gradcheck.backends.program import COMPLEX_STEP, Member, Unavailable
from gradcheck.tracebacks import summarise_error
from gradcheck.trees import flatten


def make_complex_step(function: Callable[..., Any], binding: Binding) -> Callable[[F64, F64], F64] | None:
    """Make the function (point (N,), tangent u (N,)) -> Im f(x + i h u) / h, (M,); None if a leaf or output is not float64.

    Raises Unavailable when called if the function does not take complex numbers.
    """
    if any(leaf.dtype != "float64" for leaf in (*binding.leaves, *binding.outputs)):
        return None

    def derivative(point: F64, tangent: F64) -> F64:
        parts = evaluate_complex(function, binding, point, tangent)
        return np.concatenate([np.imag(part).reshape(-1) for part in parts]) / COMPLEX_STEP

    return derivative


def evaluate_complex(function: Callable[..., Any], binding: Binding, point: F64, tangent: F64) -> list[NDArray[Any]]:
    """Return the outputs at x + i h u.

    Raises:
        Unavailable: if the function does not take complex numbers or drops the imaginary part.
    """
    values = [x.copy() if isinstance(x, np.ndarray) else x for x in binding.call.leaves]
    for i, leaf in zip(binding.input_places, binding.leaves, strict=True):
        moved = (point[leaf.span] + 1j * COMPLEX_STEP * tangent[leaf.span]).reshape(leaf.shape)
        values[i] = match_class(moved, np.asanyarray(binding.call.leaves[i]))
    args, kwargs = binding.call.rebuild(values)
    try:
        returned = flatten(function(*args, **kwargs)).leaves
        parts = [np.asarray(returned[i]) for i in binding.output_places]
    except Exception as error:
        raise Unavailable(f"the function does not take complex numbers ({summarise_error(error)})") from None
    if [part.shape for part in parts] != [leaf.shape for leaf in binding.outputs]:
        raise Unavailable("the function returns another shape for complex numbers")
    if not any(np.iscomplexobj(part) for part in parts):
        raise Unavailable("the function drops the imaginary part")
    return parts


def differentiate_combination(
    function: Callable[..., Any], binding: Binding, point: F64, u: F64, members: Sequence[Member], combine: Callable[..., Any]
) -> F64:
    """Return the derivative of a combination of functions along a tangent u (N,), by the complex step, (M,)."""
    outputs = []
    for member, scales in members:
        factors = np.concatenate([np.full(leaf.entries, scale) for leaf, scale in zip(binding.leaves, scales, strict=True)])
        outputs.append(evaluate_complex(member or function, binding, point * factors, u * factors))
    totals = [np.imag(combine(*parts)).reshape(-1) for parts in zip(*outputs, strict=True)]
    return np.concatenate(totals) / COMPLEX_STEP

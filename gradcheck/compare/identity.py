"""The identity test: two sides that are equal in exact arithmetic may differ by rounding only.

It decides without differences whether a derivative is linear, symmetric or adjoint, and whether two ways to compute a value
agree. Some rounding is known in advance. What else may explain a difference is expensive to measure, so it is measured in
order, and only while a difference is left: how far rounding of the inputs moves the numbers, then how much precision is lost
inside the function (`conditioning`, `internal_precision`).
"""

from __future__ import annotations

from collections.abc import Callable
from types import EllipsisType
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.evidence import directions
from gradcheck.number_format import FLOAT16, FLOAT32

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gradcheck.evidence.line import F64

# The two sides of an identity may differ by this many units in the last place of the largest term, and by this many times the
# shift that rounding of the inputs causes. This allows for rounding that adds up over a function's operations.
ROUNDING_UNITS = 64.0

# Sums over all numbers of a derivative, in which the shifts partly cancel, are allowed this many times the shift.
SHIFTS_OF_SUM = 4.0

# () -> how far something may move the two sides apart.
Explanation = Callable[[], "F64 | float"]


def bound_round_off(eps: float, largest: F64 | float) -> F64 | float:
    """Bound the rounding of an identity whose terms, and outputs that may cancel in them, are at most this large.

    What is lost below the smallest number of the dtype is rounding too; any half precision may be float16.
    """
    smallest = FLOAT16.smallest_subnormal if eps > FLOAT32.eps else directions.smallest_subnormal(eps)
    return ROUNDING_UNITS * (eps * largest + smallest)


def bound_reordering(eps: float, largest: float) -> float:
    """Bound how far apart two computations of a number may be: half of the digits of the largest number agree."""
    return float(eps**0.5 * largest)


def explain_by_shift(
    measure: Callable[[], F64 | float],
    numbers: slice | EllipsisType = ...,
    *,
    largest: bool = False,
    times: float = ROUNDING_UNITS,
) -> Explanation:
    """Make the explanation that rounding of the inputs moves numbers.

    Args:
        measure: () -> the shift of each number, (n,), or of the only one.
        numbers: those that are compared.
        largest: whether the largest shift of them counts for each, as a few draws say little about a single number.
        times: how many times the measured shift is allowed.
    """

    def explain() -> F64 | float:
        shift = times * np.asarray(measure())[numbers]
        return float(np.max(shift, initial=0.0)) if largest else shift

    return explain


def explain_by_precision(measure: Callable[[], float], size: F64 | float) -> Explanation:
    """Make the explanation that the function loses precision inside: `measure` gives the loss relative to the terms' size."""
    return lambda: measure() * size


def bound_difference(difference: F64, allowed: F64 | float, *explanations: Explanation) -> F64 | float:
    """Return how far the sides may be apart: each explanation counts that is needed to explain the difference.

    Args:
        difference: of the two sides, (n,).
        allowed: the rounding that is known in advance.
        explanations: measured one after the other, until the difference is explained.
    """
    for measure in explanations:
        if not np.any(_is_larger(difference, allowed)):
            break
        allowed = allowed + measure()
    return allowed


def find_unexplained(difference: F64, allowed: F64 | float, *explanations: Explanation) -> int | None:
    """Return the position of the largest difference that nothing explains; None if all are explained. NaN is a difference."""
    allowed = bound_difference(difference, allowed, *explanations)
    is_larger = _is_larger(difference, allowed)
    if not np.any(is_larger):
        return None
    return int(np.argmax(np.where(is_larger, np.nan_to_num(difference, nan=np.inf) - np.nan_to_num(allowed, nan=0.0), -np.inf)))


def _is_larger(difference: F64, allowed: F64 | float) -> NDArray[np.bool_]:
    return np.asarray(np.nan_to_num(difference, nan=np.inf) > np.nan_to_num(allowed, nan=0.0, posinf=np.inf))

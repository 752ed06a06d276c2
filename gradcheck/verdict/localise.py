"""The way from a wrong sum down to a wrong entry."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def descend(size: int, disagreement: Callable[[slice], float]) -> int:
    """Halve the entries, keeping the half that disagrees more, down to one; about 2 log2(size) questions.

    Args:
        size: number of entries.
        disagreement: of the claim with the evidence along a random direction of some entries, in units of their error.
    """
    low, high = 0, size
    while high - low > 1:
        middle = (low + high) // 2
        left, right = slice(low, middle), slice(middle, high)
        low, high = (low, middle) if disagreement(left) >= disagreement(right) else (middle, high)
    return low

"""Bisection: from a sum that disagrees down to a single entry."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def find_wrong_entry(size: int, disagreement: Callable[[slice], float]) -> int:
    """Halve the entries, keeping the half that disagrees more, until one is left; asks about log2(size) questions.

    The disagreement of a claim with the evidence is linear in the direction, so that of the right half is the difference
    between the whole and the left half.

    Args:
        size: number of entries.
        disagreement: slice of entries -> disagreement of the claim with the evidence along a random direction that is kept on
            these entries and zero elsewhere.

    Returns:
        The entry's position.
    """
    low, high = 0, size
    total = disagreement(slice(low, high))
    while high - low > 1:
        middle = (low + high) // 2
        left = disagreement(slice(low, middle))
        right = total - left
        low, high, total = (low, middle, left) if abs(left) >= abs(right) else (middle, high, right)
    return low

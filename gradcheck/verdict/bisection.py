"""The way from a wrong sum down to a wrong entry, and from wrong entries up to the slice they fill."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def descend(size: int, disagreement: Callable[[slice], float]) -> int:
    """Halve the entries, keeping the half that disagrees more, down to one; about log2(size) questions.

    The disagreement of a claim with the evidence is linear in the direction, so that of the right half is what is left of
    the whole.

    Args:
        size: number of entries.
        disagreement: of the claim with the evidence along a random direction, kept on some entries and zero elsewhere.
    """
    low, high = 0, size
    whole = disagreement(slice(low, high))
    while high - low > 1:
        middle = (low + high) // 2
        left = disagreement(slice(low, middle))
        right = whole - left
        low, high, whole = (low, middle, left) if abs(left) >= abs(right) else (middle, high, right)
    return low

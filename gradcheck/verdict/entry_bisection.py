"""The descent from a sum that disagrees to a single wrong entry, along as few directions as possible."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

# A part holds the whole disagreement if the rest is at most this share of it.
MAX_REST = 0.05
# A window around the place that the weights point to has one in this many of the entries.
WINDOW_SHARE = 128
# It takes no more directions to halve fewer entries than this.
MIN_WINDOW_ENTRIES = 8
# A search tries at most this many windows that do not hold the whole disagreement.
MAX_MISSED_WINDOWS = 2
# Many entries disagree if after this many halvings no window held the whole disagreement.
MAX_MIXED_HALVINGS = 6


def rising_weights(size: int) -> NDArray[np.float64]:
    """Return the weights that distinguish the entries of a part, (n,): from 1/2 to 3/2."""
    return np.linspace(0.5, 1.5, size)


def find_wrong_entry(
    size: int,
    disagreement: Callable[[slice], float],
    weighted_disagreement: Callable[[slice], float],
    *,
    few_only: bool = False,
) -> tuple[int | None, bool]:
    """Narrow entries down to one that disagrees: about 8 questions for a single one of a million, log2(size) at most for many.

    The disagreement of a claim with the evidence is linear in the direction. So we ask for that of the left half only, and keep
    the half that disagrees more. If a half holds all of it, a single entry may be the cause. Then weights that rise along the
    part show its place, and we ask whether a small window around that place holds the whole disagreement.

    Args:
        size: number of entries.
        disagreement: slice of entries -> disagreement of the claim with the evidence along a random direction that is kept on
            these entries and zero elsewhere.
        weighted_disagreement: the disagreement along that direction multiplied by `rising_weights`.
        few_only: give up if many entries disagree.

    Returns:
        The entry's position, None if the search gave up; and whether a window shows that few entries disagree.
    """
    low, high, is_single, few, missed, halvings = 0, size, False, False, 0, 0
    total = disagreement(slice(low, high))
    while high - low > 1:
        if few_only and not few and halvings == MAX_MIXED_HALVINGS:
            return None, False
        if is_single and high - low >= MIN_WINDOW_ENTRIES and missed < MAX_MISSED_WINDOWS:
            window = _point_at(low, high, weighted_disagreement(slice(low, high)) / total)
            inside = disagreement(window)
            if abs(total - inside) <= MAX_REST * abs(inside):
                low, high, total, few = window.start, window.stop, inside, True
                continue
            missed += 1
        middle = (low + high) // 2
        left = disagreement(slice(low, middle))
        right = total - left
        is_single = total != 0 and min(abs(left), abs(right)) <= MAX_REST * abs(total)
        low, high, total = (low, middle, left) if abs(left) >= abs(right) else (middle, high, right)
        halvings += 1
    return low, few


def _point_at(low: int, high: int, mean_weight: float) -> slice:
    """Return the window around the entry of a part that has this weight."""
    share = min(max(mean_weight - 0.5, 0.0), 1.0) if math.isfinite(mean_weight) else 0.5
    place, reach = low + round(share * (high - low - 1)), (high - low) // (2 * WINDOW_SHARE)
    return slice(max(low, place - reach), min(high, place + reach + 1))

"""Plateaus: the steps at which a sequence of slopes has settled, by Lepskii's rule.

O. V. Lepskii, On a problem of adaptive estimation in Gaussian white noise, Theory Probab. Appl. 35 (1991), 454-466: take the
coarsest step whose interval meets the interval of every finer one. Coarse steps that agree with each other by accident
(an oscillating function, a pole nearby) are outvoted by the fine ones, whose wide intervals are honest.

All arrays are (J,): one number for each step, coarse to fine.
`reports/accuracy.md` measures how often bounds that rest on plateaus hold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.evidence.line import STEP_RATIO
from gradcheck.evidence.richardson import extrapolate
from gradcheck.evidence.smoothness import MIN_SIGNAL_TO_NOISE, MIN_VANISHED_TO_NOISE

if TYPE_CHECKING:
    from gradcheck.evidence.line import F64

# A plateau is this many successive steps that agree.
PLATEAU_STEPS = 3
# This many of the finest steps show where a sequence goes.
TAIL_STEPS = 6
# A slope that grows by more than this factor at every step is infinite at the primal.
MIN_DIVERGING_GROWTH = 1.2
# A slope that falls at every step to a share of itself that is near 1 has not settled. This bounds the share, and its spread
# over the steps.
MAX_UNSETTLED_RATIO, MAX_UNSETTLED_SPREAD = 0.98, 0.02
# A trend has no bound if each of its changes is more than this share of the one before.
MAX_TREND_RATIO = 0.8
# Slopes converge if each of their changes is at most this share of the one before.
MAX_CONVERGING_RATIO = 0.6


@dataclass(frozen=True)
class Plateau:
    """A value that several steps agree on, its bound, and the coarsest and finest of these steps."""

    value: float
    bound: float
    steps: tuple[float, float]


def find_plateau(h: F64, slopes: F64, radius: F64) -> Plateau | None:
    """Choose among the extrapolated differences by Lepskii's rule; None if no step will do.

    Args:
        h: the steps.
        slopes: central differences at these steps.
        radius: what noise may do to each of them.
    """
    if h.size < PLATEAU_STEPS + 1:
        return None
    value = extrapolate(slopes[1:], slopes[:-1], 2)
    radius = radius[1:]
    for j in range(value.size - PLATEAU_STEPS + 1):
        differences = np.abs(value[j] - value[j + 1 :])
        if np.all(differences <= radius[j] + radius[j + 1 :]):
            before = value[max(j + 1 - PLATEAU_STEPS, 0) : j + 1]
            trend = _bound_trend(before, float(differences[0] + radius[j] + radius[j + 1]))
            if not np.isfinite(trend):
                continue
            truncation = max(
                float(np.max(differences[: PLATEAU_STEPS - 1])), _sum_remaining_changes(value[j : j + PLATEAU_STEPS]), trend
            )
            return Plateau(float(value[j]), float(radius[j]) + truncation, (float(h[j + 1]), float(h[j + PLATEAU_STEPS])))
    return _find_converging(h, value, radius)


def find_one_sided_plateau(h: F64, difference: F64, noise: F64) -> Plateau | None:
    """Choose among the extrapolated slopes on one side of the primal; None if no step will do.

    Args:
        h: the steps.
        difference: f(x + h u) - f(x), or f(x) - f(x - h u).
        noise: noise of these differences.
    """
    # Without the term in h, one-sided slopes obey the same rule as central ones.
    slopes, radius = difference / h, noise / h
    extrapolated = extrapolate(slopes[1:], slopes[:-1], 1)
    return find_plateau(h[1:], extrapolated, 2 * radius[1:])


def have_two_slopes(h: F64, right: F64, left: F64, noise: F64) -> bool:
    """Whether the slopes on both sides differ by more than their bounds: a kink too small to stand out of the curvature.

    It finds kinks of 1e-10 to 3e-7 of the curvature, where the smallest that stand out are 1e-6 of it.
    """
    below, above = find_one_sided_plateau(h, left, noise), find_one_sided_plateau(h, right, noise)
    return below is not None and above is not None and abs(below.value - above.value) > below.bound + above.bound


def diverges(h: F64, side: F64, noise: F64) -> bool:
    """Whether the slope on one side grows at every step until the noise drowns it, though both sides may cancel: a cusp.

    A slope that is gone where it would still stand out was that over a jump further off. A slope also counts as diverging if
    it falls with a power of the step so small that no step comes near its limit, as that of x^1.1 at 0.
    """
    slopes, clear = np.abs(side / h), np.abs(side) > MIN_SIGNAL_TO_NOISE * noise
    last = int(np.flatnonzero(clear)[-1]) if clear.any() else 0
    gone = last + 1 < h.size and np.abs(side[last]) / STEP_RATIO > MIN_VANISHED_TO_NOISE * noise[last + 1]
    growing, falling = slopes[clear][-TAIL_STEPS:], slopes[np.abs(side) > noise][-TAIL_STEPS:]
    if not gone and growing.size == TAIL_STEPS and np.all(growing[1:] > MIN_DIVERGING_GROWTH * growing[:-1]):
        return True
    ratio = falling[1:] / falling[:-1]
    unsettled = ratio.size == TAIL_STEPS - 1 and np.all((ratio > MAX_CONVERGING_RATIO) & (ratio < MAX_UNSETTLED_RATIO))
    return bool(unsettled and np.ptp(ratio) < MAX_UNSETTLED_SPREAD)


def _sum_remaining_changes(window: F64) -> float:
    """Sum what is left of changes that go one way and shrink by less than they should: the rest of their geometric series."""
    first, second = np.diff(window)
    if first * second <= 0:
        return 0.0
    return float(abs(first) / (1 - min(second / first, MAX_TREND_RATIO)))


def _bound_trend(values: F64, max_next_change: float) -> float:
    """Bound what is left of a trend that the noise of finer steps may hide: infinite if it hardly shrinks.

    Args:
        values: the chosen value, last, and those before it.
        max_next_change: how far from the chosen value the next one may truly be.
    """
    if values.size < PLATEAU_STEPS:
        return 0.0
    first, second = np.diff(values)
    ratio = second / first if first else 0.0
    next_change = abs(second) * ratio
    if ratio <= 0 or next_change > max_next_change:  # such a trend would have shown at the next step, and did not
        return 0.0
    return np.inf if ratio > MAX_TREND_RATIO else float(next_change / (1 - ratio))


def _find_converging(h: F64, value: F64, radius: F64) -> Plateau | None:
    """Take the finest of slopes that still change with the step, but ever less.

    Such a derivative exists though it is not smooth, as that of |x| x at 0. Each change is at most MAX_CONVERGING_RATIO of the
    one before, so what is still to come is at most the last change over 1 - MAX_CONVERGING_RATIO.
    """
    changes = np.abs(np.diff(value[-TAIL_STEPS:]))
    if changes.size < TAIL_STEPS - 1:
        return None
    if np.any(changes[1:] > MAX_CONVERGING_RATIO * changes[:-1] + radius[-TAIL_STEPS + 2 :]):
        return None
    bound = float(2 * changes[-1] / (1 - MAX_CONVERGING_RATIO) + radius[-1])
    return Plateau(float(value[-1]), bound, (float(h[-2]), float(h[-1])))

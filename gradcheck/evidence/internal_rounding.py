"""Rounding that hides inside a function: float32 in the middle of float64 code, values rounded on the way.

At fine steps such a part stands still while the others move: the slope seen there is smooth, stable, and not the derivative.
What gives it away is that the slopes do not add up to the changes: of a continuous function the integral of the slope over a
stretch is the change over it (the fundamental theorem of calculus), here the change holds jumps that no slope shows.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.evidence import noise

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradcheck.evidence.line import F64, Phi, Setting

# How far on either side, and the step of the slopes along the way, in units of the finest: larger ones tell smaller slopes,
# smaller ones seldom meet a jump.
ATTEMPTS = ((0.0625, 2.0**8), (0.0537, 2.0**5), (0.0441, 2.0**8), (0.0037, 2.0**5), (0.00046, 2.0**8))
FEW, MANY = 4, 6  # places along the way: the two must agree on what is missing
UNITS = 8.0  # times half a unit in the last place: what rounding may do to a local slope
SHARE = 0.3  # of a disagreement: what the jumps must explain of it
SPACINGS = 2.0 ** np.arange(-28, -4, 2)  # at which the jumps are looked for
FARTHEST = noise.POINTS // 2 * float(SPACINGS[-1])
SAFE = 2.0  # the few jumps that are seen say little of their size
SAME = 8.0  # noise of rounding is the same within that factor at three spacings; what a kink or a curve leaves grows with them
MORE = 3.0  # times the noise known before: some of it may have been seen already
LOWER = {"float32": (2.0**-29, 2.0**-22), "half precision": (2.0**-15, 2.0**-6)}  # their noise, relative to the values


def name_of(relative: float, eps: float) -> str:
    """The precision below `eps` that noise of this size, relative to the values, looks like; '' where it looks like none."""
    return next((name for name, (low, high) in LOWER.items() if low <= relative < high and low > 64 * eps), "")


def explains(phi: Phi, setting: Setting, disagreement: F64) -> bool:
    """Whether jumps explain a disagreement with the slope seen at fine steps, (C,): the slopes do not add up to the changes.

    A jump that falls into one of the local slopes spoils the sum; so there are several attempts. Where something is missing,
    but not the same everywhere, as many follow with slopes that stand a jump each.
    """
    far = ATTEMPTS[0][0]
    moved = (phi(far) != setting.base) | (phi(-far) != setting.base)  # the other outputs' rounding is none of this line's
    # what was measured along other lines may be the hidden part itself: here the last bits must do
    last = UNITS * setting.combined(np.where(moved, setting.rounding(setting.base), 0.0)) / setting.finest
    share = SHARE * np.abs(disagreement)
    with np.errstate(all="ignore"):
        for slope in (_local, _local_without_a_jump):
            found = False
            for reach, local in ATTEMPTS:
                missing = _Stretch(phi, setting, reach, local * setting.finest, slope)
                everywhere = _missing_everywhere(missing, share + last / local)
                if everywhere:
                    return True
                found |= everywhere is None
            if not found:
                return False
    return False


def _missing_everywhere(stretch: _Stretch, least: F64) -> bool | None:
    """Whether some channel's slopes miss at least that much, (C,), on both sides, and as much by few places as by many.

    None where they do on one side, or by few places.
    """
    smallest, apart = np.full(least.shape, np.inf), np.zeros(least.shape)
    for side in (1.0, -1.0):
        by_few = stretch.missing(side, FEW)
        if not np.any(np.minimum(smallest, np.abs(by_few)) >= least):
            return False if side > 0 else None  # nothing that follows can make up for it
        by_many = stretch.missing(side, MANY)
        smallest = np.min([smallest, np.abs(by_few), np.abs(by_many)], axis=0)
        apart = np.maximum(apart, np.abs(by_few - by_many))
    return bool(np.any(smallest - apart >= least)) or None


def rounding(phi: Phi, setting: Setting, more: float = MORE) -> F64 | None:
    """The noise of hidden rounding, (M,), seen at coarser steps; None where it is no more."""
    with np.errstate(all="ignore"):
        found = levels(phi, setting.base)
        found = found if setting.coarsest is None else np.minimum(found, setting.coarsest)
        clear = setting.combined(found) > more * setting.combined(np.where(found > 0, setting.deviation, 0.0))
    return found if np.any(clear) else None


def levels(phi: Phi, base: F64) -> F64:
    """The noise of each output at coarse steps, (M,), where three spacings agree on it; else 0."""
    seen = np.stack([noise.like_rounding(phi, base, float(s)) for s in SPACINGS])
    windows = np.lib.stride_tricks.sliding_window_view(seen, 3, axis=0)
    same = np.max(windows, axis=-1) <= SAME * np.min(windows, axis=-1)
    return np.asarray(SAFE * np.max(np.where(same, np.max(windows, axis=-1), 0.0), axis=0))


@dataclass(frozen=True)
class _Stretch:
    """What is looked at around the primal: how far on either side, and the step and the kind of the slopes along the way."""

    phi: Phi
    setting: Setting
    reach: float
    step: float
    slope: Callable[[Phi, Setting, float, float], F64]

    def missing(self, side: float, count: int) -> F64:
        """The mean slope over the stretch on one side, less the mean of the slopes along it, (C,)."""
        nodes, weights = np.polynomial.legendre.leggauss(count)
        far = side * self.reach
        slopes = np.stack([self.slope(self.phi, self.setting, far * (node + 1) / 2, self.step) for node in nodes])
        change = self.setting.contract(self.phi(far) - self.setting.base) / far
        return np.asarray(change - (weights / 2) @ slopes)


def _local(phi: Phi, setting: Setting, t: float, h: float) -> F64:
    """The slope of each channel around a place, (C,)."""
    return np.asarray(setting.contract(phi(t + h) - phi(t - h)) / (2 * h))


def _local_without_a_jump(phi: Phi, setting: Setting, t: float, h: float) -> F64:
    """The same as the median of three in a row, which a single jump leaves alone."""
    values = [phi(t + k * h).copy() for k in (-3, -1, 1, 3)]
    return np.asarray(np.median([setting.contract(b - a) / (2 * h) for a, b in pairwise(values)], axis=0))

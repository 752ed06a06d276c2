"""Rounding that hides inside a function: float32 in the middle of float64 code, values rounded on the way.

At fine steps such a part stands still while the others move: the slope seen there is smooth, stable, and not the derivative.
What gives it away is that the slopes do not add up to the changes: of a continuous function the integral of the slope over a
stretch is the change over it (the fundamental theorem of calculus), here the change holds jumps that no slope shows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gradcheck.evidence import noise

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gradcheck.evidence.line import F64, Phi, Setting

# How far on either side, and the step of the slopes along the way, in units of the finest: larger ones tell smaller slopes,
# smaller ones seldom meet a jump.
ATTEMPTS = ((0.0625, 2.0**8), (0.0537, 2.0**5), (0.0441, 2.0**8), (0.0037, 2.0**5), (0.00046, 2.0**8))
FEW, MANY = 4, 6  # places along the way: the two must agree on what is missing
UNITS = 8.0  # times half a unit in the last place: what rounding may do to a local slope
SHARE = 0.3  # of a disagreement: what the jumps must explain of it
SPACINGS = 2.0 ** np.arange(-28, -4, 2)  # at which the jumps are looked for
SAFE = 2.0  # the few jumps that are seen say little of their size
SAME = 8.0  # noise of rounding is the same within that factor at three spacings; what a kink or a curve leaves grows with them
MORE = 3.0  # times the noise known before: some of it may have been seen already
LOWER = {"float32": (2.0**-29, 2.0**-22), "half precision": (2.0**-15, 2.0**-6)}  # their noise, relative to the values


def name_of(relative: float, eps: float) -> str:
    """The precision below `eps` that noise of this size, relative to the values, looks like; '' where it looks like none."""
    return next((name for name, (low, high) in LOWER.items() if low <= relative < high and low > 64 * eps), "")


def explains(phi: Phi, setting: Setting, disagreement: F64) -> bool:
    """Whether jumps explain a disagreement with the slope seen at fine steps, (C,): the slopes do not add up to the changes.

    A jump that falls into one of the local slopes spoils the sum; so there are several attempts.
    """
    # what was measured along other lines may be the hidden part itself: here the last bits must do
    last = UNITS * setting.combined(setting.rounding(setting.base)) / setting.finest
    share = SHARE * np.abs(disagreement)
    with np.errstate(all="ignore"):
        return any(_missing_everywhere(phi, setting, reach, local, share + last / local) for reach, local in ATTEMPTS)


def _missing_everywhere(phi: Phi, setting: Setting, reach: float, local: float, least: F64) -> bool:
    """Whether some channel's slopes miss at least that much, (C,), on both sides, and as much by few places as by many."""
    smallest, apart = np.full(least.shape, np.inf), np.zeros(least.shape)
    for side in (reach, -reach):
        by_few = _missing(phi, setting, side, FEW, local)
        if not np.any(np.minimum(smallest, np.abs(by_few)) >= least):
            return False  # nothing that follows can make up for it
        by_many = _missing(phi, setting, side, MANY, local)
        smallest = np.min([smallest, np.abs(by_few), np.abs(by_many)], axis=0)
        apart = np.maximum(apart, np.abs(by_few - by_many))
    return bool(np.any(smallest - apart >= least))


def rounding(phi: Phi, setting: Setting, more: float = MORE) -> F64 | None:
    """The noise of hidden rounding, (M,), seen at coarser steps; None where it is no more."""
    with np.errstate(all="ignore"):
        levels = np.stack([noise.like_rounding(phi, setting.base, float(s)) for s in SPACINGS])
        windows = np.lib.stride_tricks.sliding_window_view(levels, 3, axis=0)
        same = np.max(windows, axis=-1) <= SAME * np.min(windows, axis=-1)
        found = SAFE * np.max(np.where(same, np.max(windows, axis=-1), 0.0), axis=0)
        clear = setting.combined(found) > more * setting.combined(setting.deviation)
    return found if np.any(clear) else None


def _missing(phi: Phi, setting: Setting, reach: float, count: int, local: float) -> F64:
    """The mean slope over the stretch on one side, less the mean of the slopes along it, (C,)."""
    h = local * setting.finest
    nodes, weights = np.polynomial.legendre.leggauss(count)
    places = reach * (nodes + 1) / 2
    slopes: NDArray[np.float64] = np.stack([setting.contract(phi(t + h) - phi(t - h)) / (2 * h) for t in places])
    change = setting.contract(phi(reach) - setting.base) / reach
    return np.asarray(change - (weights / 2) @ slopes)

"""Rounding inside a function that fine steps do not show: float32 in the middle of float64 code, values rounded on the way.

At fine steps such a part stands still while the others move: the slope seen there is smooth, stable, and not the derivative.
What gives it away is that the slopes do not add up to the changes. For a continuous function the integral of the slope over a
stretch is the change over it, by the fundamental theorem of calculus. Here the change holds jumps that no slope shows.
`reports/accuracy.md` measures bounds and verdicts with this test in place.
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

# Each attempt is (reach, step): the length of the stretch on either side, in units of t, and the step of the local slopes, in
# units of the finest step. Larger steps resolve smaller slopes, smaller steps seldom meet a jump.
ATTEMPTS = ((0.0625, 2.0**8), (0.0537, 2.0**5), (0.0441, 2.0**8), (0.0037, 2.0**5), (0.00046, 2.0**8))
# The slope is integrated along a stretch with both numbers of quadrature nodes, which must agree on what is missing.
FEW_NODES, MANY_NODES = 4, 6
# Rounding may change the difference that a local slope is made of by this many half units in the last place.
LOCAL_SLOPE_HALF_ULPS = 8.0
# Jumps explain a disagreement if they make up at least this share of it.
MIN_EXPLAINED_SHARE = 0.3
# The noise of the jumps is measured at these spacings, in units of t.
COARSE_SPACINGS = 2.0 ** np.arange(-28, -4, 2)
# No point evaluated there lies further from the primal than this, in units of t.
MAX_REACH = noise.POINTS // 2 * float(COARSE_SPACINGS[-1])
# The few jumps that are seen say little about their size, so the noise is multiplied by this factor.
NOISE_SAFETY_FACTOR = 2.0
# The noise of rounding varies by less than this factor over three spacings. A kink or a curve grows by more.
MAX_SPACING_RATIO = 8.0
# A lower precision causes noise from the first number up to, but not including, the second, relative to the values.
LOWER_PRECISIONS = {"float32": (2.0**-29, 2.0**-22), "half precision": (2.0**-15, 2.0**-6)}
# The lowest noise of a lower precision must be more than this many times eps: closer precisions cannot be distinguished.
MIN_EPS_RATIO = 64.0


def name_precision(relative_noise: float, eps: float) -> str:
    """Name the precision below `eps` that noise of this size, relative to the values, looks like; '' if it looks like none."""
    return next(
        (name for name, (low, high) in LOWER_PRECISIONS.items() if low <= relative_noise < high and low > MIN_EPS_RATIO * eps),
        "",
    )


def explains_disagreement(phi: Phi, setting: Setting, disagreement: F64) -> bool:
    """Whether jumps explain a disagreement with the slope seen at fine steps, (C,): the slopes do not add up to the changes.

    A jump that falls into one of the local slopes corrupts the sum, so there are several attempts. If something is missing but
    not the same everywhere, as many attempts follow with slopes that tolerate a single jump each.
    """
    far = ATTEMPTS[0][0]
    # The rounding of outputs that do not move does not concern this line.
    moved = (phi(far) != setting.base) | (phi(-far) != setting.base)
    # The noise measured along other lines may be the internal rounding itself, so here the last bits must do.
    half_ulps = setting.contract_noise(np.where(moved, setting.half_ulp(setting.base), 0.0))
    slope_rounding = LOCAL_SLOPE_HALF_ULPS * half_ulps / setting.finest_step
    share = MIN_EXPLAINED_SHARE * np.abs(disagreement)
    with np.errstate(all="ignore"):
        for local_slope in (_local_slope, _median_local_slope):
            partly_missing = False
            for reach, step in ATTEMPTS:
                stretch = _Stretch(phi, setting, reach, step * setting.finest_step, local_slope)
                missing = _is_missing_everywhere(stretch, share + slope_rounding / step)
                if missing:
                    return True
                partly_missing |= missing is None
            if not partly_missing:
                return False
    return False


def _is_missing_everywhere(stretch: _Stretch, least: F64) -> bool | None:
    """Whether some channel's slopes miss at least that much, (C,), on both sides, and as much by few nodes as by many.

    None if they do so on one side only, or by few nodes only.
    """
    smallest, disagreement = np.full(least.shape, np.inf), np.zeros(least.shape)
    for side in (1.0, -1.0):
        by_few = stretch.missing_slope(side, FEW_NODES)
        if not np.any(np.minimum(smallest, np.abs(by_few)) >= least):
            return False if side > 0 else None  # nothing that follows can make up for it
        by_many = stretch.missing_slope(side, MANY_NODES)
        smallest = np.min([smallest, np.abs(by_few), np.abs(by_many)], axis=0)
        disagreement = np.maximum(disagreement, np.abs(by_few - by_many))
    return bool(np.any(smallest - disagreement >= least)) or None


def find_internal_noise(phi: Phi, setting: Setting, min_increase: float = 1.0) -> F64 | None:
    """Find the noise of internal rounding, (M,), at coarser steps; None if it is hardly more than the noise known before."""
    with np.errstate(all="ignore"):
        coarse_noise = measure_coarse_noise(phi, setting.base)
        coarse_noise = coarse_noise if setting.rounding_limit is None else np.minimum(coarse_noise, setting.rounding_limit)
        known_noise = np.where(coarse_noise > 0, setting.total_noise, 0.0)
        clear = setting.contract_noise(coarse_noise) > min_increase * setting.contract_noise(known_noise)
    return coarse_noise if np.any(clear) else None


def measure_coarse_noise(phi: Phi, base: F64) -> F64:
    """Measure the noise of each output at coarse steps, (M,), if three spacings in a row agree on it; else 0."""
    measured = np.stack([noise.estimate_rounding_noise(phi, base, float(spacing)) for spacing in COARSE_SPACINGS])
    windows = np.lib.stride_tricks.sliding_window_view(measured, 3, axis=0)
    agree = np.max(windows, axis=-1) <= MAX_SPACING_RATIO * np.min(windows, axis=-1)
    return np.asarray(NOISE_SAFETY_FACTOR * np.max(np.where(agree, np.max(windows, axis=-1), 0.0), axis=0))


@dataclass(frozen=True)
class _Stretch:
    """A part of a line around the primal, with the way to take local slopes along it.

    Attributes:
        phi: the line.
        setting: the setting of the line.
        reach: how far the stretch goes on either side, in units of t.
        step: the step of the local slopes, in units of t.
        local_slope: (phi, setting, t, h) -> the slope of each channel at t from steps of h, (C,).
    """

    phi: Phi
    setting: Setting
    reach: float
    step: float
    local_slope: Callable[[Phi, Setting, float, float], F64]

    def missing_slope(self, side: float, count: int) -> F64:
        """Compute the mean slope over the stretch on one side, less the mean of the local slopes along it, (C,)."""
        nodes, weights = np.polynomial.legendre.leggauss(count)
        far = side * self.reach
        slopes = np.stack([self.local_slope(self.phi, self.setting, far * (node + 1) / 2, self.step) for node in nodes])
        mean_slope = self.setting.contract(self.phi(far) - self.setting.base) / far
        return np.asarray(mean_slope - (weights / 2) @ slopes)


def _local_slope(phi: Phi, setting: Setting, t: float, h: float) -> F64:
    """Take the slope of each channel around a place, (C,)."""
    return np.asarray(setting.contract(phi(t + h) - phi(t - h)) / (2 * h))


def _median_local_slope(phi: Phi, setting: Setting, t: float, h: float) -> F64:
    """Take the slope of each channel around a place as the median of three in a row, (C,), which a single jump leaves alone."""
    values = [phi(t + k * h).copy() for k in (-3, -1, 1, 3)]
    return np.asarray(np.median([setting.contract(b - a) / (2 * h) for a, b in pairwise(values)], axis=0))

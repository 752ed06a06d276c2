"""The cheap estimate: Richardson-extrapolated central differences at two steps, with the bound that the two together give.

`reports/accuracy.md` measures how wide its bounds are and how often they hold.
"""

from __future__ import annotations

import math
from dataclasses import fields
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.evidence.line import MAX_UNSEEN_QUANTUM, STEP_RATIO, Slope, smooth_slope
from gradcheck.evidence.smoothness import MIN_SIGNAL_TO_NOISE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gradcheck.evidence.line import F64, Phi, Setting

# We look for a slope that fine steps do not show at this step, in each entry's scales, or at a coarser one.
CHORD_STEP = 2.0**-8
# Two steps whose ratio is smaller than this suit each other's outputs well enough, so that one of them is tried.
MIN_SEPARATE_RATIO = 8.0
# Noise above this, relative to the function's values, does not make the step any larger.
MAX_RELATIVE_NOISE = 1e-4
# This is the standard deviation of the extrapolated difference D4, in units of noise / step:
# sqrt((16/15)^2 + (1/60)^2) / sqrt(2).
EXTRAPOLATED_NOISE = 0.76
# A second difference like h^2 grows by 16 from one step to four times that. A rough one grows by less than this factor.
MIN_SMOOTH_GROWTH = 7.0


def choose_steps(setting: Setting, eps: float) -> tuple[float, ...]:
    """Choose the step that balances truncation and noise for the noisiest output; another for the quietest if far smaller.

    (3 noise / |phi'''|)^(1/3), taking |phi'''| for the size of the largest output.
    """
    largest = float(np.max(np.abs(setting.base), initial=0.0))
    extremes = (np.max(setting.total_noise, initial=0.0), np.min(setting.total_noise, initial=np.inf))
    for_loudest, for_quietest = (
        max(choose_step(float(noise) / largest if largest > 0 else eps, eps), setting.finest_step) for noise in extremes
    )
    return (for_loudest, for_quietest) if for_loudest >= MIN_SEPARATE_RATIO * for_quietest else (for_loudest,)


def choose_step(relative_noise: float, eps: float, power: float = 1 / 3) -> float:
    """Choose the power of two nearest to (3 noise)^power, for noise relative to the function's values."""
    return float(2.0 ** round(power * math.log2(3 * min(max(relative_noise, eps), MAX_RELATIVE_NOISE))))


def estimate_slopes(phi: Phi, setting: Setting, steps: tuple[float, ...]) -> Slope:
    """Estimate the channels' slopes from five evaluations a step; each channel takes the step that gives the tighter bound."""
    tightest = _estimate_at_step(phi, setting, steps[0])
    for step in steps[1:]:
        slope = _estimate_at_step(phi, setting, step)
        tighter = np.nan_to_num(slope.bound, nan=np.inf) < np.nan_to_num(tightest.bound, nan=np.inf)
        columns = {f.name: np.where(tighter, getattr(slope, f.name), getattr(tightest, f.name)) for f in fields(Slope)}
        tightest = Slope(**columns)
    return tightest


def _estimate_at_step(phi: Phi, setting: Setting, step: float) -> Slope:
    """Take central differences D at `step` and D' at four times that.

    The value is their extrapolation D4 = (16 D - D') / 15, which is free of the h^2 term. The bound is |D4 - D|, which is all
    of the h^2 term, plus the noise. A chord to a coarser step distinguishes a zero derivative from one that fell below the
    resolution of the function's values. If second differences do not fall like h^2, the slope is rough: there may be a kink.
    It is also rough if the function moves at larger steps only, as then its values may come in steps.
    """
    chord_step = max(CHORD_STEP, STEP_RATIO * step)
    with np.errstate(all="ignore"):
        near = [phi(step), phi(-step)]
        sides = [value - setting.base for value in (*near, phi(STEP_RATIO * step), phi(-STEP_RATIO * step))]
        chord = phi(chord_step) - setting.base
        moved = np.any([side != 0 for side in (*sides, chord)], axis=0)
        noise = setting.difference_noise(moved, step / chord_step)
        last_bits = setting.contract_noise(setting.half_ulp(np.fmax(*map(np.abs, near))))
        noise = setting.slack * np.fmax(noise, last_bits)
        right, left, far_right, far_left = (setting.contract(side) for side in sides)
        stands_still = (right == 0) & (left == 0)
        # It may have moved by less than its values show: by as much as they do at larger steps, if that may be their grid.
        quantum = np.fmax.reduce(np.abs([far_right, far_left, setting.contract(chord)]))
        quantum = np.where(stands_still & (quantum <= MAX_UNSEEN_QUANTUM * setting.channel_sizes), quantum, 0.0)
        hidden = np.where(stands_still, setting.slack * setting.contract_noise(setting.hidden_rounding), 0.0)
        noise = np.fmax.reduce([noise, hidden, quantum])
        slope = (right - left) / (2 * step)
        value = (STEP_RATIO**2 * slope - (far_right - far_left) / (2 * STEP_RATIO * step)) / (STEP_RATIO**2 - 1)
        bound = np.abs(value - slope) + EXTRAPOLATED_NOISE * noise / step
        nearby_slope = np.maximum(np.abs(setting.contract(chord)) / chord_step, np.abs(slope))
        rough = _is_rough(right + left, far_right + far_left, noise) | (quantum > 0)
    return smooth_slope(value, bound, nearby_slope, rough)


def _is_rough(near: F64, far: F64, noise: F64) -> NDArray[np.bool_]:
    """Mark the channels whose second differences at a step and at four times that do not behave like h^2."""
    visible = (np.abs(near) > MIN_SIGNAL_TO_NOISE * noise) & (np.abs(far) > MIN_SIGNAL_TO_NOISE * noise)
    return np.asarray(visible & (np.abs(far) < MIN_SMOOTH_GROWTH * np.abs(near)))

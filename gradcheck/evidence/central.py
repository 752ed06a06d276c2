"""The cheap estimate: central differences at two steps, with the bound that the two together give."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.evidence.line import RATIO, Slope, smooth

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gradcheck.evidence.line import F64, Phi, Setting

CHORD = 2.0**-8
APART = 8.0  # steps that differ by less serve each other's outputs well enough
DEVIATION = 0.76  # of D4 per noise / step: sqrt((16/15)^2 + (1/60)^2) / sqrt(2)
CLEAR = 4.0  # times the noise: a second difference beyond that is seen
SMOOTH = 7.0  # a second difference that grows by less from one step to four times that is no h^2, which grows by 16


def steps_for(setting: Setting, eps: float) -> tuple[float, ...]:
    """The step that balances truncation and noise for the noisiest output, and one for the quietest where that is far smaller.

    (3 noise / |phi'''|)^(1/3), taking |phi'''| for the size of the largest output.
    """
    largest = float(np.max(np.abs(setting.base), initial=0.0))
    noise = (np.max(setting.deviation, initial=0.0), np.min(setting.deviation, initial=np.inf))
    loud, quiet = (max(step_for(float(n) / largest if largest > 0 else eps, eps), setting.finest) for n in noise)
    return (loud, quiet) if loud >= APART * quiet else (loud,)


def step_for(relative: float, eps: float, power: float = 1 / 3) -> float:
    """The power of two nearest to (3 noise)^power, for noise relative to the function's values."""
    return float(2.0 ** round(power * math.log2(3 * min(max(relative, eps), 1e-4))))


def estimate(phi: Phi, setting: Setting, steps: tuple[float, ...]) -> Slope:
    """Estimate the channels' slopes from five evaluations a step; each channel takes the step that gives the tighter bound."""
    found = _at(phi, setting, steps[0])
    for step in steps[1:]:
        other = _at(phi, setting, step)
        tighter = np.nan_to_num(other.bound, nan=np.inf) < np.nan_to_num(found.bound, nan=np.inf)
        columns = {f.name: np.where(tighter, getattr(other, f.name), getattr(found, f.name)) for f in fields(Slope)}
        found = Slope(**columns)
    return found


def _at(phi: Phi, setting: Setting, step: float) -> Slope:
    """Central differences D at `step` and four times that.

    The value is their extrapolation D4 = (16 D - D') / 15, which is free of the h^2 term, and the bound is |D4 - D| (all of
    the h^2 term) plus the noise. A chord to a coarser step tells a zero derivative from one that fell below the resolution of
    the function's values. Second differences that do not fall like h^2 make the slope a rough one: there may be a kink.
    """
    coarse = max(CHORD, RATIO * step)
    with np.errstate(all="ignore"):
        near = [phi(step), phi(-step)]
        sides = [value - setting.base for value in (*near, phi(RATIO * step), phi(-RATIO * step))]
        chord = phi(coarse) - setting.base
        moved = np.any([side != 0 for side in (*sides, chord)], axis=0)
        noise = setting.channel_noise(moved, step / coarse)
        noise = setting.slack * np.fmax(noise, setting.combined(setting.rounding(np.fmax(*map(np.abs, near)))))
        right, left, far_right, far_left = (setting.contract(side) for side in sides)
        slope = (right - left) / (2 * step)
        value = (RATIO**2 * slope - (far_right - far_left) / (2 * RATIO * step)) / (RATIO**2 - 1)
        bound = np.abs(value - slope) + DEVIATION * noise / step
        nearby = np.maximum(np.abs(setting.contract(chord)) / coarse, np.abs(slope))
        rough = _rough(right + left, far_right + far_left, noise)
    return smooth(value, bound, nearby, rough)


def _rough(near: F64, far: F64, noise: F64) -> NDArray[np.bool_]:
    seen = (np.abs(near) > CLEAR * noise) & (np.abs(far) > CLEAR * noise)
    return np.asarray(seen & (np.abs(far) < SMOOTH * np.abs(near)))

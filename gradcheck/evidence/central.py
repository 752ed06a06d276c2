"""The cheap estimate: central differences at two steps, with the bound that the two together give."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.evidence.line import RATIO, Slope, smooth

if TYPE_CHECKING:
    from gradcheck.evidence.line import Phi, Setting

CHORD = 2.0**-8


def step_for(setting: Setting, eps: float) -> float:
    """The step that balances truncation and noise, (3 noise / |phi'''|)^(1/3), taking |phi'''| for the outputs' own size."""
    largest = float(np.max(np.abs(setting.base), initial=0.0))
    relative = float(np.max(setting.noise, initial=0.0)) / largest if largest > 0 else eps
    relative = min(max(relative, eps), 1e-4)
    return max(2.0 ** round(math.log2((3 * relative) ** (1 / 3))), setting.finest)


def estimate(phi: Phi, setting: Setting, step: float) -> Slope:
    """Estimate the channels' slopes from five evaluations.

    Central differences D at `step` and four times that; the value is their extrapolation D4 = (16 D - D') / 15, which is
    free of the h^2 term, and the bound is |D4 - D| (all of the h^2 term) plus the noise. A chord to a coarser step tells
    a zero derivative from one that fell below the resolution of the function's values.
    """
    coarse = max(CHORD, RATIO * step)
    with np.errstate(all="ignore"):
        near, far = phi(step) - phi(-step), phi(RATIO * step) - phi(-RATIO * step)
        chord = phi(coarse) - setting.base
        moved = (near != 0) | (far != 0) | (chord != 0)
        slope = setting.contract(near) / (2 * step)
        value = (RATIO**2 * slope - setting.contract(far) / (2 * RATIO * step)) / (RATIO**2 - 1)
        bound = np.abs(value - slope) + setting.slack * setting.channel_noise(moved, step / coarse) / step
        nearby = np.maximum(np.abs(setting.contract(chord)) / coarse, np.abs(slope))
    return smooth(value, bound, nearby)

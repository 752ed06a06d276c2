"""The briefest estimate: four or six evaluations a line, from which the noise is read too. It confirms, and can do no more."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.evidence.central import DEVIATION, step_for
from gradcheck.evidence.line import RATIO

if TYPE_CHECKING:
    from gradcheck.evidence.line import F64, Setting

TWO, THREE = 2, 3  # steps, each RATIO times the one before
EVALUATIONS = 2 * (THREE + TWO)  # along a sharp line and a plain one
SUSPECT = 32.0  # times the rounding: what is louder may be a kink
POWERS = {TWO: 1 / 3, THREE: 1 / 5}  # of the noise: where it balances what is left of the truncation
KEPT = {  # noise of what is left of the second differences, in that of one evaluation
    TWO: math.sqrt(2 * (1 + RATIO**-4) + 4 * (1 - RATIO**-2) ** 2),
    THREE: math.sqrt(2 * (1 + (RATIO**-2 + RATIO**-4) ** 2 + RATIO**-12) + 4 * (1 - RATIO**-2 - RATIO**-4 + RATIO**-6) ** 2),
}


Floor = Callable[[float], "F64"]


@dataclass(frozen=True)
class Brief:
    """Slopes of some channels along a line, (C,), bounds of their errors, and the noise of one evaluation.

    A kink counts as noise, and makes the bound as wide as the slopes differ; off the domain the bound is NaN.
    """

    value: F64
    bound: F64
    noise: F64


def sharp(phi: Callable[[float], F64], relative: float, eps: float, floor: Floor, slack: float) -> Brief:
    """Slopes from three steps; from two, which reach less far, where that is sharper because of what is not smooth."""
    found = _estimate(phi, THREE, relative, eps, floor, slack)
    if np.all(found.noise <= SUSPECT * floor(1.0)):
        return found
    near = plain(phi, relative, eps, floor, slack)
    with np.errstate(all="ignore"):
        better = ~(found.bound <= near.bound)
    return Brief(**{f.name: np.where(better, getattr(near, f.name), getattr(found, f.name)) for f in fields(Brief)})


def of_outputs(values: Callable[[float], F64], setting: Setting, ask: Callable[..., Brief]) -> Brief:
    """Slopes of a setting's channels, (L, C), along lines t -> outputs (L, M), by `sharp` or `plain`.

    An output counts with its noise where it moves.
    """
    moved = np.zeros((1, setting.base.size), dtype=bool)

    def changes(t: float) -> F64:
        nonlocal moved
        change = values(t) - setting.base
        moved = moved | (change != 0)
        return np.stack([setting.contract(one) for one in change])

    def floor(share: float) -> F64:
        return np.stack([setting.channel_noise(one, share) for one in moved])

    largest = float(np.max(np.abs(setting.base), initial=0.0))
    relative = float(np.max(setting.deviation, initial=0.0)) / largest if largest > 0 else 0.0
    return ask(changes, relative, setting.eps, floor, setting.slack)


def plain(phi: Callable[[float], F64], relative: float, eps: float, floor: Floor, slack: float) -> Brief:
    """Slopes from two steps.

    Args:
        phi: t -> the channels of f(x + t u) - f(x), (C,).
        relative: noise of an evaluation, relative to the values.
        eps: relative spacing of floats in the precision of the function.
        floor: noise of each channel, (C,), at least; of the finest step over the coarsest, asked once all is evaluated.
        slack: how many standard deviations of noise a bound allows for.
    """
    return _estimate(phi, TWO, relative, eps, floor, slack)


def _estimate(phi: Callable[[float], F64], steps: int, relative: float, eps: float, floor: Floor, slack: float) -> Brief:
    """Slopes from differences at two or three steps h, 4h, 16h.

    With D and S the central and the second differences at each, D4 = (16 D - D') / 15 is free of the h^2 term. The bound is
    |D4 - D|, all of that term, or of three steps |D4 - D4'|, all of the h^4 term; plus the noise. What is left of the second
    differences once curvature is taken out, S - S' / 16 and of three steps its h^4 term as well, is noise, or a kink.
    """
    balance = step_for(relative, eps, POWERS[steps])
    h = [balance * RATIO ** (k + TWO - steps) for k in range(steps)]
    with np.errstate(all="ignore"):
        sides = [(phi(t), phi(-t)) for t in h]
        slopes = [(right - left) / (2 * t) for (right, left), t in zip(sides, h, strict=True)]
        second = [right + left for right, left in sides]
        better = [(RATIO**2 * a - b) / (RATIO**2 - 1) for a, b in pairwise(slopes)]
        left = [a - b / RATIO**2 for a, b in pairwise(second)]
        other = slopes[0] if steps == TWO else better[1]
        rest = left[0] if steps == TWO else left[0] - left[1] / RATIO**4
        rounding = 0.5 * eps * np.maximum(*map(np.abs, sides[0]))
        noise = np.maximum(np.maximum(floor(h[0] / h[-1]), rounding), np.abs(rest) / KEPT[steps])
        bound = np.abs(better[0] - other) + DEVIATION * slack * noise / h[0]
    return Brief(better[0], bound, noise)

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
EVALUATIONS = 2 * (THREE + TWO)  # at least, along a sharp line and one like it
SUSPECT = 32.0  # times the rounding: what is louder may be a kink
SPREAD = 64.0  # times the h^4 term of one line: another's is hardly ever larger
FADES = 4.0  # times closer than D and D' are D4 and D4' where there is an order
CLEAR = 16.0  # times what noise may take them apart
SINGLE = 4.0  # times the noise where it is read from one number alone, which may be small by chance
POWERS = {TWO: 1 / 3, THREE: 1 / 5}  # of the noise: where it balances what is left of the truncation
KEPT = {  # noise of what is left of the second differences, in that of one evaluation
    TWO: math.sqrt(2 * (1 + RATIO**-4) + 4 * (1 - RATIO**-2) ** 2),
    THREE: math.sqrt(2 * (1 + (RATIO**-2 + RATIO**-4) ** 2 + RATIO**-12) + 4 * (1 - RATIO**-2 - RATIO**-4 + RATIO**-6) ** 2),
}


Floor = Callable[[float], "F64"]


@dataclass(frozen=True)
class Brief:
    """Slopes of some channels along a line, (C,), bounds of their errors, and the noise of one evaluation.

    What is left of the second differences once curvature is taken out, S - S' / 16 and of three steps its h^4 term as well,
    is noise. A kink counts as noise, and makes the bound as wide as the slopes differ; off the domain the bound is NaN.

    Attributes:
        fourth: the h^4 term at the finest step; NaN where it was not seen.
    """

    value: F64
    bound: F64
    noise: F64
    fourth: F64


def sharp(phi: Callable[[float], F64], relative: float, eps: float, floor: Floor, slack: float) -> Brief:
    """Slopes from three steps h, 4h and 16h; from two, which reach less far, where that is sharper as it is not smooth.

    D6 = (256 D4 - D4') / 255 is free of the h^4 term as well, and the bound is |D6 - D4|, all of that term, plus the noise.
    Where D4 and D4' do not lie far closer to each other than the differences they are made of, as at a cusp, or hardly further
    apart than noise may take them, no such order was seen, and the bound is all that they are apart.
    """
    h = finest(THREE, relative, eps)
    slopes, second, rounding = _differences(phi, (h, RATIO * h, RATIO**2 * h), eps)
    fine, coarse = (_extrapolated(a, b, 2) for a, b in pairwise(slopes))
    value = _extrapolated(fine, coarse, 4)
    with np.errstate(all="ignore"):
        left = [a - b / RATIO**2 for a, b in pairwise(second)]
        least = np.maximum(floor(RATIO**-2), rounding)
        noise = np.maximum(least, np.abs(left[0] - left[1] / RATIO**4) / KEPT[THREE])
        blurred = noise_bound(noise, h, slack)
        apart = np.abs(fine - coarse)
        ordered = (FADES * apart <= np.abs(slopes[0] - slopes[1])) & (apart > CLEAR * blurred)
        fourth = np.where(ordered, np.abs(value - fine), apart)
        bound = fourth + np.where(ordered, SINGLE, 1.0) * blurred
    quiet = np.fmin(noise, np.maximum(least, np.abs(left[0]) / KEPT[TWO]))  # what is not smooth only adds to either
    found = Brief(value, bound, quiet, fourth)
    if np.all(noise <= SUSPECT * floor(1.0)):
        return found
    near = plain(phi, relative, eps, floor, slack)
    with np.errstate(all="ignore"):
        better = ~(found.bound <= near.bound)
    chosen = {f.name: np.where(better, getattr(near, f.name), getattr(found, f.name)) for f in fields(Brief)}
    return Brief(**{**chosen, "noise": np.fmin(near.noise, found.noise)})


def like(first: Brief, phi: Callable[[float], F64], relative: float, eps: float, floor: Floor, slack: float) -> Brief:
    """Slopes from two steps along a line like another that is known sharply.

    The h^4 term is taken to be at most SPREAD times that of the other: this can only confirm, and hardly ever is one sum of
    random signs so much larger than another of the same terms. Where the other's was not seen as `plain`.
    """
    if not np.all(np.isfinite(first.fourth)):
        return plain(phi, relative, eps, floor, slack)
    h = finest(THREE, relative, eps) / RATIO
    slopes, second, rounding = _differences(phi, (h, RATIO * h), eps)
    with np.errstate(all="ignore"):
        rest = np.fmin(first.noise, np.abs(second[0] - second[1] / RATIO**2) / KEPT[TWO])
        noise = np.maximum(np.maximum(floor(1 / RATIO), rounding), rest)
        bound = SPREAD / RATIO**4 * first.fourth + noise_bound(noise, h, slack)
    return Brief(_extrapolated(slopes[0], slopes[1], 2), bound, noise, first.fourth)


def plain(phi: Callable[[float], F64], relative: float, eps: float, floor: Floor, slack: float) -> Brief:
    """Slopes from two steps h and 4h: D4 = (16 D - D') / 15, free of the h^2 term.

    The bound is |D4 - D|, all of that term, plus the noise.

    Args:
        phi: t -> the channels of f(x + t u) - f(x), (C,).
        relative: noise of an evaluation, relative to the values.
        eps: relative spacing of floats in the precision of the function.
        floor: noise of each channel, (C,), at least; of the finest step over the coarsest, asked once all is evaluated.
        slack: how many standard deviations of noise a bound allows for.
    """
    h = finest(TWO, relative, eps)
    slopes, second, rounding = _differences(phi, (h, RATIO * h), eps)
    value = _extrapolated(slopes[0], slopes[1], 2)
    with np.errstate(all="ignore"):
        rest = second[0] - second[1] / RATIO**2
        noise = np.maximum(np.maximum(floor(1 / RATIO), rounding), np.abs(rest) / KEPT[TWO])
        bound = np.abs(value - slopes[0]) + noise_bound(noise, h, slack)
    return Brief(value, bound, noise, np.full_like(value, np.nan))


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


def finest(steps: int, relative: float, eps: float) -> float:
    """The least step of an estimate from so many."""
    return step_for(relative, eps, POWERS[steps]) * RATIO ** (TWO - steps)


def noise_bound(noise: F64, step: float, slack: float) -> F64:
    """What noise leaves in a slope."""
    return DEVIATION * slack * noise / step


def _differences(phi: Callable[[float], F64], steps: tuple[float, ...], eps: float) -> tuple[list[F64], list[F64], F64]:
    """At each step the central differences and the second ones, these not divided; and the rounding at the first."""
    with np.errstate(all="ignore"):
        sides = [(phi(t), phi(-t)) for t in steps]
        slopes = [(right - left) / (2 * t) for (right, left), t in zip(sides, steps, strict=True)]
        return slopes, [right + left for right, left in sides], 0.5 * eps * np.maximum(*map(np.abs, sides[0]))


def _extrapolated(fine: F64, coarse: F64, power: int) -> F64:
    """From slopes at h and 4h one that is free of the term in h^power."""
    with np.errstate(all="ignore"):
        return np.asarray((RATIO**power * fine - coarse) / (RATIO**power - 1))

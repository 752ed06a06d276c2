"""How far the function's values are off: ECnoise.

J. J. Moré and S. M. Wild, Estimating Computational Noise, SIAM J. Sci. Comput. 33 (2011), 1292-1314.

`reports/accuracy.md` measures, for known noise, how often bounds that rest on this measurement hold.
"""

from __future__ import annotations

from math import factorial
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gradcheck.evidence.line import F64, Phi

# Differences are taken of this many equally spaced points.
POINTS = 7
# Outputs that stand still at fine spacings are looked at again at this step, in each entry's scales.
COARSE_STEP = 2.0**-8
# Outputs whose values come in steps stand still at no fewer than this many of the four places that are looked at there.
MIN_STILL_PLACES = 3
# The noise of values that come in steps is measured at spacings up to this one, in each entry's scales.
MAX_SPACING = 2.0**-10
# The spacing grows to that width in this many stages, by the same factor each time.
WIDENINGS = 3
# Three consecutive levels agree on the noise if the largest is at most this many times the smallest.
MAX_LEVEL_RATIO = 4.0
# Levels from this one on are nearly free of the function's smooth part.
FIRST_FREE_LEVEL = 2
# Noise of at most this many units in the last place of the largest output is round-off.
MAX_ROUND_OFF_ULPS = 4.0
# Each spacing is (power, factor): factor times the finest step to that power. The second and third are wider, and none is a
# power of two.
SPACINGS = ((0.875, 1.17), (1.0, 1.0), (0.75, 1.37))


def measure_noise(
    phi: Phi, base: F64, finest_step: float, eps: float, *, spacings: int = len(SPACINGS), rounding_limit: F64 | None = None
) -> F64:
    """Measure the standard deviation of the evaluation error of each output, (M,), from twelve evaluations a spacing.

    The k-th differences of a smooth function vanish like spacing^k, those of noise do not: level k estimates
    sigma_k^2 = (k!)^2/(2k)! mean(T_k^2). The first level that agrees with the next two within a factor of 4 and changes
    sign is taken. The quieter of the two sides of the primal counts, since a kink or a jump lies on one of them.

    The spacing is made odd: at a power of two the points may all lie on the grid of the values, and show no rounding at all.
    Other spacings count if they show noise clearly. Among many outputs some are by accident on their grid at each of these;
    those that show no noise are compared with the straight line to a point further off. Some outputs stand still at these
    spacings, here and at a distance, although they move at a coarse step. Their values come in steps, as they are rounded or
    computed in a lower precision, so they are measured again further apart. The result is never less than half an ulp of the
    output.

    Args:
        phi: the line, along a direction that moves every entry.
        base: phi(0).
        finest_step: the smallest step t that displaces the primal exactly; spacings are near it.
        eps: relative spacing of floats in the precision the function computes in.
        spacings: number of spacings; few inputs can be on the grid of the values at one of them by accident, many cannot.
        rounding_limit: the largest error that rounding can cause in each output, (M,): more is a jump, and no noise. None if
            it is unknown.
    """
    limit = np.full(base.shape, np.inf) if rounding_limit is None else rounding_limit
    spacing, *others, far = (factor * finest_step**power for power, factor in SPACINGS)
    with np.errstate(all="ignore"):
        samples = [_evaluate_both_sides(phi, base, s) for s in (spacing, *others, far)[:spacings]]
        noise = np.fmax.reduce([_quieter_side(sides, clear_only=k > 0) for k, sides in enumerate(samples)])
        line_deviation = _deviation_from_line(phi, samples[0], spacing, (POINTS - 1) * far)
        noise = _raise_to_line_deviation(noise, line_deviation, base, eps)
        still = np.all([_stands_still(sides) for sides in samples], axis=0)
        stepped = _moves_in_steps(phi, base, still, spacing) if still.any() else still
        widening = (MAX_SPACING / spacing) ** (1 / WIDENINGS)
        for _ in range(WIDENINGS if stepped.any() else 0):
            spacing *= widening
            sides = _evaluate_both_sides(phi, base, spacing)
            wider_noise = _quieter_side(sides)
            noise = np.where(stepped & (wider_noise <= limit), wider_noise, noise)
            stepped &= _stands_still(sides)
            if not stepped.any():
                break
        half_ulp = 0.5 * eps * np.abs(base)
    noise = np.minimum(np.nan_to_num(noise, posinf=0.0), limit)
    return np.asarray(np.maximum(noise, np.nan_to_num(half_ulp, posinf=0.0)))


def estimate_rounding_noise(phi: Phi, base: F64, spacing: float) -> F64:
    """Estimate the noise of each output at one spacing, (M,): what the higher differences agree on; 0 if they do not agree.

    The differences of a smooth function do not agree with each other.
    """
    middle = POINTS // 2
    levels, _ = _difference_levels(np.stack([base if k == middle else phi((k - middle) * spacing) for k in range(POINTS)]))
    windows = [levels[k : k + 3] for k in range(FIRST_FREE_LEVEL, levels.shape[0] - 2)]
    agree = np.any([_levels_agree(window) for window in windows], axis=0)
    return np.where(agree, np.median(levels[FIRST_FREE_LEVEL:], axis=0), 0.0)


def measure_spread(phi: Phi, base: F64, repeats: int = 4) -> F64:
    """Measure the range of each output over repeated evaluations at the primal, (M,): noise of a random function."""
    values = np.stack([base, *(phi(0.0) for _ in range(repeats))])
    return np.asarray(np.ptp(values, axis=0))


def _moves_in_steps(phi: Phi, base: F64, still: NDArray[np.bool_], spacing: float) -> NDArray[np.bool_]:
    """Mark the outputs that stand still at most places but move from one place to another, unlike a flat branch at a kink."""
    places = (COARSE_STEP, -COARSE_STEP, COARSE_STEP / 8, -COARSE_STEP / 8)
    values = [phi(place) for place in places]
    still_places = np.sum([phi(p + POINTS / 2 * spacing) == v for p, v in zip(places, values, strict=True)], axis=0)
    return np.asarray(still & (still_places >= MIN_STILL_PLACES) & ((values[0] != base) | (values[1] != base)))


def _evaluate_both_sides(phi: Phi, base: F64, spacing: float) -> F64:
    """Evaluate at the primal and at equal spacings on its right and on its left, (2, 7, M)."""
    return np.stack([[base, *(phi(k * step) for k in range(1, POINTS))] for step in (spacing, -spacing)])


def _quieter_side(sides: F64, *, clear_only: bool = False) -> F64:
    """Read the noise on the quieter side, (M,); with `clear_only`, 0 if no levels agree, instead of the likeliest noise."""
    return np.asarray(np.fmin(*(_choose_level(*_difference_levels(values), clear_only=clear_only) for values in sides)))


def _stands_still(sides: F64) -> NDArray[np.bool_]:
    """Mark the outputs that did not move on one side: the primal may lie next to a step of their values."""
    return np.asarray(np.any(np.all(sides == sides[:, :1], axis=1), axis=0))


def _deviation_from_line(phi: Phi, sides: F64, spacing: float, far: float) -> F64:
    """Compute how far the values are off the straight line to the point `far`, on the louder side, (M,)."""
    steps = spacing * np.arange(POINTS)[:, None]
    deviations = [
        values - values[0] - steps * (phi(sign * far) - values[0]) / far for sign, values in zip((1, -1), sides, strict=True)
    ]
    return np.asarray(np.fmax(*np.sqrt(np.mean(np.square(deviations), axis=1))))


def _raise_to_line_deviation(noise: F64, line_deviation: F64, base: F64, eps: float) -> F64:
    """Raise the noise of outputs that showed none to their deviation from the line, if that may be round-off."""
    size = np.abs(base)
    largest = np.max(size, initial=0.0, where=np.isfinite(size))
    round_off = line_deviation <= MAX_ROUND_OFF_ULPS * eps * largest
    return np.where((noise <= 0.5 * eps * size) & round_off, np.fmax(noise, line_deviation), noise)


def _difference_levels(values: F64) -> tuple[F64, NDArray[np.bool_]]:
    """Estimate the noise from the differences of each order, and whether those change sign, (6, M) each."""
    table, levels, changes = values, [], []
    for k in range(1, POINTS):
        table = np.diff(table, axis=0)
        weight = factorial(k) ** 2 / factorial(2 * k)
        levels.append(np.sqrt(weight * np.mean(table**2, axis=0)))
        changes.append(np.any(table[:-1] * table[1:] < 0, axis=0))
    return np.stack(levels), np.stack(changes)


def _levels_agree(window: F64) -> NDArray[np.bool_]:
    """Mark the outputs whose noise is nearly the same at all levels of a window."""
    return np.asarray(window.max(axis=0) <= MAX_LEVEL_RATIO * window.min(axis=0))


def _choose_level(levels: F64, changes: NDArray[np.bool_], *, clear_only: bool) -> F64:
    """Take the first level that agrees with the next two and changes sign; the likeliest noise if there is none."""
    likeliest = np.median(levels[FIRST_FREE_LEVEL:], axis=0)
    noise = np.zeros(likeliest.shape) if clear_only else likeliest
    for k in range(levels.shape[0] - 3, -1, -1):
        noise = np.where(_levels_agree(levels[k : k + 3]) & changes[k], levels[k], noise)
    return noise

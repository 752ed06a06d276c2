"""Richardson extrapolation: central differences at steps h, 4h, ..., combined so that their leading error terms cancel.

There are two kinds of estimate. `estimate_slopes` takes the noise as measured, and sees at once what is not smooth. The others
take four or six evaluations a line and read the noise from these: they can confirm a claim, and do no more.
`reports/accuracy.md` measures how wide the bounds of the first kind are and how often they hold, and `reports/detection.md`
which faults the checks of all leaves at once and of groups of entries catch with the second.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from gradcheck.evidence.line import MAX_DEGREE, MAX_UNSEEN_QUANTUM, STEP_RATIO, Slope, smooth_slope
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
# An estimate with its own noise takes two or three steps, each STEP_RATIO times the one before.
TWO_STEPS, THREE_STEPS = 2, 3
# A pair of lines takes at least this number of evaluations: the first is estimated from three steps, a similar one from two.
MIN_EVALUATIONS = 2 * (THREE_STEPS + TWO_STEPS)
# Noise of more than this many times the rounding may be a kink.
MAX_SMOOTH_NOISE = 32.0
# The h^4 term of one of two similar lines is hardly ever more than this many times that of the other.
MAX_SIMILAR_RATIO = 64.0
# If the function shows an order, D4 and D4' are at least this many times closer to each other than D and D'.
MIN_ORDER_GAIN = 4.0
# The order is visible if |D4 - D4'| is at least this many times the error that noise may cause.
MIN_ORDER_TO_NOISE = 16.0
# Noise that is read from a single number may be small by chance, so its bound is multiplied by this factor.
SINGLE_READING_FACTOR = 4.0
# A step balances noise and what is left of the truncation error at this power of the noise.
STEP_POWERS = {TWO_STEPS: 1 / 3, THREE_STEPS: 1 / 5}
# This is the noise of what is left of the second differences once the function's terms are taken out, over that of one
# evaluation.
REMAINDER_NOISE = {
    TWO_STEPS: math.sqrt(2 * (1 + STEP_RATIO**-4) + 4 * (1 - STEP_RATIO**-2) ** 2),
    THREE_STEPS: math.sqrt(
        2 * (1 + (STEP_RATIO**-2 + STEP_RATIO**-4) ** 2 + STEP_RATIO**-12)
        + 4 * (1 - STEP_RATIO**-2 - STEP_RATIO**-4 + STEP_RATIO**-6) ** 2
    ),
}

AnyEstimate = TypeVar("AnyEstimate", Slope, "RichardsonEstimate")
# It takes the share of the finest step in the coarsest, and returns the least noise of each channel, (C,). It is called once
# all is evaluated.
NoiseFloor = Callable[[float], "F64"]


@dataclass(frozen=True)
class RichardsonEstimate:
    """Slopes of some channels along a line, bounds of their errors, and the noise of one evaluation, (C,) each.

    The noise is what is left of the second differences once curvature is taken out: S - S' / 16, and with three steps the h^4
    term as well. A kink counts as noise, and makes the bound as wide as the slopes differ; off the domain the bound is NaN.

    Attributes:
        value: the estimated slopes.
        bound: bounds of their errors.
        noise: noise of one evaluation.
        fourth_order_term: the h^4 term at the finest step; NaN if it was not seen.
    """

    value: F64
    bound: F64
    noise: F64
    fourth_order_term: F64


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
        tightest = _choose_by_channel(tighter, slope, tightest)
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
        value = extrapolate(slope, (far_right - far_left) / (2 * STEP_RATIO * step), 2)
        bound = np.abs(value - slope) + noise_bound(noise, step)
        far_chord = np.fmax(np.abs(far_right), np.abs(far_left)) / (STEP_RATIO * step)
        coarse_chord = np.abs(setting.contract(chord)) / chord_step
        # Far away, an exponential may be steeper by any amount, which says nothing of its slope here.
        says_nothing = (far_chord > 0) & (coarse_chord > far_chord * (chord_step / (STEP_RATIO * step)) ** MAX_DEGREE)
        nearby_slope = np.fmax.reduce([np.where(says_nothing, far_chord, coarse_chord), np.abs(slope)])
        rough = _is_rough(right + left, far_right + far_left, noise) | (quantum > 0)
    return smooth_slope(value, bound, nearby_slope, rough)


def _is_rough(near: F64, far: F64, noise: F64) -> NDArray[np.bool_]:
    """Mark the channels whose second differences at a step and at four times that do not behave like h^2."""
    visible = (np.abs(near) > MIN_SIGNAL_TO_NOISE * noise) & (np.abs(far) > MIN_SIGNAL_TO_NOISE * noise)
    return np.asarray(visible & (np.abs(far) < MIN_SMOOTH_GROWTH * np.abs(near)))


def estimate_from_three_steps(
    phi: Callable[[float], F64], relative_noise: float, eps: float, noise_floor: NoiseFloor, slack: float
) -> RichardsonEstimate:
    """Estimate slopes from three steps h, 4h and 16h; from two, which reach less far, where the function is not smooth.

    D6 = (256 D4 - D4') / 255 is free of the h^4 term too, and the bound is |D6 - D4|, all of that term, plus the noise.
    No such order was seen in two cases, and then the bound is the whole of |D4 - D4'|: D4 and D4' do not lie far closer to
    each other than the differences they are made of, as at a cusp. Or they lie hardly further apart than noise may take them.

    The arguments are those of `estimate_from_two_steps`.
    """
    h = smallest_step(THREE_STEPS, relative_noise, eps)
    slopes, second, rounding = _take_differences(phi, (h, STEP_RATIO * h, STEP_RATIO**2 * h), eps)
    fine, coarse = (extrapolate(a, b, 2) for a, b in pairwise(slopes))
    value = extrapolate(fine, coarse, 4)
    with np.errstate(all="ignore"):
        remainders = [a - b / STEP_RATIO**2 for a, b in pairwise(second)]
        min_noise = np.maximum(noise_floor(STEP_RATIO**-2), rounding)
        noise = np.maximum(min_noise, np.abs(remainders[0] - remainders[1] / STEP_RATIO**4) / REMAINDER_NOISE[THREE_STEPS])
        noise_error = noise_bound(noise, h, slack)
        difference = np.abs(fine - coarse)
        converges = MIN_ORDER_GAIN * difference <= np.abs(slopes[0] - slopes[1])
        ordered = converges & (difference > MIN_ORDER_TO_NOISE * noise_error)
        fourth_order_term = np.where(ordered, np.abs(value - fine), difference)
        bound = fourth_order_term + np.where(ordered, SINGLE_READING_FACTOR, 1.0) * noise_error
    # What is not smooth only adds to either reading of the noise, so the smaller one is nearer to the truth.
    quieter = np.fmin(noise, np.maximum(min_noise, np.abs(remainders[0]) / REMAINDER_NOISE[TWO_STEPS]))
    from_three = RichardsonEstimate(value, bound, quieter, fourth_order_term)
    if np.all(noise <= MAX_SMOOTH_NOISE * noise_floor(1.0)):
        return from_three
    from_two = estimate_from_two_steps(phi, relative_noise, eps, noise_floor, slack)
    with np.errstate(all="ignore"):
        two_are_better = ~(from_three.bound <= from_two.bound)
    better = _choose_by_channel(two_are_better, from_two, from_three)
    return replace(better, noise=np.fmin(from_two.noise, from_three.noise))


def estimate_from_similar_line(
    first: RichardsonEstimate,
    phi: Callable[[float], F64],
    relative_noise: float,
    eps: float,
    noise_floor: NoiseFloor,
    slack: float,
) -> RichardsonEstimate:
    """Estimate slopes from two steps along a line similar to `first`, which was estimated from three.

    The h^4 term is taken to be at most MAX_SIMILAR_RATIO times that of the first line. A sum of the same terms with other
    random signs is hardly ever larger than that. The estimate can only confirm. If the first line's term was not seen, this is
    `estimate_from_two_steps`, and the other arguments are those of that function.
    """
    if not np.all(np.isfinite(first.fourth_order_term)):
        return estimate_from_two_steps(phi, relative_noise, eps, noise_floor, slack)
    h = smallest_step(THREE_STEPS, relative_noise, eps) / STEP_RATIO
    value, _, min_noise, read_noise = _take_two_steps(phi, h, eps, noise_floor)
    with np.errstate(all="ignore"):
        noise = np.maximum(min_noise, np.fmin(first.noise, read_noise))
        bound = MAX_SIMILAR_RATIO / STEP_RATIO**4 * first.fourth_order_term + noise_bound(noise, h, slack)
    return RichardsonEstimate(value, bound, noise, first.fourth_order_term)


def estimate_from_two_steps(
    phi: Callable[[float], F64], relative_noise: float, eps: float, noise_floor: NoiseFloor, slack: float
) -> RichardsonEstimate:
    """Estimate slopes from two steps h and 4h: D4 = (16 D - D') / 15, free of the h^2 term.

    The bound is |D4 - D|, all of that term, plus the noise.

    Args:
        phi: t -> the channels of f(x + t u) - f(x), (C,).
        relative_noise: noise of an evaluation, relative to the values.
        eps: relative spacing of floats in the precision of the function.
        noise_floor: share of the finest step in the coarsest -> the least noise of each channel, (C,); called once all is
            evaluated.
        slack: how many standard deviations of noise a bound allows for.
    """
    h = smallest_step(TWO_STEPS, relative_noise, eps)
    value, second_order_term, min_noise, read_noise = _take_two_steps(phi, h, eps, noise_floor)
    noise = np.maximum(min_noise, read_noise)
    with np.errstate(all="ignore"):
        bound = second_order_term + noise_bound(noise, h, slack)
    return RichardsonEstimate(value, bound, noise, np.full_like(value, np.nan))


def _take_two_steps(phi: Callable[[float], F64], h: float, eps: float, noise_floor: NoiseFloor) -> tuple[F64, F64, F64, F64]:
    """Return D4 from steps h and 4h, its h^2 term |D4 - D|, the least noise there can be, and the noise that shows."""
    slopes, second, rounding = _take_differences(phi, (h, STEP_RATIO * h), eps)
    value = extrapolate(slopes[0], slopes[1], 2)
    with np.errstate(all="ignore"):
        read_noise = np.abs(second[0] - second[1] / STEP_RATIO**2) / REMAINDER_NOISE[TWO_STEPS]
        return value, np.abs(value - slopes[0]), np.maximum(noise_floor(1 / STEP_RATIO), rounding), read_noise


def estimate_channels(
    values: Callable[[float], F64], setting: Setting, estimator: Callable[..., RichardsonEstimate]
) -> RichardsonEstimate:
    """Estimate the slopes of a setting's channels along several lines at once, (L, C).

    An output counts with its noise along the lines that move it.

    Args:
        values: t -> the outputs along each line, (L, M).
        setting: what the lines share.
        estimator: `estimate_from_three_steps` or `estimate_from_two_steps`.
    """
    moved = np.zeros((1, setting.base.size), dtype=bool)

    def channel_differences(t: float) -> F64:
        nonlocal moved
        differences = values(t) - setting.base
        moved = moved | (differences != 0)
        return np.stack([setting.contract(difference) for difference in differences])

    def noise_floor(step_share: float) -> F64:
        return np.stack([setting.difference_noise(moved_on_line, step_share) for moved_on_line in moved])

    largest = float(np.max(np.abs(setting.base), initial=0.0))
    relative_noise = float(np.max(setting.total_noise, initial=0.0)) / largest if largest > 0 else 0.0
    return estimator(channel_differences, relative_noise, setting.eps, noise_floor, setting.slack)


def smallest_step(steps: int, relative_noise: float, eps: float) -> float:
    """Return the smallest step of an estimate from two or three steps."""
    return choose_step(relative_noise, eps, STEP_POWERS[steps]) * STEP_RATIO ** (TWO_STEPS - steps)


def noise_bound(noise: F64, step: float, slack: float = 1.0) -> F64:
    """Bound the error that noise causes in an extrapolated slope D4 from steps h = `step` and 4h."""
    return EXTRAPOLATED_NOISE * slack * noise / step


def _take_differences(phi: Callable[[float], F64], steps: tuple[float, ...], eps: float) -> tuple[list[F64], list[F64], F64]:
    """Take at each step the central slope and the second difference (not divided); also the rounding at the first step."""
    with np.errstate(all="ignore"):
        sides = [(phi(t), phi(-t)) for t in steps]
        slopes = [(right - left) / (2 * t) for (right, left), t in zip(sides, steps, strict=True)]
        moves, coarse_moves = (np.maximum(*map(np.abs, side)) for side in sides[:2])
        # Values that stand still may have moved by as much as they do at the next step.
        rounding = np.where(moves == 0, coarse_moves, 0.5 * eps * moves)
        return slopes, [right + left for right, left in sides], rounding


def extrapolate(fine: F64, coarse: F64, power: int) -> F64:
    """Combine slopes at h and 4h to one that is free of the term in h^power."""
    with np.errstate(all="ignore"):
        return np.asarray((STEP_RATIO**power * fine - coarse) / (STEP_RATIO**power - 1))


def _choose_by_channel(use_first: NDArray[np.bool_], first: AnyEstimate, second: AnyEstimate) -> AnyEstimate:
    """Choose the first or the second estimate for each channel."""
    columns = {f.name: np.where(use_first, getattr(first, f.name), getattr(second, f.name)) for f in fields(first)}
    return type(first)(**columns)

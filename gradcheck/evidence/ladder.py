"""The careful estimate: central differences at steps from coarse to fine, and what they show of kinks, jumps and borders.

`reports/accuracy.md` measures how wide its bounds are and how often they hold, also near kinks, jumps and borders.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.evidence import smoothness
from gradcheck.evidence.line import LARGEST_STEP, STEP_RATIO, Slope, measure_nearby_slope
from gradcheck.evidence.plateau import (
    PLATEAU_STEPS,
    TAIL_STEPS,
    Plateau,
    diverges,
    find_one_sided_plateau,
    find_plateau,
    have_two_slopes,
)
from gradcheck.evidence.richardson import extrapolate
from gradcheck.results import Estimate, Reason

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gradcheck.evidence.line import F64, Phi, Setting

# Measured noise of more than this many times what the line itself shows comes from a jump or kink of another input.
MIN_NOISE_EXCESS = 100.0
# A function that moves at no more than this many of the coarsest steps is flat here, whatever it does further off.
ISOLATED_STEPS = 2
# Values that come in steps stand still at more than this share of the places looked at; a step may fall between any two.
MIN_STILL_SHARE = 0.6
# No precision has coarser steps than this, relative to the values. Larger ones are jumps, with a flat function between them.
MAX_QUANTUM = 2.0**-6
# The noise of a function whose values come in steps is this many times the quantum.
QUANTUM_NOISE = 4.0
# One-sided differences balance noise and curvature at a step of eps to this power.
ONE_SIDED_STEP_POWER = 0.46
# A difference of at most this many times the noise does not stand out.
MAX_DROWNED_RATIO = 2.0
# A quantum above this, relative to a channel's size, comes from rounding on purpose, or from half precision inside.
COARSE_QUANTUM = 1e-5
# Noise above this, relative to a channel's size, is more than round-off in any precision that differences are taken in.
MAX_ROUND_OFF = 1e-6

# It takes (channel, place, step) and says whether the channel stands still from `place` to `place + step`, on either side of
# the primal.
StandsStill = Callable[[int, float, float], bool]


@dataclass(frozen=True)
class Rungs:
    """Everything evaluated on the ladder, coarse to fine.

    Attributes:
        steps: the steps, (J,).
        right: the channels of f(x + h u) - f(x), (J, C).
        left: the channels of f(x) - f(x - h u), (J, C).
        noise: noise of each difference, (J, C).
        sizes: size of the channels themselves, (C,).
        quantum_limits: the largest quantum that rounding can make of each channel's values, (C,).
    """

    steps: F64
    right: F64
    left: F64
    noise: F64
    sizes: F64
    quantum_limits: F64


def evaluate_rungs(phi: Phi, setting: Setting) -> Rungs:
    """Evaluate the function on both sides at every step from 1/4 down to the finest that is exact."""
    count = int(np.floor(np.log(LARGEST_STEP / setting.finest_step) / np.log(STEP_RATIO))) + 1
    steps = LARGEST_STEP * STEP_RATIO ** -np.arange(count, dtype=np.float64)
    right, left, rounding = [], [], []
    moved = np.zeros(setting.base.shape, dtype=bool)
    with np.errstate(all="ignore"):
        for h in steps:
            plus, minus = phi(h), phi(-h)
            right.append(setting.contract(plus - setting.base))
            left.append(setting.contract(setting.base - minus))
            moved |= (plus != setting.base) | (minus != setting.base)
            rounding.append(setting.contract_noise(setting.half_ulp(np.fmax(np.abs(plus), np.abs(minus)))))
    noise = np.stack([setting.difference_noise(moved, h / LARGEST_STEP) for h in steps])
    noise = setting.slack * np.fmax(noise, np.where(np.isfinite(rounding), rounding, 0.0))
    above, below = np.stack(right), np.stack(left)
    hidden = setting.slack * setting.contract_noise(setting.hidden_rounding)
    noise = np.where((above == 0) & (below == 0), np.fmax(noise, hidden), noise)
    sizes, limit = setting.channel_sizes, setting.rounding_limit
    quantum_limits = np.full(sizes.shape, np.inf) if limit is None else setting.contract_noise(limit)
    return Rungs(steps, above, below, _reduce_to_line_noise(above, below, noise, setting), sizes, quantum_limits)


def _reduce_to_line_noise(right: F64, left: F64, noise: F64, setting: Setting) -> F64:
    """Replace the measured noise by that of the line itself, if the line shows far less.

    The noise was measured along another direction, which may have met a jump or kink of another input. Two readings of the
    line's own noise are better, as long as the line moves at the finest steps at all. The first is the second differences of
    the finest steps, where those of the function have vanished. The other is the differences from one step to the next, since
    symmetric steps may hide the rounding. Without this, smooth inputs next to inputs at jumps (`floor` of whole numbers) are
    INCONCLUSIVE.
    """
    fine = slice(-TAIL_STEPS, None)
    moves = np.all((right[fine] != 0) & (left[fine] != 0), axis=0)
    shown = np.max(np.abs(right[fine] - left[fine]), axis=0)
    for side in (right[fine], left[fine]):
        shown = np.maximum(shown, np.max(np.abs(side[:-1] - STEP_RATIO * side[1:]), axis=0) / STEP_RATIO)
    line_noise = setting.slack * np.maximum(shown, setting.contract_noise(setting.noise_floor))
    return np.where(moves & np.isfinite(line_noise) & (noise > MIN_NOISE_EXCESS * line_noise), line_noise, noise)


def estimate_slopes_by_ladder(phi: Phi, setting: Setting) -> Slope:
    """Estimate the channels' slopes with all that the ladder shows: kinks, jumps, quanta, borders of the domain."""
    rungs = evaluate_rungs(phi, setting)

    def stands_still(channel: int, place: float, step: float) -> bool:
        right = setting.contract(phi(place + step) - phi(place))
        left = setting.contract(phi(-place - step) - phi(-place))
        return bool(right[channel] == 0 and left[channel] == 0)

    with np.errstate(all="ignore"):
        estimates = [_estimate_channel(rungs, channel, stands_still) for channel in range(rungs.right.shape[1])]

    def column(name: str, dtype: type = np.float64) -> NDArray[Any]:
        values: NDArray[Any] = np.empty(len(estimates), dtype=dtype)
        values[:] = [getattr(estimate, name) for estimate in estimates]
        return values

    floats = {name: column(name) for name in ("value", "bound", "nearby_slope", "low", "high")}
    story: NDArray[Any] = np.empty(len(estimates), dtype=object)
    story[:] = [_tell_story(rungs, channel, estimate) for channel, estimate in enumerate(estimates)]
    return Slope(**floats, reason=column("reason", object), story=story, rough=np.zeros(len(estimates), dtype=bool))


@dataclass(frozen=True)
class _ChannelEstimate:
    """The estimate of one channel from the rungs, with the attributes of `Slope` and of `results.Estimate` as single numbers.

    Attributes:
        steps: the coarsest and finest step that the value rests on, if any.
        shape: the smoothness, in one word.
        kink_distance: distance to the nearest kink, in units of t; NaN if none was seen.
    """

    value: float
    bound: float
    nearby_slope: float
    low: float = np.nan
    high: float = np.nan
    reason: Reason | None = None
    steps: tuple[float, float] | None = None
    shape: str = ""
    kink_distance: float = np.nan


def _tell_story(rungs: Rungs, channel: int, estimate: _ChannelEstimate) -> Estimate:
    """Collect how one channel's slope was found, in units of t."""
    right, left, h = rungs.right[:, channel], rungs.left[:, channel], rungs.steps
    with np.errstate(all="ignore"):
        central = np.where(np.isfinite(right), (right + left) / (2 * h), left / h)
        differences = np.where(np.isfinite(left), central, right / h)
    return Estimate(
        value=estimate.value,
        bound=estimate.bound,
        noise=float(rungs.noise[-1, channel]),
        smoothness=estimate.shape,
        kink_distance=estimate.kink_distance,
        one_sided=(estimate.low, estimate.high),
        steps=tuple(map(float, h)),
        differences=tuple(map(float, differences)),
        bounds=tuple(map(float, rungs.noise[:, channel] / h)),
        plateau=estimate.steps,
    )


def _estimate_channel(rungs: Rungs, channel: int, stands_still: StandsStill) -> _ChannelEstimate:
    """Decide what one channel's rungs show: a plateau, a kink, a jump, a singularity, a border, a quantum, or noise only."""
    h, noise, size = rungs.steps, rungs.noise[:, channel], rungs.sizes[channel]
    right, left = rungs.right[:, channel], rungs.left[:, channel]
    finite = np.isfinite(right) & np.isfinite(left)
    nearby_slope = measure_nearby_slope(h, np.fmax(np.abs(right), np.abs(left)) / h)
    start = _start_of_usable_steps(finite)
    if h.size - start < PLATEAU_STEPS + 1:
        if start:
            return _estimate_at_border(h, right, left, noise)
        return _ChannelEstimate(_finest_slope(h, right, left), np.inf, nearby_slope, reason=Reason.DULL)
    quantum, end = _find_quantum(rungs, channel, stands_still) if start == 0 else (0.0, h.size)
    h, right, left, noise = (a[start:end] for a in (h, right, left, np.maximum(noise, quantum)))
    coarse = quantum > COARSE_QUANTUM * size
    if h.size < PLATEAU_STEPS + 1 or _is_drowned(right, left, noise, size):
        reason = Reason.QUANTISED if coarse else Reason.DULL
        return _ChannelEstimate(_finest_slope(h, right, left), np.inf, nearby_slope, reason=reason)
    plateau = find_plateau(h, (right + left) / (2 * h), noise / h)
    on_plateau = (h >= plateau.steps[1]) & (h <= plateau.steps[0]) if plateau else np.zeros(h.size, dtype=bool)
    if plateau and _is_drowned(right[on_plateau], left[on_plateau], noise[on_plateau], size):
        plateau = None  # its steps agree that they see nothing
    shape = smoothness.classify_shape(h, right, left, noise)
    if shape is smoothness.Shape.KINK:
        return _estimate_at_kink(h, right, left, noise, plateau, nearby_slope)
    jumps = smoothness.stays_constant(right, noise) or smoothness.stays_constant(left, noise)
    if not jumps and (diverges(h, right, noise) or diverges(h, left, noise)):
        plateau, shape = None, smoothness.Shape.SINGULAR
    if plateau is None or shape is smoothness.Shape.JUMP:
        reason = {smoothness.Shape.JUMP: Reason.JUMP, smoothness.Shape.SINGULAR: Reason.SINGULAR}.get(shape, Reason.DULL)
        return _ChannelEstimate(_finest_slope(h, right, left), np.inf, nearby_slope, reason=reason, shape=shape.value)
    if quantum == 0 and have_two_slopes(h, right, left, noise):
        return _estimate_at_kink(h, right, left, noise, plateau, nearby_slope)
    still = np.all(right[-PLATEAU_STEPS:] == 0) and np.all(left[-PLATEAU_STEPS:] == 0) and plateau.value != 0
    coarse |= bool(still and np.max(noise) > COARSE_QUANTUM * size)
    return _estimate_from_plateau(
        plateau,
        nearby_slope,
        reason=Reason.QUANTISED if coarse else None,
        shape=shape.value,
        kink_distance=smoothness.distance_to_kink(h, right, left, noise),
    )


def _estimate_from_plateau(plateau: Plateau, nearby_slope: float, **attributes: Any) -> _ChannelEstimate:
    return _ChannelEstimate(plateau.value, plateau.bound, nearby_slope, steps=plateau.steps, **attributes)


def _finest_slope(h: F64, right: F64, left: F64) -> float:
    return float((right[-1] + left[-1]) / (2 * h[-1]))


def _is_drowned(right: F64, left: F64, noise: F64, size: float) -> bool:
    """Whether no difference stands out of a noise that is no round-off: an oscillation too fast for every step, say."""
    largest = np.maximum(np.abs(right), np.abs(left))
    below_noise = np.any(largest > 0) and np.all(largest <= MAX_DROWNED_RATIO * noise)
    return bool(below_noise and np.max(noise) > MAX_ROUND_OFF * size)


def _start_of_usable_steps(finite: NDArray[np.bool_]) -> int:
    """Return where the unbroken run of usable steps at the fine end begins."""
    broken = np.flatnonzero(~finite)
    return int(broken[-1]) + 1 if broken.size else 0


def _find_quantum(rungs: Rungs, channel: int, stands_still: StandsStill) -> tuple[float, int]:
    """Find the quantum of a function whose values come in steps, and how many rungs, from the coarse end, still see it move.

    Values that change at the very coarsest steps only come in steps as long as the input is large: between them it is flat.
    Causes are rounded values, a solver stopped at a tolerance, or float32 inside float64. Fine rungs then read exactly zero,
    coarse ones move, and the function stands still at most of the places they lead to. The quantum is then the noise, and the
    fine rungs lose their vote. Otherwise (round, a kink further off, a dead zone) the function is flat here, and zero is right.
    """
    h, right, left = rungs.steps, rungs.right[:, channel], rungs.left[:, channel]
    nothing = (0.0, h.size)
    moved = (right != 0) | (left != 0)
    still = np.flatnonzero(~moved)
    end = int(still[0]) if still.size else h.size
    if end <= ISOLATED_STEPS or end == h.size or np.any(moved[end + 2 :]):
        return nothing
    changes = np.concatenate([np.abs(right[:end]), np.abs(left[:end])])
    quantum = float(np.min(changes[changes > 0]))
    largest = max(rungs.sizes[channel], float(np.max(changes)))
    quantum_limit = min(rungs.quantum_limits[channel], MAX_QUANTUM * largest)
    if quantum <= np.max(rungs.noise[end:, channel]) or quantum > quantum_limit:
        return nothing  # round-off, nothing coarser; or a jump
    step = float(h[min(end + 2, h.size - 1)])
    if np.mean([stands_still(channel, float(place), step) for place in h[:end]]) <= MIN_STILL_SHARE:
        return nothing
    return QUANTUM_NOISE * quantum, end


def _estimate_at_kink(
    h: F64, right: F64, left: F64, noise: F64, plateau: Plateau | None, nearby_slope: float
) -> _ChannelEstimate:
    """Estimate the slope on each side by the rule of the plateau; their interval holds every valid subgradient."""
    below, above = find_one_sided_plateau(h, left, noise), find_one_sided_plateau(h, right, noise)
    kink = smoothness.Shape.KINK.value
    if below is None or above is None:
        slope = _finest_slope(h, right, left)
        return _ChannelEstimate(slope, np.inf, nearby_slope, reason=Reason.SINGULAR, shape=kink)
    middle = plateau or Plateau((below.value + above.value) / 2, abs(below.value - above.value) / 2, above.steps)
    middle = replace(middle, bound=max(middle.bound, below.bound, above.bound))
    low = min(below.value - below.bound, above.value - above.bound)
    high = max(below.value + below.bound, above.value + above.bound)
    return _estimate_from_plateau(
        middle, nearby_slope, low=low, high=high, reason=Reason.KINK_SUBGRADIENT, shape=kink, kink_distance=0.0
    )


def _estimate_at_border(h: F64, right: F64, left: F64, noise: F64) -> _ChannelEstimate:
    """Estimate the slope at the border of the domain, on the side that exists."""
    nearby_slope = 0.0
    for side in (right, left):
        # A jump at the border looks like noise: what is within it is no slope.
        beyond_noise = (np.abs(side) - noise) / h
        nearby_slope = float(np.max(beyond_noise[np.isfinite(beyond_noise)], initial=nearby_slope))
        start = _start_of_usable_steps(np.isfinite(side))
        if h.size - start >= PLATEAU_STEPS + 2:
            jumps = smoothness.stays_constant(side, noise)
            singular = jumps or diverges(h[start:], side[start:], noise[start:])
            plateau = None if singular else find_one_sided_plateau(h[start:], side[start:], noise[start:])
            if plateau:
                return _estimate_from_plateau(plateau, nearby_slope, shape="one-sided")
            reason, shape = (Reason.JUMP, "jump") if jumps else (Reason.SINGULAR, smoothness.Shape.SINGULAR.value)
            return _ChannelEstimate(float(side[-1] / h[-1]), np.inf, nearby_slope, reason=reason, shape=shape)
    return _ChannelEstimate(np.nan, np.inf, nearby_slope, reason=Reason.NOT_FINITE_NEARBY)


def bound_one_sided_slopes(phi: Phi, setting: Setting) -> tuple[F64, F64]:
    """Bound the one-sided slopes of every output at the primal by an interval, (M,) each, from four evaluations.

    They are extrapolated from two steps, for many outputs at once: a ladder for each would be over budget.
    """
    h = 2.0 ** round(ONE_SIDED_STEP_POWER * np.log2(setting.eps))
    noise = setting.slack * np.fmax(setting.total_noise, setting.half_ulp(setting.base))
    slopes, errors = [], []
    with np.errstate(all="ignore"):
        for side in (1.0, -1.0):
            near, far = ((phi(side * t) - setting.base) / (side * t) for t in (h, STEP_RATIO * h))
            moved = (near != 0) | (far != 0)
            slopes.append(extrapolate(near, far, 1))
            errors.append(np.abs(slopes[-1] - near) + np.where(moved, 2 * noise / h, 0.0))
    low = np.minimum(slopes[0] - errors[0], slopes[1] - errors[1])
    return low, np.maximum(slopes[0] + errors[0], slopes[1] + errors[1])

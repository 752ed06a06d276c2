"""The careful estimate: central differences at steps from coarse to fine, and the best of them by Lepskii's rule.

O. V. Lepskii, On a problem of adaptive estimation in Gaussian white noise, Theory Probab. Appl. 35 (1991), 454-466: take the
coarsest step whose interval meets the interval of every finer one. Coarse steps that agree with each other by accident
(an oscillating function, a pole nearby) are outvoted by the fine ones, whose wide intervals are honest.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.evidence import smoothness
from gradcheck.evidence.line import COARSEST, RATIO, Slope
from gradcheck.results import Estimate, Reason

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from gradcheck.evidence.line import F64, Phi, Setting

PLATEAU = 3
FINE, FAR = 6, 100.0
ONE_STEP = 2  # rungs: a function that moves at the coarsest of them only is flat here, whatever it does further off
MOSTLY = 0.6  # of the places looked at; a step of the values may fall between any two
BALANCE = 0.46  # of the logarithm of eps: a step at which one-sided differences balance noise and curvature
GROWS = 1.2  # from step to step: a slope that does so at every one is infinite at the primal
SETTLED, EVEN = 0.98, 0.02  # of the slope before: one that falls by the same share of it at every step has not settled
SLOWEST = 0.8  # of the difference before, in the bound of a plateau
SHRINKS = 0.6  # of the last difference: a sequence of slopes that shrinks faster converges
NOTHING = 2.0  # times the noise: what does not exceed that is nothing
COARSE_VALUES = 1e-5  # of a channel's size: a quantum above this is rounding on purpose, or half precision inside
ROUND_OFF = 1e-6  # of a channel's size: noise above this is more than round-off in any precision differences are taken in


@dataclass(frozen=True)
class Rungs:
    """Everything evaluated on the ladder, coarse to fine: steps (J,), the rest (J, C).

    `right` and `left` are the channels of f(x + h u) - f(x) and f(x) - f(x - h u); `noise` that of each difference; `size` (C,)
    that of the channels themselves; `coarsest` (C,) the largest quantum that rounding can make of them.
    """

    steps: F64
    right: F64
    left: F64
    noise: F64
    size: F64
    coarsest: F64


def climb(phi: Phi, setting: Setting) -> Rungs:
    """Evaluate the function on both sides at every step from 1/4 down to the finest that is exact."""
    count = int(np.floor(np.log(COARSEST / setting.finest) / np.log(RATIO))) + 1
    steps = COARSEST * RATIO ** -np.arange(count, dtype=np.float64)
    right, left, rounding = [], [], []
    moved = np.zeros(setting.base.shape, dtype=bool)
    with np.errstate(all="ignore"):
        for h in steps:
            plus, minus = phi(h), phi(-h)
            right.append(setting.contract(plus - setting.base))
            left.append(setting.contract(setting.base - minus))
            moved |= (plus != setting.base) | (minus != setting.base)
            rounding.append(setting.combined(setting.rounding(np.fmax(np.abs(plus), np.abs(minus)))))
    noise = np.stack([setting.channel_noise(moved, h / COARSEST) for h in steps])
    noise = setting.slack * np.fmax(noise, np.where(np.isfinite(rounding), rounding, 0.0))
    above, below = np.stack(right), np.stack(left)
    coarsest = np.full(setting.size.shape, np.inf) if setting.coarsest is None else setting.combined(setting.coarsest)
    return Rungs(steps, above, below, _of_this_line(above, below, noise, setting), setting.size, coarsest)


def _of_this_line(right: F64, left: F64, noise: F64, setting: Setting) -> F64:
    """The noise, unless the line itself shows far less of it.

    It was measured along another direction, which may have met a jump or kink of another input. Here the second differences
    of the finest steps, where those of the function have vanished, tell better, as long as the line moves there at all; and
    the differences from one step to the next, since symmetric steps may hide the rounding.
    """
    fine = slice(-FINE, None)
    moves = np.all((right[fine] != 0) & (left[fine] != 0), axis=0)
    seen = np.max(np.abs(right[fine] - left[fine]), axis=0)
    for side in (right[fine], left[fine]):
        seen = np.maximum(seen, np.max(np.abs(side[:-1] - RATIO * side[1:]), axis=0) / RATIO)
    own = setting.slack * np.maximum(seen, setting.combined(setting.floor))
    return np.where(moves & np.isfinite(own) & (noise > FAR * own), own, noise)


def estimate(phi: Phi, setting: Setting) -> Slope:
    """Estimate the channels' slopes with all that the ladder shows: kinks, jumps, quanta, borders of the domain."""
    rungs = climb(phi, setting)

    def frozen(c: int, place: float, step: float) -> bool:
        """Whether the channel stands still at a distance too, on either side."""
        right = setting.contract(phi(place + step) - phi(place))
        left = setting.contract(phi(-place - step) - phi(-place))
        return bool(right[c] == 0 and left[c] == 0)

    with np.errstate(all="ignore"):
        found = [_channel(rungs, c, frozen) for c in range(rungs.right.shape[1])]

    def column(name: str, dtype: type = np.float64) -> NDArray[Any]:
        values: NDArray[Any] = np.empty(len(found), dtype=dtype)
        values[:] = [getattr(one, name) for one in found]
        return values

    floats = {name: column(name) for name in ("value", "bound", "nearby", "low", "high")}
    story: NDArray[Any] = np.empty(len(found), dtype=object)
    story[:] = [_told(rungs, c, one) for c, one in enumerate(found)]
    return Slope(**floats, reason=column("reason", object), story=story, rough=np.zeros(len(found), dtype=bool))


@dataclass(frozen=True)
class _One:
    """What was made of one channel's rungs; `steps` are those that the value rests on."""

    value: float
    bound: float
    nearby: float
    low: float = np.nan
    high: float = np.nan
    reason: Reason | None = None
    steps: tuple[float, float] | None = None
    shape: str = ""
    kink: float = np.nan


@dataclass(frozen=True)
class _Plateau:
    """A value that several steps agree on, its bound, and the coarsest and finest of these steps."""

    value: float
    bound: float
    steps: tuple[float, float]


def _told(rungs: Rungs, c: int, one: _One) -> Estimate:
    """The story of one channel, in units of t."""
    right, left, h = rungs.right[:, c], rungs.left[:, c], rungs.steps
    with np.errstate(all="ignore"):
        sides = np.where(np.isfinite(left), np.where(np.isfinite(right), (right + left) / (2 * h), left / h), right / h)
    return Estimate(
        value=one.value,
        bound=one.bound,
        noise=float(rungs.noise[-1, c]),
        smoothness=one.shape,
        kink_distance=one.kink,
        one_sided=(one.low, one.high),
        steps=tuple(map(float, h)),
        differences=tuple(map(float, sides)),
        bounds=tuple(map(float, rungs.noise[:, c] / h)),
        plateau=one.steps,
    )


def _channel(rungs: Rungs, c: int, frozen: Callable[[int, float, float], bool]) -> _One:
    h, right, left, noise = rungs.steps, rungs.right[:, c], rungs.left[:, c], rungs.noise[:, c]
    finite = np.isfinite(right) & np.isfinite(left)
    chords = np.concatenate([right / h, left / h])
    nearby = float(np.max(np.abs(chords[np.isfinite(chords)]), initial=0.0))
    start = _fine_run(finite)
    if h.size - start < PLATEAU + 1:
        return (
            _one_sided(h, right, left, noise, nearby)
            if start
            else _One(_finest(h, right, left), np.inf, nearby, reason=Reason.DULL)
        )
    quantum, end = _quantum(rungs, c, frozen) if start == 0 else (0.0, h.size)
    h, right, left, noise = (a[start:end] for a in (h, right, left, np.maximum(noise, quantum)))
    coarse = quantum > COARSE_VALUES * rungs.size[c]
    if h.size < PLATEAU + 1 or _drowned(right, left, noise, rungs.size[c]):
        return _One(_finest(h, right, left), np.inf, nearby, reason=Reason.QUANTISED if coarse else Reason.DULL)
    found = _plateau(h, (right + left) / (2 * h), noise / h)
    rest = (h >= found.steps[1]) & (h <= found.steps[0]) if found else np.zeros(h.size, dtype=bool)
    if found and _drowned(right[rest], left[rest], noise[rest], rungs.size[c]):
        found = None  # its steps agree that they see nothing
    shape = smoothness.classify(h, right, left, noise)
    if shape is smoothness.Shape.KINK:
        return _at_kink(h, right, left, noise, found, nearby)
    if _diverges(h, right, noise) or _diverges(h, left, noise):
        found, shape = None, smoothness.Shape.SINGULAR
    if found is None or shape is smoothness.Shape.JUMP:
        reason = {smoothness.Shape.JUMP: Reason.JUMP, smoothness.Shape.SINGULAR: Reason.SINGULAR}.get(shape, Reason.DULL)
        return _One(_finest(h, right, left), np.inf, nearby, reason=reason, shape=shape.value)
    if quantum == 0 and _two_slopes(h, right, left, noise):
        return _at_kink(h, right, left, noise, found, nearby)
    still = np.all(right[-PLATEAU:] == 0) and np.all(left[-PLATEAU:] == 0) and found.value != 0
    coarse |= bool(still and np.max(noise) > COARSE_VALUES * rungs.size[c])
    return _smooth(
        found,
        nearby,
        reason=Reason.QUANTISED if coarse else None,
        shape=shape.value,
        kink=smoothness.distance_to_kink(h, right, left, noise),
    )


def _smooth(found: _Plateau, nearby: float, **more: Any) -> _One:
    return _One(found.value, found.bound, nearby, steps=found.steps, **more)


def _finest(h: F64, right: F64, left: F64) -> float:
    return float((right[-1] + left[-1]) / (2 * h[-1]))


def _drowned(right: F64, left: F64, noise: F64, size: float) -> bool:
    """Whether nothing seen stands out of a noise that is no round-off: an oscillation too fast for every step, say."""
    seen = np.maximum(np.abs(right), np.abs(left))
    return bool(np.any(seen > 0) and np.all(seen <= NOTHING * noise) and np.max(noise) > ROUND_OFF * size)


def _fine_run(finite: NDArray[np.bool_]) -> int:
    """Where the unbroken run of usable steps at the fine end begins."""
    broken = np.flatnonzero(~finite)
    return int(broken[-1]) + 1 if broken.size else 0


def _quantum(rungs: Rungs, c: int, frozen: Callable[[int, float, float], bool]) -> tuple[float, int]:
    """The quantum of a function whose values come in steps, and how many rungs, from the coarse end, still see it move.

    Values that change at the very coarsest steps only come in steps as long as the input is large: between them it is flat.
    Rounded values, a solver stopped at a tolerance, float32 inside float64: fine rungs read exactly zero, coarse ones move,
    and the function stands still at most of the places they lead to. The quantum is then the noise, and the fine rungs
    lose their vote. Otherwise (round, a kink further off, a dead zone) the function is flat here, and zero is right.
    """
    h, right, left = rungs.steps, rungs.right[:, c], rungs.left[:, c]
    moved = (right != 0) | (left != 0)
    still = np.flatnonzero(~moved)
    last = int(still[0]) if still.size else h.size
    if last <= ONE_STEP or last == h.size or np.any(moved[last + 2 :]):
        return 0.0, h.size
    steps = np.concatenate([np.abs(right[:last]), np.abs(left[:last])])
    quantum = float(np.min(steps[steps > 0]))
    if quantum <= np.max(rungs.noise[last:, c]) or quantum > rungs.coarsest[c]:
        return 0.0, h.size  # round-off, nothing coarser; or a jump
    step = float(h[min(last + 2, h.size - 1)])
    if np.mean([frozen(c, float(place), step) for place in h[:last]]) <= MOSTLY:
        return 0.0, h.size
    return 4 * quantum, last


def _plateau(h: F64, slopes: F64, radius: F64) -> _Plateau | None:
    """Lepskii's choice among the extrapolated differences; None where no step will do."""
    if h.size < PLATEAU + 1:
        return None
    value = (RATIO**2 * slopes[1:] - slopes[:-1]) / (RATIO**2 - 1)
    radius = radius[1:]
    for j in range(value.size - PLATEAU + 1):
        apart = np.abs(value[j] - value[j + 1 :])
        if np.all(apart <= radius[j] + radius[j + 1 :]) and not _too_slow(value[j : j + PLATEAU], radius[j + PLATEAU - 1]):
            hidden = _hidden(value[max(j + 1 - PLATEAU, 0) : j + 1], float(apart[0] + radius[j] + radius[j + 1]))
            if not np.isfinite(hidden):
                continue
            left = max(float(np.max(apart[: PLATEAU - 1])), _still_to_come(value[j : j + PLATEAU]), hidden)
            return _Plateau(float(value[j]), float(radius[j]) + left, (float(h[j + 1]), float(h[j + PLATEAU])))
    return _converging(h, value, radius)


def _diverges(h: F64, side: F64, noise: F64) -> bool:
    """Whether the slope on one side grows at every step until the noise drowns it, though both sides may cancel: a cusp.

    One that is gone where it would still stand out has been that over a jump further off. Or it falls with a power of the step
    so small that no step comes near its limit, as that of x^1.1 at 0.
    """
    slopes, clear = np.abs(side / h), np.abs(side) > 4 * noise
    last = int(np.flatnonzero(clear)[-1]) if clear.any() else 0
    gone = last + 1 < h.size and np.abs(side[last]) / RATIO > 8 * noise[last + 1]
    growing, falling = slopes[clear][-FINE:], slopes[np.abs(side) > noise][-FINE:]
    if not gone and growing.size == FINE and np.all(growing[1:] > GROWS * growing[:-1]):
        return True
    ratio = falling[1:] / falling[:-1]
    return bool(ratio.size == FINE - 1 and np.all((ratio > SHRINKS) & (ratio < SETTLED)) and np.ptp(ratio) < EVEN)


def _too_slow(value: F64, radius: float) -> bool:
    """Whether values still change, one way, and hardly less from step to step: what is left to come has no bound."""
    first, second = np.diff(value)
    return bool(first * second > 0 and abs(second) > max(SLOWEST * abs(first), radius))


def _still_to_come(value: F64) -> float:
    """What is left of changes that go one way and shrink by less than they should: the rest of their geometric series."""
    first, second = np.diff(value)
    if first * second <= 0:
        return 0.0
    return float(abs(first) / (1 - min(second / first, SLOWEST)))


def _hidden(value: F64, room: float) -> float:
    """What is left of a trend that the noise of finer steps may hide: infinite where it hardly shrinks.

    Args:
        value: the one chosen, and those before it.
        room: how far from it the next may be in truth.
    """
    if value.size < PLATEAU:
        return 0.0
    first, second = np.diff(value)
    ratio = second / first if first else 0.0
    following = abs(second) * ratio
    if ratio <= 0 or following > room:  # then it would have shown, and it did not
        return 0.0
    return np.inf if ratio > SLOWEST else float(following / (1 - ratio))


def _two_slopes(h: F64, right: F64, left: F64, noise: F64) -> bool:
    """Whether the slopes on the two sides differ by more than their bounds: a kink too small beside the curvature to see."""
    below, above = _plateau_one_sided(h, left, noise), _plateau_one_sided(h, right, noise)
    return below is not None and above is not None and abs(below.value - above.value) > below.bound + above.bound


def _converging(h: F64, value: F64, radius: F64) -> _Plateau | None:
    """Slopes that still change with the step, but ever less: a derivative that exists though it is not smooth, as |x| x at 0.

    They change by at most SHRINKS of the time before, so what is left to come is at most the last change over 1 - SHRINKS.
    """
    changes = np.abs(np.diff(value[-FINE:]))
    if changes.size < FINE - 1 or np.any(changes[1:] > SHRINKS * changes[:-1] + radius[-FINE + 2 :]):
        return None
    bound = float(2 * changes[-1] / (1 - SHRINKS) + radius[-1])
    return _Plateau(float(value[-1]), bound, (float(h[-2]), float(h[-1])))


def _at_kink(h: F64, right: F64, left: F64, noise: F64, found: _Plateau | None, nearby: float) -> _One:
    """One-sided slopes by the same rule; their interval holds every valid subgradient."""
    below, above = _plateau_one_sided(h, left, noise), _plateau_one_sided(h, right, noise)
    kink = smoothness.Shape.KINK.value
    if below is None or above is None:
        return _One(_finest(h, right, left), np.inf, nearby, reason=Reason.SINGULAR, shape=kink)
    a, b = below, above
    middle = found or _Plateau((a.value + b.value) / 2, abs(a.value - b.value) / 2, b.steps)
    middle = replace(middle, bound=max(middle.bound, a.bound, b.bound))
    low, high = min(a.value - a.bound, b.value - b.bound), max(a.value + a.bound, b.value + b.bound)
    return _smooth(middle, nearby, low=low, high=high, reason=Reason.KINK_SUBGRADIENT, shape=kink, kink=0.0)


def _plateau_one_sided(h: F64, difference: F64, noise: F64) -> _Plateau | None:
    # (4 s(h) - s(4h)) / 3 cancels the term in h, and differences of that obey the same rule as central ones
    slopes, radius = difference / h, noise / h
    first = (RATIO * slopes[1:] - slopes[:-1]) / (RATIO - 1)
    return _plateau(h[1:], first, 2 * radius[1:])


def _one_sided(h: F64, right: F64, left: F64, noise: F64, nearby: float) -> _One:
    """At the border of the domain: the side that exists."""
    for side in (right, left):
        start = _fine_run(np.isfinite(side))
        if h.size - start >= PLATEAU + 2:
            jumps = smoothness.stays(side, noise)
            diverges = jumps or _diverges(h[start:], side[start:], noise[start:])
            found = None if diverges else _plateau_one_sided(h[start:], side[start:], noise[start:])
            if found:
                return _smooth(found, nearby, shape="one-sided")
            reason, shape = (Reason.JUMP, "jump") if jumps else (Reason.SINGULAR, smoothness.Shape.SINGULAR.value)
            return _One(float(side[-1] / h[-1]), np.inf, nearby, reason=reason, shape=shape)
    return _One(np.nan, np.inf, nearby, reason=Reason.NOT_FINITE_NEARBY)


def sides(phi: Phi, setting: Setting) -> tuple[F64, F64]:
    """An interval around the one-sided slopes of every output at the primal, (M,) each, from four evaluations.

    Extrapolated from two steps; many outputs at once, where a ladder for each would be too dear.
    """
    h = 2.0 ** round(BALANCE * np.log2(setting.eps))
    noise = setting.slack * np.fmax(setting.deviation, setting.rounding(setting.base))
    slopes, errors = [], []
    with np.errstate(all="ignore"):
        for side in (1.0, -1.0):
            near, far = ((phi(side * t) - setting.base) / (side * t) for t in (h, RATIO * h))
            moved = (near != 0) | (far != 0)
            slopes.append((RATIO * near - far) / (RATIO - 1))
            errors.append(np.abs(slopes[-1] - near) + np.where(moved, 2 * noise / h, 0.0))
    low = np.minimum(slopes[0] - errors[0], slopes[1] - errors[1])
    return low, np.maximum(slopes[0] + errors[0], slopes[1] + errors[1])

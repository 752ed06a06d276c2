"""What the evidence is gathered on: a scalar line through the primal, and the slopes found there.

Everything happens on phi(t) = f(x + t u). One unit of t moves each entry by about its leaf's own size, so steps need no unit.
Derivatives are of *channels*: linear combinations of the outputs, taken in float64 outside the function, and of the
differences of outputs rather than the outputs, so that an output that did not move adds no round-off.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gradcheck.results import Reason

F64 = NDArray[np.float64]
Phi = Callable[[float], F64]
RATIO = 4.0
COARSEST = 2.0**-2
STILL = 1e-6  # of an output: the coarsest grid of values that an output is taken to stand still on


@dataclass(frozen=True)
class Setting:
    """What all lines of one primal share.

    Attributes:
        base: outputs at the primal, (M,).
        noise: standard deviation of each output's evaluation error, (M,), as measured along some direction.
        eps: relative spacing of floats in the precision the function computes in.
        channels: combinations of outputs to differentiate, (C, M); None: each output is a channel.
        finest: the smallest step t; every multiple of it displaces the primal exactly.
        slack: how many standard deviations of noise a bound allows for.
        coarsest: what rounding may do to each output at most, (M,), where that is known: larger steps are jumps. None: unknown.
        hidden: more noise, (M,), that shows at coarse steps only, once it was found; shared by all lines of the primal.
    """

    base: F64
    noise: F64
    eps: float
    channels: F64 | None
    finest: float
    slack: float
    coarsest: F64 | None = None
    hidden: list[F64] = field(default_factory=list)

    @property
    def deviation(self) -> F64:
        """The noise as far as it is known by now, (M,)."""
        return self.noise if not self.hidden else np.maximum(self.noise, self.hidden[-1])

    @property
    def floor(self) -> F64:
        """What no line can be seen to be without, (M,): hidden noise does not show at fine steps."""
        least = self.rounding(self.base)
        return least if not self.hidden else np.maximum(least, self.hidden[-1])

    def rounding(self, values: F64) -> F64:
        """Half a unit in the last place of some outputs, (M,)."""
        return np.asarray(0.5 * self.eps * np.abs(values))

    @property
    def size(self) -> F64:
        """Size of the channels at the primal, (C,); of a combination, its largest term: an entry need not move them all."""
        size = np.abs(self.base)
        return size if self.channels is None else np.max(np.abs(self.channels) * size, axis=1, initial=0.0)

    def contract(self, difference: F64) -> F64:
        """Return the channels' share of a difference of outputs, (C,)."""
        if self.channels is None:
            return difference
        if np.all(np.isfinite(difference)):
            return self.channels @ difference
        terms = np.where(self.channels == 0, 0.0, self.channels * difference)  # outputs that do not count may be anything
        return np.asarray(np.sum(terms, axis=1))

    def channel_noise(self, moved: NDArray[np.bool_], share: float) -> F64:
        """Noise of each channel's difference, (C,).

        Args:
            moved: which outputs moved at all along the line, (M,).
            share: this step over the coarsest looked at. An output that stood still over the whole line has a slope of at most
                its noise over the coarsest step, so it counts with this share of its noise only, and of no more noise than
                could hide while it stands still; one that stood still at zero, where floats are densest, has none.
        """
        noise = self.deviation
        unseen = np.minimum(noise, np.maximum(self.floor, STILL * np.abs(self.base)))
        return self.combined(np.where(moved, noise, np.where(self.base == 0, 0.0, share * unseen)))

    def combined(self, noise: F64) -> F64:
        """Independent noise of the outputs, (M,), as that of the channels, (C,)."""
        return noise if self.channels is None else np.sqrt(self.channels**2 @ noise**2)


@dataclass(frozen=True)
class Slope:
    """Derivatives of the channels along a line, (C,) each.

    Attributes:
        value: the estimate.
        bound: of its error.
        nearby: the steepest chord seen, |phi(t) - phi(0)| / t: the scale beside which a zero is a zero.
        low, high: one-sided slopes at a kink, NaN elsewhere.
        reason: why there is no better estimate, None where there is a good one.
        story: how each was found, an Estimate in units of t; None of a cheap estimate.
        rough: whether a cheap estimate saw something that is not smooth.
    """

    value: F64
    bound: F64
    nearby: F64
    low: F64
    high: F64
    reason: NDArray[np.object_]
    story: NDArray[np.object_]
    rough: NDArray[np.bool_]

    def at(self, channel: int) -> Reason | None:
        """The reason of one channel."""
        found: Reason | None = self.reason[channel]
        return found


def smooth(value: F64, bound: F64, nearby: F64, rough: NDArray[np.bool_]) -> Slope:
    """A slope with nothing to remark."""
    nothing, none = np.full(value.shape, np.nan), np.full(value.shape, None, dtype=object)
    return Slope(value, bound, nearby, nothing, nothing, none, none, rough)


def slack_for(comparisons: int, false_alarms: float = 1e-4) -> float:
    """How many standard deviations to allow so that all comparisons together exceed it with probability `false_alarms`.

    sqrt(2 ln(2 N / alpha)), doubled because the noise itself is estimated from seven values.
    """
    return 2.0 * float(np.sqrt(2 * np.log(2 * max(comparisons, 1) / false_alarms)))

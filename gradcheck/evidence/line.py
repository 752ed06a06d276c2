"""Scalar lines through the primal, on which the evidence is gathered, and the slopes found there.

Everything happens on phi(t) = f(x + t u). One unit of t moves each entry by about its leaf's own size, so steps need no unit.
Derivatives are of *channels*: linear combinations of the outputs, taken in float64 outside the function. The differences of
outputs are combined rather than the outputs, so that an output that did not move adds no round-off.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
# A line is a function t -> the outputs of f(x + t u), (M,).
Phi = Callable[[float], F64]
# Each step is this many times the next finer one.
STEP_RATIO = 4.0
# No step is coarser than this, in units of t and thus in each entry's scales.
LARGEST_STEP = 2.0**-2
# An output may stand still all along a line if its values lie on a grid no coarser than this, relative to the output.
MAX_UNSEEN_QUANTUM = 1e-6
# A coarse chord says something of the slope here if chords grow with the step no faster than those of x^10 at 0.
MAX_DEGREE = 9


class InternalNoise:
    """The noise of rounding inside a function, once a comparison along some line has found it.

    Attributes:
        level: of each output, (M,); None until such noise is found.
    """

    def __init__(self, level: F64 | None = None) -> None:
        self.level = level

    def added_to(self, noise: F64) -> F64:
        """Return the larger of this noise and another one, (M,)."""
        return noise if self.level is None else np.maximum(noise, self.level)


@dataclass(frozen=True)
class Setting:
    """Facts that all lines of one primal share.

    Attributes:
        base: outputs at the primal, (M,).
        noise: standard deviation of each output's evaluation error, (M,), as measured along some direction at fine steps.
        eps: relative spacing of floats in the precision the function computes in.
        channels: combinations of outputs to differentiate, (C, M); None: each output is a channel.
        finest_step: the smallest step t; every multiple of it displaces the primal exactly.
        slack: how many standard deviations of noise a bound allows for.
        rounding_limit: the largest error that rounding can cause in each output, (M,): larger steps of the values are jumps.
            None if it is unknown.
        term_sizes: size of the terms that each output is made of, (M,): far more than the output if it is only what rounding
            leaves of them. None: the size of the output.
        internal_noise: the noise of rounding inside the function, which shows at coarse steps only; all lines of the primal
            share it.
    """

    base: F64
    noise: F64
    eps: float
    channels: F64 | None
    finest_step: float
    slack: float
    rounding_limit: F64 | None = None
    term_sizes: F64 | None = None
    internal_noise: InternalNoise = field(default_factory=InternalNoise)

    @property
    def total_noise(self) -> F64:
        """The noise of each output as far as it is known by now, (M,)."""
        return self.internal_noise.added_to(self.noise)

    @property
    def noise_floor(self) -> F64:
        """The least noise that each output has on any line, (M,); internal noise belongs to it, as fine steps hide it."""
        last_bit = self.half_ulp(self.base)
        return self.internal_noise.added_to(last_bit)

    @property
    def channel_sizes(self) -> F64:
        """Size of the channels at the primal, (C,); for a combination, its largest term: an entry need not move them all."""
        size = np.abs(self.base) if self.term_sizes is None else self.term_sizes
        return size if self.channels is None else np.max(np.abs(self.channels) * size, axis=1, initial=0.0)

    @property
    def hidden_rounding(self) -> F64:
        """The rounding of the terms of outputs that are nothing but rounding, (M,): an output that stands still hides it."""
        if self.term_sizes is None:
            return np.zeros(self.base.shape)
        return np.where(self.term_sizes > np.abs(self.base), self.half_ulp(self.term_sizes), 0.0)

    def half_ulp(self, values: F64) -> F64:
        """Compute half a unit in the last place of some outputs, (M,)."""
        return np.asarray(0.5 * self.eps * np.abs(values))

    def contract(self, difference: F64) -> F64:
        """Contract a difference of outputs, (M,), to that of the channels, (C,)."""
        if self.channels is None:
            return difference
        if np.all(np.isfinite(difference)):
            return self.channels @ difference
        # Outputs that a channel does not use may be infinite or NaN.
        terms = np.where(self.channels == 0, 0.0, self.channels * difference)
        return np.asarray(np.sum(terms, axis=1))

    def contract_noise(self, noise: F64) -> F64:
        """Contract independent noise of the outputs, (M,), to that of the channels, (C,)."""
        return noise if self.channels is None else np.sqrt(self.channels**2 @ noise**2)

    def difference_noise(self, moved: NDArray[np.bool_], step_share: float) -> F64:
        """Compute the noise of each channel's difference f(x + h u) - f(x), (C,).

        An output that stood still over the whole line has a slope of at most its noise over the coarsest step. So only a share
        of its noise counts, and no more noise than could hide while it stands still. One that stood still at zero, where
        floats are densest, has none.

        Args:
            moved: which outputs moved at all along the line, (M,).
            step_share: the step h over the coarsest step of the line.
        """
        noise = self.total_noise
        unseen = np.minimum(noise, np.maximum(self.noise_floor, MAX_UNSEEN_QUANTUM * np.abs(self.base)))
        return self.contract_noise(np.where(moved, noise, np.where(self.base == 0, 0.0, step_share * unseen)))


@dataclass(frozen=True)
class Slope:
    """Derivatives of the channels along a line, (C,) each.

    Attributes:
        value: the estimate.
        bound: bound of the estimate's error.
        nearby_slope: the steepest chord seen, |phi(t) - phi(0)| / t: the scale compared with which a zero is a zero.
        low: the lowest one-sided slope at a kink, NaN elsewhere.
        high: the highest one-sided slope at a kink, NaN elsewhere.
        reason: why there is no better estimate, None if there is a good one.
        story: how each estimate was found, an `Estimate` in units of t; None for a cheap estimate.
        rough: whether a cheap estimate saw something that is not smooth.
    """

    value: F64
    bound: F64
    nearby_slope: F64
    low: F64
    high: F64
    reason: NDArray[np.object_]
    story: NDArray[np.object_]
    rough: NDArray[np.bool_]


def measure_nearby_slope(steps: F64, chords: F64) -> float:
    """Return the steepest chord nearby: coarser ones count as long as they grow no faster than those of a polynomial.

    Far away, an exponential may be steeper by any amount, which says nothing of its slope here.

    Args:
        steps: from the coarsest to the finest.
        chords: |phi(t) - phi(0)| / t at each; NaN or infinite outside of the domain.
    """
    steepest, finer = 0.0, np.nan
    for step, chord in zip(steps[::-1], chords[::-1], strict=True):
        if np.isfinite(chord):
            if steepest > 0 and chord > steepest * (step / finer) ** MAX_DEGREE:
                break
            steepest, finer = max(steepest, float(chord)), step
    return steepest


def smooth_slope(value: F64, bound: F64, nearby_slope: F64, rough: NDArray[np.bool_]) -> Slope:
    """Make a slope without a kink, a reason or a story."""
    unset, none = np.full(value.shape, np.nan), np.full(value.shape, None, dtype=object)
    return Slope(value, bound, nearby_slope, unset, unset, none, none, rough)


def choose_slack(comparisons: int, false_alarms: float = 1e-4) -> float:
    """Choose how many standard deviations to allow for, so that noise exceeds them with probability `false_alarms` at most.

    sqrt(2 ln(2 N / alpha)) for N comparisons together, doubled because the noise itself is estimated from seven values.
    """
    return 2.0 * float(np.sqrt(2 * np.log(2 * max(comparisons, 1) / false_alarms)))

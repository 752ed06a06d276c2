"""Numerical estimates along the lines of a leaf: cheap at first, refined where a claim disagrees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck import progress
from gradcheck.backends.flat import Leaf
from gradcheck.evidence import ladder, richardson
from gradcheck.evidence.line import F64, Phi, Setting, Slope

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass
class LineEstimates:
    """Estimates of the channels along the lines of one leaf, (C, L) each; refining a line replaces its columns in place.

    Attributes:
        leaf: the leaf that the lines move.
        phis: the lines.
        settings: for each line the noise, and the channels that it is read in.
        eps: relative spacing of floats in the precision of the function.
        units: how far each line moves its entry per unit of t, (L,); ones if the lines move many entries.
        value: the estimated derivatives along the lines; NaN until they are estimated.
        bound: bound of the error of each estimate.
        nearby_slope: the steepest chord seen along each line, the scale compared with which a zero is a zero.
        low: the lowest one-sided slope at a kink, NaN elsewhere.
        high: the highest one-sided slope at a kink, NaN elsewhere.
        channel_sizes: the size of each channel, compared with which a slope may be negligible.
        reason: why there is no better estimate, None if there is a good one.
        story: how each refined estimate was found; None for a cheap one.
        rough: whether a cheap estimate saw something that is not smooth.
        refined: which lines were refined, (L,).
        contested: lines that need a closer look since two methods differ there, (L,).
    """

    leaf: Leaf
    phis: Sequence[Phi]
    settings: Sequence[Setting]
    eps: float
    units: F64
    value: F64
    bound: F64
    nearby_slope: F64
    low: F64
    high: F64
    channel_sizes: F64
    reason: NDArray[np.object_]
    story: NDArray[np.object_]
    rough: NDArray[np.bool_]
    refined: NDArray[np.bool_]
    contested: NDArray[np.bool_]


def estimate_lines(
    leaf: Leaf, phis: Sequence[Phi], settings: Sequence[Setting], eps: float, units: F64 | None = None
) -> LineEstimates:
    """Estimate the derivative along every line cheaply."""
    estimates = empty_estimates(leaf, phis, settings, eps, units)
    for line in range(len(phis)):
        estimate_line(estimates, line, line, len(phis))
    return estimates


def empty_estimates(
    leaf: Leaf, phis: Sequence[Phi], settings: Sequence[Setting], eps: float, units: F64 | None = None
) -> LineEstimates:
    """Make the estimates of lines along which nothing is estimated yet."""
    channels = settings[0].contract(settings[0].base).size if settings else 0
    shape = (channels, len(phis))
    distinct = {id(setting): setting for setting in settings}  # most lines share one
    sizes = {key: setting.channel_sizes for key, setting in distinct.items()}
    channel_sizes = np.stack([sizes[id(setting)] for setting in settings], axis=1)
    empty: dict[str, Any] = {name: np.full(shape, np.nan) for name in ("value", "bound", "nearby_slope", "low", "high")}
    reason, story = (np.full(shape, None, dtype=object) for _ in range(2))
    rough, refined = np.zeros(shape, dtype=bool), np.zeros(len(phis), dtype=bool)
    return LineEstimates(
        leaf,
        phis,
        settings,
        eps,
        np.ones(len(phis)) if units is None else units,
        **empty,
        channel_sizes=channel_sizes,
        reason=reason,
        story=story,
        rough=rough,
        refined=refined,
        contested=np.zeros(len(phis), dtype=bool),
    )


def estimate_line(estimates: LineEstimates, line: int, done: int, total: int) -> None:
    """Estimate the derivative along one line cheaply, and store it.

    Args:
        line: index of the line.
        done: how many of the lines are done before, for the report of progress.
        total: how many lines there are in all.
    """
    progress.report_progress(estimates.leaf.path, done, total)
    setting = estimates.settings[line]
    _store(
        estimates,
        line,
        richardson.estimate_slopes(estimates.phis[line], setting, richardson.choose_steps(setting, estimates.eps)),
    )


def _store(estimates: LineEstimates, line: int, slope: Slope) -> None:
    names = ("value", "bound", "nearby_slope", "low", "high", "reason", "story", "rough")
    for name in names:
        getattr(estimates, name)[:, line] = getattr(slope, name)


def refine_line(estimates: LineEstimates, line: int) -> None:
    """Replace the estimates along one line by those of the step ladder."""
    _store(estimates, line, estimate_with_ladder(estimates.phis[line], estimates.settings[line]))
    estimates.refined[line] = True


def estimate_with_ladder(phi: Phi, setting: Setting) -> Slope:
    """Estimate slopes by the step ladder; at a kink, with the one-sided slopes of every output separately.

    A combination of outputs may take another subgradient in each of them, so its interval is the sum of theirs.
    """
    slope = ladder.estimate_slopes_by_ladder(phi, setting)
    if setting.channels is None or np.all(np.isnan(slope.low)):
        return slope
    output_low, output_high = ladder.bound_one_sided_slopes(phi, setting)
    positive, negative = np.maximum(setting.channels, 0), np.minimum(setting.channels, 0)
    kink = ~np.isnan(slope.low)
    low, high = positive @ output_low + negative @ output_high, positive @ output_high + negative @ output_low
    return replace(slope, low=np.where(kink, low, np.nan), high=np.where(kink, high, np.nan))

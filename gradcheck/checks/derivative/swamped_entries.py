"""Swamped entries: so small compared with others that the function does not see them move by their own size.

They are absorbed when they are added to numbers of the leaf's size. If an output is exactly zero by cancellation, no rounding
shows that, and a slope of zero looks certain. So such an entry is moved by its leaf's scale before a claim is called wrong.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gradcheck.compare.estimates import estimate_with_ladder
from gradcheck.evidence import directions
from gradcheck.evidence.line import LARGEST_STEP
from gradcheck.results import Reason
from gradcheck.verdict.interval import Code

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gradcheck.compare.estimates import LineEstimates
    from gradcheck.compare.judge import JudgedLeaf
    from gradcheck.compare.trial import MeasuredTrial
    from gradcheck.evidence.line import F64, Phi, Setting, Slope

# An entry smaller than this many units in the last place of the largest leaf may be absorbed when it is added to that leaf.
MAX_SWAMPED_ULPS = 64.0
# At most this many lines of a leaf are estimated anew; nothing is known about the others.
MAX_REESTIMATED_LINES = 64


def reestimate_swamped_entries(trial: MeasuredTrial, estimates: LineEstimates, judged: JudgedLeaf) -> bool:
    """Estimate by larger steps the slopes of zero of small entries, if a claim contradicts them or all channels have them.

    Args:
        estimates: changed in place.
        judged: the leaf as it was judged by these estimates.

    Returns:
        Whether an estimate changed, so that the leaf must be judged anew.
    """
    x = trial.program.point[estimates.leaf.span]
    leaf_scale, units = directions.compute_leaf_scale(x), estimates.units
    still = (estimates.value == 0) & (np.abs(units) < directions.SMALL_ENTRY_RATIO * leaf_scale)
    wrong = judged.code == Code.FAIL
    flat = still & (wrong | np.all(still, axis=0))
    lines = np.flatnonzero(np.any(flat, axis=0))
    skipped = lines[MAX_REESTIMATED_LINES:]
    estimates.bound[:, skipped] = np.where(wrong[:, skipped], np.inf, estimates.bound[:, skipped])
    for line in lines[:MAX_REESTIMATED_LINES]:
        (large,) = directions.round_tangent(np.array([leaf_scale]), x[line : line + 1], trial.program.eps)
        phi = trial.evaluator.line_of_entry(estimates.leaf.start + int(line), float(large))
        setting, channels = estimates.settings[line], flat[:, line]
        slope = estimate_with_ladder(phi, setting)
        ratio = units[line] / large
        for name in ("value", "low", "high"):
            getattr(estimates, name)[channels, line] = getattr(slope, name)[channels] * ratio
        bound = np.fmax(slope.bound, _measure_one_sided_gap(phi, setting, slope))
        for name, size in (("bound", bound), ("nearby_slope", slope.nearby_slope)):
            getattr(estimates, name)[channels, line] = size[channels] * abs(ratio)
        for channel in np.flatnonzero(channels):
            estimates.reason[channel, line] = slope.reason[channel]
            estimates.story[channel, line] = slope.story[channel].per(large / units[line])
        estimates.refined[line] = True
    return bool(lines.size) or _reset_absorbed_slopes(trial, estimates, wrong & (estimates.value == 0))


def _reset_absorbed_slopes(trial: MeasuredTrial, estimates: LineEstimates, suspicious: NDArray[np.bool_]) -> bool:
    """Make slopes of zero unknown if other leaves absorb all steps of the entry, and a step of their size changes the output.

    Args:
        estimates: changed in place.
        suspicious: marks the slopes of zero that a claim contradicts, (C, L).

    Returns:
        Whether there are any.
    """
    program, absorbed = trial.program, np.zeros(suspicious.shape, dtype=bool)
    largest = max(directions.compute_leaf_scale(program.point[leaf.span]) for leaf in program.leaves)
    swamped = np.abs(estimates.units) < MAX_SWAMPED_ULPS * program.eps * largest
    for line in np.flatnonzero(np.any(suspicious, axis=0) & swamped)[:MAX_REESTIMATED_LINES]:
        setting = estimates.settings[line]
        phi = trial.evaluator.line_of_entry(estimates.leaf.start + int(line), largest)
        with np.errstate(all="ignore"):
            absorbed[:, line] = suspicious[:, line] & (setting.contract(phi(LARGEST_STEP) - setting.base) != 0)
    estimates.bound[absorbed], estimates.reason[absorbed] = np.inf, Reason.DULL
    return bool(np.any(absorbed))


def _measure_one_sided_gap(phi: Phi, setting: Setting, slope: Slope) -> F64:
    """Measure how far the slopes on both sides are apart at the finest step that an estimate is based on, (C,).

    At finer steps the entry is absorbed. Without this, 8 of 84 right gradients of nearly even functions failed, as the central
    difference of an even function is zero whatever the step.
    """
    gap = np.zeros(slope.value.shape)
    for channel, story in enumerate(slope.story):
        if story.plateau is not None and np.isnan(slope.low[channel]):
            step = story.plateau[1]
            gap[channel] = abs(setting.contract(phi(step) + phi(-step) - 2 * setting.base)[channel]) / step
    return gap

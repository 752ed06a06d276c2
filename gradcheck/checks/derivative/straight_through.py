"""Straight-through estimators: claims that are not zero, although the function is constant around the inputs.

Rounding, signs and arg-maxima have the derivative zero. What is claimed instead is a choice, not a derivative.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.verdict.facts import Fact
from gradcheck.verdict.interval import Code

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gradcheck.compare.estimates import LineEstimates
    from gradcheck.compare.judge import JudgedLeaf
    from gradcheck.evidence.line import F64

# At these steps, in units of t and so of an entry's scale, the function must stand exactly still.
NEAR_STEPS = (2.0**-13, -(2.0**-13), 2.0**-17, -(2.0**-17), 2.0**-20, -(2.0**-20))
# At one of these steps, in units of t, the function must have changed.
FAR_STEPS = (1.0, -1.0, 4.0, -4.0, 16.0, -16.0)
# A claim smaller than this many units in the last place of the slopes at these steps, or of the largest derivative of the same
# output, is what cancellation leaves of a zero, and not a choice.
MAX_CANCELLED_CLAIM_ULPS = 16.0


def mark_straight_through(
    estimates: LineEstimates, judged: JudgedLeaf, output_of_channel: NDArray[np.intp], *, declared: bool
) -> JudgedLeaf:
    """Mark the straight-through estimators among the wrong entries; they pass if the user declared them.

    The estimate of such an entry is exactly zero, while the function changes farther away. A function that never changes does
    not depend on the input, and the claim is just wrong, unless it is what cancellation leaves of a zero.

    Args:
        estimates: the estimates by which the claim was judged.
        output_of_channel: number of the output that each channel belongs to, (C,).
        declared: whether the user declared straight-through estimators.
    """
    flat = (judged.code == Code.FAIL) & (judged.sides.value == 0) & np.isfinite(judged.sides.claim)
    flat &= judged.remark == estimates.reason  # no other cause is known
    lines = np.flatnonzero(np.any(flat, axis=0))
    if not lines.size:
        return judged
    size = np.abs(judged.sides.claim)
    by_channel = np.max(size, axis=1, where=np.isfinite(size), initial=0.0)
    largest = np.array([[np.max(by_channel[output_of_channel == output])] for output in output_of_channel])
    few_bits = flat & (size <= MAX_CANCELLED_CLAIM_ULPS * estimates.eps * largest)
    if not declared:  # One entry is enough to name the cause.
        lines = np.union1d(lines[:1], np.flatnonzero(np.any(few_bits, axis=0)))
    straight_through, cancelled = np.zeros(flat.shape, dtype=bool), np.zeros(flat.shape, dtype=bool)
    for line in lines:
        still, steepest = _measure_surroundings(estimates, int(line))
        straight_through[:, line] = flat[:, line] & still & (steepest > 0)
        negligible = size[:, line] <= MAX_CANCELLED_CLAIM_ULPS * estimates.eps * steepest
        cancelled[:, line] = flat[:, line] & still & (few_bits[:, line] | negligible & (steepest > 0))
    claim_error = np.where(cancelled, np.maximum(judged.sides.claim_error, size), judged.sides.claim_error)
    judged = replace(judged, sides=replace(judged.sides, claim_error=claim_error))
    judged = judged.with_fact(Fact.STRAIGHT_THROUGH, straight_through).with_fact(Fact.CANCELLED, cancelled)
    return judged.with_fact(Fact.DECLARED, straight_through) if declared else judged


def _measure_surroundings(estimates: LineEstimates, line: int) -> tuple[NDArray[np.bool_], F64]:
    """Find which channels stand still at near steps along a line, (C,), and the steepest chord of each at far steps, (C,)."""
    phi, setting = estimates.phis[line], estimates.settings[line]
    with np.errstate(all="ignore"):
        moved = [setting.contract(phi(t) - setting.base) != 0 for t in NEAR_STEPS]
        chords = [np.nan_to_num(np.abs(setting.contract(phi(t) - setting.base)) / abs(t), posinf=0.0) for t in FAR_STEPS]
    return ~np.any(moved, axis=0), np.max(chords, axis=0)

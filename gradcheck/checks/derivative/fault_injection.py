"""The self-test of a PASS: faults are injected into the claim that passed, and the same estimates must not let them pass.

It costs no evaluation. How large a fault must be to count follows from what the PASS states: `FAULT_MARGIN` times its
resolution, or times the relative error that matters if that is larger.

`reports/detection.md` measures which faults in real gradients a check catches, and whether a PASS states more than is true.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.compare.judge import judge_lines
from gradcheck.results import Comparison, Reason, SelfTest, Verdict
from gradcheck.verdict.facts import Fact
from gradcheck.verdict.interval import Code
from gradcheck.verdict.planted_faults import inject_faults
from gradcheck.verdict.rules import decide_row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from gradcheck.compare.estimates import LineEstimates
    from gradcheck.compare.judge import ClaimAlongLines, JudgedLeaf
    from gradcheck.evidence.line import F64

# A fault must be caught if its relative size is this many times what a PASS states of itself (its resolution or `rtol`).
FAULT_MARGIN = 10.0
# An entry that passed as zero must not be confused with one of this size, as a share of the slopes nearby and of the outputs.
ZERO_FAULT_SIZE = 1e-2
# Rounding may take a fault below the size that it was made with by this relative amount.
FAULT_SIZE_ROUNDING = 1e-6


def add_self_test(
    row: Comparison,
    gradient: F64,
    accepts: Callable[[F64], bool],
    fault_error: Callable[[F64], F64],
    rng: np.random.Generator,
    *,
    shape: tuple[int, ...],
    replacement: float = 1.0,
) -> Comparison:
    """Add the score of the self-test to a PASS; it becomes INCONCLUSIVE if a fault passes.

    Args:
        row: the row of the table; returned unchanged unless it is a PASS that faults can test.
        gradient: the claim, (C, n).
        accepts: says whether the evidence lets a gradient (C, n) pass.
        fault_error: measures the error of a faulty gradient relative to what the resolution of the PASS is relative to.
        rng: chooses what the faults change.
        shape: shape of the gradient, with a last axis of one number per entry, or of two if it is complex.
        replacement: value of the changed entry if it is zero in the gradient.
    """
    size = compute_fault_size(row)

    def try_faults() -> Iterator[tuple[str, bool]]:
        for name, faulty in inject_faults(gradient.reshape(len(gradient), *shape), size, replacement, rng):
            faulty = faulty.reshape(gradient.shape)
            if np.any(fault_error(faulty) >= size * (1 - FAULT_SIZE_ROUNDING)):
                yield name, accepts(faulty)

    return record_faults(row, try_faults()) if size < 1 else row


def compute_fault_size(row: Comparison) -> float:
    """Compute the relative size that a fault in a claim that passed must have to count; infinite if no fault counts."""
    if row.verdict is not Verdict.PASS or row.reason in (Reason.STRAIGHT_THROUGH, Reason.TIE):
        # What is declared not to be a derivative may have any value, and a tie was judged by other estimates.
        return float("inf")
    return ZERO_FAULT_SIZE if np.isnan(row.resolution) else FAULT_MARGIN * max(row.resolution, row.rtol)


def record_faults(row: Comparison, faults: Iterable[tuple[str, bool]]) -> Comparison:
    """Add a score to a PASS; it becomes INCONCLUSIVE if a fault passed.

    Args:
        row: the row of the table.
        faults: the name of each fault that was tried, and whether it passed.
    """
    has_passed = dict(faults)
    slipped = tuple(name for name, passed in has_passed.items() if passed)
    scored = replace(row, self_test=SelfTest(tuple(has_passed), slipped))
    if not slipped:
        return scored
    verdict, reason = decide_row({Fact.BLIND})
    return replace(scored, verdict=verdict, reason=reason)


def make_acceptance_test(
    estimates: LineEstimates, along_lines: Callable[[F64], ClaimAlongLines], rtol: float
) -> Callable[[F64], bool]:
    """Return a function that says whether a gradient passes by these estimates.

    Args:
        estimates: the lines; they are not changed.
        along_lines: gives a gradient (C, n) along the lines.
        rtol: relative error from which on a gradient is wrong.
    """

    def accepts(gradient: F64) -> bool:
        judged = judge_lines(estimates, along_lines(gradient), rtol, demanded=False)
        return not np.any((judged.code > Code.PASS) | judged.doubtful)

    return accepts


def make_entry_error(estimates: LineEstimates, judged: JudgedLeaf, gradient: F64) -> Callable[[F64], F64]:
    """Return a function that gives the errors of a faulty gradient, (C, n), relative to what each entry was judged by.

    The error is 0 where the claim lies at a kink or tie, since nothing is proved there.

    Args:
        estimates: the lines, one per entry.
        judged: the leaf as it passed.
        gradient: the claim that passed, (C, n).
    """
    sides, units = judged.sides, judged.units
    is_kink = (judged.remark == Reason.KINK_SUBGRADIENT) | (judged.remark == Reason.TIE)
    is_zero = sides.magnitude <= sides.uncertainty
    negligible = ZERO_FAULT_SIZE * np.max(np.maximum(sides.nearby_slope, estimates.channel_sizes), initial=0.0)

    def fault_error(faulty: F64) -> F64:
        change = np.abs((faulty - gradient) * units)
        entry_size = np.abs(np.where(gradient == 0, faulty, gradient) * units)
        scale = np.where(judged.unresolved | is_zero, sides.leaf_scale, entry_size)
        with np.errstate(all="ignore"):
            errors = np.where(is_zero & (change <= negligible), 0.0, change / scale)
        return np.where(is_kink | (change == 0), 0.0, errors)

    return fault_error


def make_probe_error(scales: F64, gradient: F64, negligible: float) -> Callable[[F64], F64]:
    """Return a function that gives the error of a faulty gradient in each channel, (C,).

    It is the relative error of a single entry of typical size that would move a probe as much.

    Args:
        scales: displacement of each number of the leaf in a probe, (n,).
        gradient: the claim that passed, (C, n).
        negligible: the size compared with which a gradient that passed as zero is zero; 0 if it did not pass as zero.
    """
    typical = np.maximum(np.sqrt(np.mean((gradient * scales) ** 2, axis=1)), negligible)

    def fault_error(faulty: F64) -> F64:
        size = np.sqrt(np.sum(((faulty - gradient) * scales) ** 2, axis=1))
        return np.asarray(np.where(typical > 0, size / np.where(typical > 0, typical, 1.0), 0.0))

    return fault_error

"""Errors in half precision, in units in the last place, and what happens to numbers out of its range.

`reports/low_precision.md` measures its bounds with right implementations and with faults.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.backends.flat import HALF_EPS
from gradcheck.number_format import BFLOAT16, BY_EPS, FLOAT16
from gradcheck.results import Comparison, Reason, Verdict

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gradcheck.backends.flat import Leaf
    from gradcheck.evidence.line import F64

# These are the half precisions, by the relative spacing of their numbers.
HALF_NAMES = {number_format.eps: number_format.name for number_format in (FLOAT16, BFLOAT16)}
OVERFLOW = {number_format.eps: number_format.overflow for number_format in (FLOAT16, BFLOAT16)}
# The range of these half precisions is so short that gradients underflow in them.
SHORT_RANGE = (FLOAT16.eps,)
# The typical error of an entry, relative to its expected one, is the first quantile of all entries over the second: the same
# quantile of the absolute value of a standard normal variable.
TYPICAL_QUANTILE, NORMAL_QUANTILE = 0.9, 1.6449
# No entry's expected error counts as smaller than this share of the leaf's root mean square expected error.
MIN_EXPECTED_SHARE = 0.02
# If more than this share of the wrong entries are zero, the reason is underflow.
MIN_UNDERFLOW_SHARE = 0.5
UNDERFLOW_NOTE = (
    "underflow: {:.3g} % of the derivative with respect to {} is below the smallest {} number ({:.0e}): scale the loss"
)


@dataclass(frozen=True)
class UlpComparison:
    """A claim on one leaf, or a value, compared with the exact numbers; all arrays are (C, n).

    Attributes:
        leaf: the leaf.
        claim: the numbers in half precision.
        exact: the same numbers in float64.
        expected: the error that a plain implementation makes.
        eps: relative spacing of floats in the claim's dtype.
        limit: the largest ratio of the error to the expected one with which the claim passes.
    """

    leaf: Leaf
    claim: F64
    exact: F64
    expected: F64
    eps: float
    limit: float

    @property
    def error(self) -> F64:
        """|claim - exact|; not finite where the claim is not."""
        with np.errstate(all="ignore"):
            return np.abs(self.claim - self.exact)

    @property
    def has_error(self) -> NDArray[np.bool_]:
        """Where the error and the expected one are finite."""
        return np.isfinite(self.error) & np.isfinite(self.expected)

    @property
    def overflows(self) -> NDArray[np.bool_]:
        """Where the claim is not finite, although the exact number is."""
        return ~np.isfinite(self.claim) & np.isfinite(self.exact)

    @property
    def entry_ratios(self) -> F64:
        """Every entry's error over its expected error."""
        with np.errstate(all="ignore"):
            floor = MIN_EXPECTED_SHARE * _root_mean_square(self.expected[self.has_error])
            return np.asarray(self.error / (self.expected + floor))


def smallest_number(eps: float) -> float:
    """Return the smallest positive number of the half precision of relative spacing `eps`."""
    return BY_EPS[eps].smallest_subnormal


def round_to_half(values: F64, eps: float) -> F64:
    """Round numbers to the digits of the half precision of relative spacing `eps`; its range is not respected."""
    fraction, exponent = np.frexp(values)
    return np.asarray(np.ldexp(np.rint(fraction * (2 / eps)) * (eps / 2), exponent))


def judge_accuracy(compared: UlpComparison, method: str, against: str, output: str) -> Comparison:
    """Judge the accuracy of a leaf: its error and that of a plain implementation in units in the last place, and their ratio.

    Args:
        compared: the leaf.
        method: the method of the claim, for the row.
        against: what gave the exact numbers, for the row.
        output: name of the output, for the row.
    """
    ratio, plain_ulp = _compute_ratio(compared)
    verdict, reason = _decide(compared, ratio)
    rank = np.where(compared.has_error, compared.entry_ratios, np.where(compared.overflows, np.inf, -1.0))
    worst = np.unravel_index(int(np.argmax(rank)), rank.shape)
    claimed, estimate = float(compared.claim[worst]), float(compared.exact[worst])
    error, leaf = abs(claimed - estimate), compared.leaf
    return Comparison(
        wrt=leaf.path,
        output=output,
        method=method,
        against=against,
        verdict=verdict,
        reason=reason,
        claimed=claimed,
        estimate=estimate,
        bound=compared.limit * float(compared.expected[worst]),
        abs_err=error,
        rel_err=_divide(error, max(abs(claimed), abs(estimate))) if np.isfinite(claimed) else np.inf,
        rtol=np.nan,
        resolution=np.nan,
        worst_entry=leaf.index(leaf.start + int(worst[1])),
        shape=leaf.shape,
        dtype=HALF_NAMES[compared.eps] if leaf.dtype in ("float32", *HALF_EPS) else leaf.dtype,  # NumPy has no bfloat16
        entries=leaf.entries,
        error_ulp=plain_ulp * ratio,
        plain_ulp=plain_ulp,
        ratio=ratio,
        max_abs_err=float(np.max(compared.error, where=compared.has_error, initial=0.0)),
    )


def describe_underflow(compared: UlpComparison) -> list[str]:
    """Describe, in a note, which share of a derivative underflows because no number of the dtype is so small."""
    nonzero, smallest = compared.exact != 0, smallest_number(compared.eps)
    underflows = nonzero & (compared.claim == 0) & (np.abs(compared.exact) < smallest)
    if not underflows.any():
        return []
    percent = 100 * underflows.sum() / max(nonzero.sum(), 1)
    return [UNDERFLOW_NOTE.format(percent, compared.leaf.path, HALF_NAMES[compared.eps], smallest)]


def _compute_ratio(compared: UlpComparison) -> tuple[float, float]:
    """Compute the ratio of the error to the expected one, and the expected one in units in the last place.

    Both are root mean squares, or those of a typical entry if that is worse: a few large entries may hide all others.
    """
    has_error, eps = compared.has_error, compared.eps
    error, expected, size = (_root_mean_square(a[has_error]) for a in (compared.error, compared.expected, compared.exact))
    overall, expected_ulp = _divide(error, expected), _divide(expected, eps * size)
    if compared.overflows.any():
        return np.inf, expected_ulp
    typical = 0.0
    if has_error.any() and expected > 0:
        typical = float(np.quantile(compared.entry_ratios[has_error], TYPICAL_QUANTILE)) / NORMAL_QUANTILE
    if overall >= typical:
        return overall, expected_ulp
    nonzero = has_error & (compared.exact != 0)
    if not nonzero.any():
        return typical, np.inf
    return typical, float(np.median(compared.expected[nonzero] / (eps * np.abs(compared.exact[nonzero]))))


def _decide(compared: UlpComparison, ratio: float) -> tuple[Verdict, Reason]:
    """Decide whether a leaf is accurate enough; overflow and underflow are named, and no fault if no number could hold it."""
    size, smallest = np.abs(compared.exact), smallest_number(compared.eps)
    if compared.overflows.any():
        fits = compared.overflows & (size <= OVERFLOW[compared.eps])
        return (Verdict.FAIL, Reason.OVERFLOW) if fits.any() else (Verdict.INCONCLUSIVE, Reason.OUT_OF_RANGE)
    if size.any() and not compared.claim.any() and np.all(size < smallest):
        return Verdict.INCONCLUSIVE, Reason.OUT_OF_RANGE
    if not ratio > compared.limit:
        return Verdict.PASS, Reason.AGREES
    wrong = compared.entry_ratios > compared.limit
    underflows = wrong & (compared.claim == 0) & (size >= 2 * smallest)
    is_underflow = compared.eps in SHORT_RANGE and underflows.sum() > MIN_UNDERFLOW_SHARE * max(wrong.sum(), 1)
    return Verdict.FAIL, Reason.UNDERFLOW if is_underflow else Reason.INACCURATE


def _root_mean_square(values: F64) -> float:
    return float(np.sqrt(np.mean(values**2))) if values.size else 0.0


def _divide(a: float, b: float) -> float:
    return a / b if b > 0 else (np.inf if a > 0 else 0.0)

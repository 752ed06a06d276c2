"""Errors in half precision, in units in the last place, and what becomes of numbers beyond its range."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.backends.flat import HALF
from gradcheck.results import Comparison, Reason, Verdict

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gradcheck.backends.flat import Leaf
    from gradcheck.evidence.line import F64

NAMES = {eps: name for name, eps in HALF.items()}
LARGEST = {HALF["float16"]: 65504.0, HALF["bfloat16"]: 2.0**128}
NORMAL = {HALF["float16"]: 2.0**-14, HALF["bfloat16"]: 2.0**-126}  # the smallest number with all its digits
SHORT = (HALF["float16"],)  # of range: gradients underflow in it
QUANTILE, SIZE = 0.9, 1.6449  # of the entries' errors, each over its own; of a normal distribution's size
LEAST = 0.02  # of its leaf's: no entry's expected error counts as smaller
LOST = 0.5  # share of what is wrong
BELOW = "underflow: {:.3g} % of the derivative with respect to {} is below the smallest {} number ({:.0e}): scale the loss"


@dataclass(frozen=True)
class Held:
    """A claim on one leaf, or a value, beside float64; all arrays (C, n).

    Attributes:
        exact: in float64.
        expected: what a plain implementation is off by.
        eps: relative spacing of the claim's dtype.
        limit: on the error over the expected one.
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
    def known(self) -> NDArray[np.bool_]:
        """Where there is an error to speak of."""
        return np.isfinite(self.error) & np.isfinite(self.expected)

    @property
    def beyond(self) -> NDArray[np.bool_]:
        """Where the claim is no number, and the exact one is."""
        return ~np.isfinite(self.claim) & np.isfinite(self.exact)

    @property
    def each(self) -> F64:
        """Every entry's error over the one to be expected of it."""
        with np.errstate(all="ignore"):
            return np.asarray(self.error / (self.expected + LEAST * _rms(self.expected[self.known])))


def smallest(eps: float) -> float:
    """The smallest number of a half precision."""
    return NORMAL[eps] * eps


def rounded(values: F64, eps: float) -> F64:
    """Numbers rounded to those of a half precision, of relative spacing `eps`; its range is not looked at."""
    fraction, exponent = np.frexp(values)
    return np.asarray(np.ldexp(np.rint(fraction * (2 / eps)) * (eps / 2), exponent))


def judged(held: Held, method: str, against: str, output: str) -> Comparison:
    """The line of a leaf: its error in units in the last place, that of a plain implementation, and their ratio."""
    ratio, plain = _ratio(held)
    verdict, reason = _verdict(held, ratio)
    where = np.where(held.known, held.each, np.where(held.beyond, np.inf, -1.0))
    worst = np.unravel_index(int(np.argmax(where)), where.shape)
    claimed, estimate = float(held.claim[worst]), float(held.exact[worst])
    apart, leaf = abs(claimed - estimate), held.leaf
    return Comparison(
        wrt=leaf.path,
        output=output,
        method=method,
        against=against,
        verdict=verdict,
        reason=reason,
        claimed=claimed,
        estimate=estimate,
        bound=held.limit * float(held.expected[worst]),
        abs_err=apart,
        rel_err=_over(apart, max(abs(claimed), abs(estimate))) if np.isfinite(claimed) else np.inf,
        rtol=np.nan,
        resolution=np.nan,
        worst_entry=leaf.index(leaf.start + int(worst[1])),
        shape=leaf.shape,
        dtype=NAMES[held.eps] if leaf.dtype in ("float32", *HALF) else leaf.dtype,  # NumPy knows bfloat16 as float32
        entries=leaf.entries,
        error_ulp=plain * ratio,
        plain_ulp=plain,
        ratio=ratio,
    )


def remarks(held: Held) -> list[str]:
    """What underflows because no number of the dtype is so small."""
    some, least = held.exact != 0, smallest(held.eps)
    lost = some & (held.claim == 0) & (np.abs(held.exact) < least)
    share = 100 * lost.sum() / max(some.sum(), 1)
    return [BELOW.format(share, held.leaf.path, NAMES[held.eps], least)] if lost.any() else []


def _ratio(held: Held) -> tuple[float, float]:
    """The error over the expected one, and that in units in the last place.

    Of the root mean squares, or of a typical entry where that is worse: a few large ones may hide all others.
    """
    known, eps = held.known, held.eps
    error, expected, size = (_rms(a[known]) for a in (held.error, held.expected, held.exact))
    overall = _over(error, expected)
    typical = float(np.quantile(held.each[known], QUANTILE)) / SIZE if known.any() and expected > 0 else 0.0
    if held.beyond.any():
        return np.inf, _over(expected, eps * size)
    if overall >= typical:
        return overall, _over(expected, eps * size)
    some = known & (held.exact != 0)
    return typical, float(np.median(held.expected[some] / (eps * np.abs(held.exact[some])))) if some.any() else np.inf


def _verdict(held: Held, ratio: float) -> tuple[Verdict, Reason]:
    """Whether it is accurate enough; what overflows or underflows is named, and is no fault where no number could hold it."""
    size, least = np.abs(held.exact), smallest(held.eps)
    if held.beyond.any():
        fits = held.beyond & (size <= LARGEST[held.eps])
        return (Verdict.FAIL, Reason.OVERFLOW) if fits.any() else (Verdict.INCONCLUSIVE, Reason.OUT_OF_RANGE)
    if size.any() and not held.claim.any() and np.all(size < least):
        return Verdict.INCONCLUSIVE, Reason.OUT_OF_RANGE
    if not ratio > held.limit:
        return Verdict.PASS, Reason.AGREES
    wrong = held.each > held.limit
    lost = wrong & (held.claim == 0) & (size >= 2 * least)
    under = held.eps in SHORT and lost.sum() > LOST * max(wrong.sum(), 1)
    return Verdict.FAIL, Reason.UNDERFLOW if under else Reason.INACCURATE


def _rms(values: F64) -> float:
    return float(np.sqrt(np.mean(values**2))) if values.size else 0.0


def _over(a: float, b: float) -> float:
    return a / b if b > 0 else (np.inf if a > 0 else 0.0)

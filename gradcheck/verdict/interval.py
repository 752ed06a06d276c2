"""The interval test: a claim held against an estimate that knows its own error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gradcheck.results import Reason, Verdict

F64 = NDArray[np.float64]
DULLEST = 1e-2  # a PASS is never duller than this, relative to the derivative
SMALL_ENTRY = 1e-3  # an entry too small to be judged by its own size must be known to this share of its leaf's largest
ROUNDING = 4.0  # a claim may be off by this many units in the last place of its leaf's size
FLAT_UNITS = 1024.0  # the same in units in the last place, for lower precision
UNSEEN = 64.0  # units in the last place of the outputs: a claim below that per unit of scale is lost in their last bits
FLAT = 1e-9  # relative to the outputs: a slope below this per unit of scale is no slope, where none is seen at coarse steps

RTOL = {2.0**-52: 1e-8, 2.0**-23: 1e-4, 2.0**-10: 2e-2, 2.0**-7: 1e-1}

VERDICTS = (Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.FAIL)


def default_rtol(eps: float) -> float:
    """The relative error from which on a claim made in a dtype of relative spacing `eps` is wrong: 1e-8, 1e-4 in float32."""
    return RTOL.get(eps, 0.1)


@dataclass(frozen=True)
class Sides:
    """A claim, an estimate and their errors, entry by entry; all arrays of one shape.

    Attributes:
        bound: of the estimate's error.
        rounding: of the claim's own error.
        scale: what a relative error is relative to.
        whole: the largest such scale among entries of the same leaf.
        nearby: the steepest chord of the function nearby: beside it a zero is a zero.
    """

    claim: F64
    value: F64
    bound: F64
    rounding: F64
    scale: F64
    whole: F64
    nearby: F64

    @property
    def apart(self) -> F64:
        """|claim - estimate|."""
        return np.abs(self.claim - self.value)

    @property
    def size(self) -> F64:
        """The larger of |claim| and |estimate|; along many entries at once that may be far below the scale."""
        return np.asarray(np.fmax(np.abs(self.claim), np.abs(self.value)))

    @property
    def allowed(self) -> F64:
        """U: what the two may differ by though both are right."""
        return self.bound + self.rounding


@dataclass(frozen=True)
class Judged:
    """Entry by entry: 0 PASS, 1 INCONCLUSIVE, 2 FAIL; and which passed only by their leaf's size."""

    code: NDArray[np.int8]
    unresolved: NDArray[np.bool_]


def judge(s: Sides, rtol: float, *, demanded: bool) -> Judged:
    """Apply the interval test.

    With d = |claim - estimate| and U the sum of both error bounds: FAIL where d - U > rtol scale. PASS where
    d + U <= rtol scale; or, where the user demanded no rtol, where d <= U and U <= 1e-2 scale. An entry whose derivative is
    lost beside its leaf's others passes where d <= U and U is small beside those; one that is zero, where U is small beside
    the slopes nearby. INCONCLUSIVE otherwise.

    Args:
        demanded: whether the user set `rtol`, which makes it a demand on the evidence too.
    """
    with np.errstate(all="ignore"):
        apart, allowed = s.apart, s.allowed
        dullest = rtol if demanded else DULLEST
        within = apart <= allowed
        own = (apart + allowed <= rtol * s.scale) | (within & (allowed <= dullest * s.scale))
        small = within & (allowed <= min(SMALL_ENTRY, dullest) * s.whole)
        zero = within & (s.size <= allowed) & (allowed <= min(SMALL_ENTRY, dullest) * s.nearby)
        nothing = (apart == 0) & (s.bound == 0)
        wrong = apart - allowed > rtol * s.scale
    wrong |= ~np.isfinite(s.claim) & np.isfinite(s.value) & np.isfinite(s.bound)
    passed = (own | small | zero | nothing) & np.isfinite(s.claim) & np.isfinite(allowed)
    code = np.where(wrong, 2, np.where(passed, 0, 1)).astype(np.int8)
    return Judged(code, passed & ~own & ~nothing & ~zero)


def flat_here(s: Sides, outputs: F64, eps: float) -> NDArray[np.bool_]:
    """Entries whose derivative is zero as far as the function's values can tell: no slope stands out of the noise.

    Args:
        outputs: size of the outputs behind each entry, in the units of a slope per leaf scale.
        eps: relative spacing of floats in the precision of the outputs, or of the claim where that is lower.
    """
    with np.errstate(all="ignore"):
        within = (s.apart <= s.allowed) & (s.size <= s.allowed) & (s.allowed <= max(FLAT, FLAT_UNITS * eps) * outputs)
        return within & (np.abs(s.claim) <= UNSEEN * eps * outputs)


def suspicion(s: Sides, code: NDArray[np.int8]) -> F64:
    """How urgently an entry wants a closer look; 0 for what passed."""
    with np.errstate(all="ignore"):
        urgency = np.nan_to_num(s.apart / np.where(s.allowed > 0, s.allowed, 1e-300), nan=np.inf, posinf=1e300)
    return np.where(code == 0, 0.0, 1.0 + urgency)


def relative(apart: float, claim: float, value: float) -> float:
    """|claim - estimate| over the larger of the two; 0 where both are zero."""
    scale = max(abs(claim), abs(value))
    return apart / scale if scale > 0 else 0.0


def reason_for(verdict: Verdict, claim: float, value: float, allowed: float, seen: Reason | None) -> Reason:
    """Say why one entry got its verdict; `seen` is what the evidence remarked."""
    if verdict is Verdict.PASS:
        zero = max(abs(claim), abs(value)) <= allowed
        return Reason.BOTH_ZERO if zero else Reason.AGREES
    if verdict is Verdict.FAIL:
        return Reason.DISAGREES if np.isfinite(claim) else Reason.CLAIM_NOT_FINITE
    return seen or Reason.DULL

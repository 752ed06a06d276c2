"""The interval test: a claim compared with an estimate that knows its own error.

`reports/false_alarms.md` measures how often these limits refuse a right derivative, `reports/detection.md` what they let pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from gradcheck.number_format import BFLOAT16, BY_EPS
from gradcheck.results import Reason, Verdict
from gradcheck.verdict.facts import Fact, Mask

F64 = NDArray[np.float64]

# Without a demanded rtol, a claim may pass with an uncertainty up to this, relative to the derivative.
MAX_RESOLUTION = 1e-2
# An entry too small to be judged by its own size may pass with an uncertainty up to this, relative to the leaf's largest scale
# or to the slopes nearby.
MAX_SMALL_ENTRY_UNCERTAINTY = 1e-3
# Rounding alone may change a claim by this many units in the last place of its leaf's size.
CLAIM_ROUNDING_ULPS = 4.0
# If no slope is seen at coarse steps, a slope may count as zero with an uncertainty up to this, relative to the outputs per
# unit of scale. In low precision the limit is the second constant instead, in units in the last place, if that is more.
MAX_FLAT_UNCERTAINTY = 1e-9
MAX_FLAT_UNCERTAINTY_ULPS = 1024.0
# A claim below this many units in the last place of the outputs per unit of scale is lost in the outputs' last bits.
MAX_UNSEEN_ULPS = 64.0
# This replaces an uncertainty of zero as a divisor, and breaks ties without changing an order that larger numbers decide.
TINY = 1e-300


class Code(IntEnum):
    """A verdict as an array holds it (int8), from best to worst, so that the larger of two codes is the worse verdict."""

    PASS = 0
    INCONCLUSIVE = 1
    FAIL = 2


# The verdicts are indexed by `Code`.
VERDICTS = (Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.FAIL)


def default_rtol(eps: float) -> float:
    """Return the relative error from which on a claim is wrong: 1e-7 in float64, 1e-4 in float32.

    Args:
        eps: relative spacing of floats in the claim's dtype.
    """
    return BY_EPS.get(eps, BFLOAT16).default_rtol


@dataclass(frozen=True)
class ClaimAndEstimate:
    """A claim, an estimate and the errors of both, entry by entry; all arrays have one shape.

    Attributes:
        claim: the claimed derivative.
        value: the estimated derivative.
        bound: bound of the estimate's error.
        claim_error: bound of the claim's own error: rounding, and conditioning if it was measured.
        scale: what a relative error is relative to.
        leaf_scale: the largest such scale among the entries of the same leaf.
        nearby_slope: the steepest chord of the function nearby, compared with which a zero is a zero.
    """

    claim: F64
    value: F64
    bound: F64
    claim_error: F64
    scale: F64
    leaf_scale: F64
    nearby_slope: F64

    @property
    def difference(self) -> F64:
        """|claim - estimate|."""
        return np.abs(self.claim - self.value)

    @property
    def magnitude(self) -> F64:
        """The larger of |claim| and |estimate|; along many entries at once that may be far below the scale."""
        return np.asarray(np.fmax(np.abs(self.claim), np.abs(self.value)))

    @property
    def uncertainty(self) -> F64:
        """U: how far the two may be apart although both are right."""
        return self.bound + self.claim_error


def find_interval_facts(pair: ClaimAndEstimate, rtol: float, *, demanded: bool) -> dict[Fact, Mask]:
    """Apply the interval test: find which of its facts hold for each entry.

    Args:
        pair: the claim and the estimate.
        rtol: relative error from which on a claim is wrong.
        demanded: whether the user set `rtol`, which makes it a demand on the evidence too.
    """
    with np.errstate(all="ignore"):
        difference, uncertainty = pair.difference, pair.uncertainty
        max_resolution = rtol if demanded else MAX_RESOLUTION
        max_small = min(MAX_SMALL_ENTRY_UNCERTAINTY, max_resolution)
        agrees = difference <= uncertainty
        known = np.isfinite(pair.claim) & np.isfinite(uncertainty)
        sharp = (difference + uncertainty <= rtol * pair.scale) | (agrees & (uncertainty <= max_resolution * pair.scale))
        small = agrees & (uncertainty <= max_small * pair.leaf_scale)
        # An entry below the relative error that the user allows counts by its leaf's largest.
        below = (pair.magnitude + uncertainty <= rtol * pair.leaf_scale) & demanded
        zero = agrees & (pair.magnitude <= uncertainty) & (uncertainty <= max_small * pair.nearby_slope)
        identical = (difference == 0) & (pair.bound == 0)
        apart = (difference - uncertainty > rtol * pair.scale) & ~below
        within_rtol = ~agrees & (difference + uncertainty <= rtol * pair.scale)
    apart |= ~np.isfinite(pair.claim) & np.isfinite(pair.value) & np.isfinite(pair.bound)
    return {
        Fact.IDENTICAL: identical & known,
        Fact.APART: apart,
        Fact.SHARP: sharp & known,
        Fact.ZERO: zero & known,
        Fact.SMALL: (small | below) & known,
        Fact.WITHIN_RTOL: within_rtol & known,
    }


def is_flat(pair: ClaimAndEstimate, outputs: F64, eps: float) -> NDArray[np.bool_]:
    """Mark the entries whose derivative is zero as far as the function's values show: no slope stands out of the noise.

    Args:
        pair: the claim and the estimate.
        outputs: size of the outputs behind each entry, in the units of a slope per leaf scale.
        eps: relative spacing of floats in the precision of the outputs, or of the claim if that is lower.
    """
    with np.errstate(all="ignore"):
        max_uncertainty = max(MAX_FLAT_UNCERTAINTY, MAX_FLAT_UNCERTAINTY_ULPS * eps) * outputs
        agrees = (pair.difference <= pair.uncertainty) & (pair.magnitude <= pair.uncertainty)
        unseen = np.abs(pair.claim) <= MAX_UNSEEN_ULPS * eps * outputs
        return agrees & (pair.uncertainty <= max_uncertainty) & unseen


def compute_urgency(pair: ClaimAndEstimate, code: NDArray[np.int8]) -> F64:
    """Compute how urgently each entry needs a closer look; 0 if it passed."""
    with np.errstate(all="ignore"):
        ratio = pair.difference / np.where(pair.uncertainty > 0, pair.uncertainty, TINY)
        urgency = np.nan_to_num(ratio, nan=np.inf, posinf=1e300)
    return np.where(code == Code.PASS, 0.0, 1.0 + urgency)


def choose_reason(verdict: Verdict, claim: float, value: float, uncertainty: float, remark: Reason | None) -> Reason:
    """Say why one entry got its verdict; `remark` is the reason that the evidence gave, if any."""
    if verdict is Verdict.PASS:
        zero = max(abs(claim), abs(value)) <= uncertainty
        return Reason.BOTH_ZERO if zero else Reason.AGREES
    if verdict is Verdict.FAIL:
        return Reason.DISAGREES if np.isfinite(claim) else Reason.CLAIM_NOT_FINITE
    return remark or Reason.DULL

"""A derivative along one line, as claimed and by a few differences: shows a wrong gradient where no other check looks."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gradcheck.evidence import richardson
from gradcheck.evidence.line import F64, choose_slack

# A difference larger than this, relative to the size of the claim's terms, plus the bound of the evidence, counts as wrong.
MAX_SLOPE_DIFFERENCE = 1e-2
# Differences whose bound is larger than this, relative to the size of the claim's terms, decide nothing.
MAX_DECISIVE_BOUND = 0.25


@dataclass(frozen=True)
class SlopeComparison:
    """A derivative along a line, as claimed and by differences.

    Attributes:
        claimed: the derivative as claimed.
        estimate: the derivative by differences.
        bound: the largest error of the estimate.
        size: root sum of squares of the claim's terms, or the absolute estimate if that is larger.
        negligible: a derivative that is practically zero compared with the outputs.
        tolerance: how far the two may be apart, relative to `size`, in addition to the bound.
    """

    claimed: float
    estimate: float
    bound: float
    size: float
    negligible: float
    tolerance: float

    @property
    def differs(self) -> bool:
        """Whether the claim differs from the estimate; a claim that is NaN does."""
        allowed = self.bound + self.tolerance * self.size
        return math.isfinite(self.estimate) and not abs(self.claimed - self.estimate) <= allowed

    @property
    def is_wrong(self) -> bool:
        """Whether the claim differs and the estimate is sharp enough to say so."""
        return self.differs and (not math.isfinite(self.claimed) or self.bound <= MAX_DECISIVE_BOUND * self.size)

    @property
    def is_coarse(self) -> bool:
        """Whether the estimate is too coarse to decide anything."""
        return not self.bound <= max(MAX_DECISIVE_BOUND * self.size, self.negligible)


def compare_slope(
    change: Callable[[float], float],
    terms: tuple[float, float],
    noise: float,
    eps: float,
    *,
    claim_error: float = 0.0,
    negligible: float = 0.0,
    tolerance: float = MAX_SLOPE_DIFFERENCE,
) -> SlopeComparison:
    """Compare a claim with differences at three steps along a line.

    Args:
        change: t -> how much the function has changed at t; where it raises, the difference is NaN.
        terms: the sum of the claim's terms, and their root sum of squares; 0 if only the estimate sets the size.
        noise: of such a change.
        eps: relative spacing of floats in the precision of the evaluation.
        claim_error: the rounding error of the claim.
        negligible, tolerance: as in `SlopeComparison`.
    """

    def phi(t: float) -> F64:
        try:
            return np.array([change(t)])
        except Exception:  # outside the function's domain
            return np.array([np.nan])

    slope = richardson.estimate_from_three_steps(phi, 0.0, eps, lambda _: np.array([noise]), choose_slack(1))
    estimate, bound = float(slope.value[0]), float(slope.bound[0]) + claim_error
    size = float(np.fmax(terms[1], abs(estimate)))
    return SlopeComparison(terms[0], estimate, bound, size, negligible, tolerance)

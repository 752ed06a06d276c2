"""Confidence sequences: bounds of a mean that hold at every number of draws at once, so that a test may stop at any time."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from gradcheck.evidence.line import F64

# The bounds are narrowest at about this number of draws; elsewhere they are a little wider.
TUNED_FOR = 1024
# Heavy tails: the bounds rest on a measured variance, which few large values make too small. Values count as many if at least
# this many of equal size would have the same kurtosis; then even rare events keep to the bounds (reports/depends.md).
MIN_EFFECTIVE = 100.0
# Values that are all equal show that other ones are rarer than about 15 in this many, at a probability of error of 1e-6.
MIN_EQUAL = 2048
EQUAL = 1e-9  # relative to the largest


def bound_mean(values: F64, alpha: float) -> F64:
    """Bound how far the mean of each row of draws is from the expectation, for all numbers of draws at once, (K,).

    This is the normal mixture of Robbins ("Statistical methods related to the law of the iterated logarithm", 1970) with the
    measured variance, an asymptotic confidence sequence (Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas, "Time-uniform central
    limit theory and asymptotic confidence sequences", Annals of Statistics 2024, equation 5).

    Args:
        values: independent draws of K quantities, (K, n).
        alpha: the probability that a bound is ever exceeded.
    """
    n = values.shape[1]
    spread = -2 * math.log(alpha)
    weight = n * (spread + math.log(spread) + 1) / TUNED_FOR  # n rho^2, with rho as the paper tunes it
    width = math.sqrt(2 * (weight + 1) / (n * weight) * math.log(math.sqrt(weight + 1) / alpha))
    return np.asarray(np.std(values, axis=1) * width)


def is_representative(values: F64) -> bool:
    """Say whether some draws, (n,), have enough effective values for the bound of their mean."""
    centred = np.abs(values - values.mean())
    largest = float(centred.max())
    if largest <= EQUAL * float(np.abs(values).max()):
        return values.size >= MIN_EQUAL
    squares = (centred / largest) ** 2
    return bool(np.sum(squares) ** 2 >= MIN_EFFECTIVE * np.sum(squares**2))

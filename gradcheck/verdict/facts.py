"""What is known about a claim and the evidence at one entry, or along one line; `rules.py` turns it into a verdict."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

import numpy as np
from numpy.typing import NDArray


class Fact(Enum):
    """A fact about one derivative; the value is a clause that says what it means.

    d is the difference of claim and evidence, U the sum of their error bounds.
    """

    IDENTICAL = "claim and evidence are the same number, and nothing is uncertain about it"
    APART = "d - U is more than rtol of the derivative, or the claim is not finite where the evidence is"
    SHARP = "d + U is at most rtol of the derivative; or, unless the user set rtol, d <= U and U is at most 1e-2 of it"
    ZERO = "d <= U, both are zero to within U, and U is at most 1e-3 of the slopes nearby"
    SMALL = "d <= U, and U is at most 1e-3 of the largest derivative of the input"
    FLAT = "d <= U, both are zero to within U, no step shows a slope, and the claim is lost in the last bits of the outputs"
    EQUAL = "claim and evidence are the same number, though either may be rounded"
    LAST_BITS = "d <= U, and U is no more than the last bits of the outputs explain"
    UNDERFLOWS = "d is no more than what is lost below the smallest numbers of the function's dtype"
    UNCONFIRMED = "a cheap estimate saw something that is not smooth, and no careful one was made"
    COARSE = "the estimates are too coarse to tell which of the two methods is right"
    QUANTISED_ZERO = "the function's values change in coarse steps, and the claim is zero"
    STANDS_STILL = "the function does not change at all so far around that rounding cannot be the cause"
    INSIDE_KINK = "the function has a kink, and the claim lies between the one-sided slopes"
    OUTSIDE_KINK = "the function has a kink, and the claim lies outside the one-sided slopes"
    OUTSIDE_JOINTLY = "as INSIDE_KINK along the entry, but outside along directions that move many entries"
    WRONG_NEARBY = "the claim is wrong at a point near the kink, where the function is smooth"
    RIGHT_NEARBY = "the claim is right at points near the kink, where the function is smooth"
    TIE_INSIDE = "the function is not differentiable jointly, and the claim lies between the claims around this point"
    TIE_UNCLEAR = "as TIE_INSIDE, but the claim is a little outside of them"
    TIE_OUTSIDE = "as TIE_INSIDE, but the claim is far outside of them"
    STRAIGHT_THROUGH = "the function is constant here and changes farther away, and the claim is not zero"
    DECLARED = "the user declared straight-through estimators"
    CANCELLED = "the function is constant here, and the claim is only what cancellation leaves of a zero"
    OUT_OF_RANGE = "the claim is not finite, and the derivative is no number of its dtype, or of any"
    DTYPE_DIFFERS = "the claim differs from its float64 twin, and so does the function in the claim's dtype"
    APART_IN_OWN_DTYPE = "the claim in its own dtype differs from its float64 twin by more than rounding and rtol"
    ACCURACY_JUDGED_APART = "the claim is in half precision, and nothing but rounding can be wrong with it"
    CONFIRMED_BY_OTHER_MODE = "the claim in forward mode equals one in reverse mode that passed"
    LOW_RESOLUTION = "an error of the size that matters would not have been seen"
    BLIND = "a fault that was planted in the claim on purpose passed too"


Mask = NDArray[np.bool_]
# Which entries each fact holds for; a fact that is missing holds for none.
Facts = Mapping[Fact, Mask]


def add_fact(facts: Facts, fact: Fact, mask: Mask) -> Facts:
    """Return the facts with one more, which also holds where it held before."""
    return {**facts, fact: facts[fact] | mask if fact in facts else mask}

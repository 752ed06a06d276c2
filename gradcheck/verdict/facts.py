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

    IDENTICAL = "claim and evidence are the same number, and the evidence has no error"
    APART = "d - U is more than rtol of the derivative, or the claim is not finite where the evidence is"
    SHARP = "d + U is at most rtol of the derivative; or d <= U, and U is at most 1e-2 of it (at most rtol if you set it)"
    ZERO = "d <= U, both are zero to within U, and U is at most 1e-3 of the slopes nearby (rtol, if you set a smaller one)"
    WITHIN_RTOL = "d is more than U, and d + U at most rtol of the derivative"
    SMALL = (
        "d <= U, and U is at most 1e-3 of the input's largest derivative (rtol, if you set a smaller one); or claim and"
        " evidence are both below the rtol that you set, relative to that derivative"
    )
    FLAT = "d <= U, both are zero to within U, and U and the claim are lost in the last bits of the outputs"
    EQUAL = "two methods give the same number, though either may be rounded"
    LAST_BITS = (
        "two methods differ by d <= U, and U is at most a few last bits of the outputs, or d what rounding the inputs does"
    )
    UNDERFLOWS = "d is no more than what is lost below the smallest numbers of the function's dtype"
    UNCONFIRMED = "a cheap estimate saw something that is not smooth, and no careful one was made"
    COARSE = "the evidence is too coarse to tell which of two methods is right"
    QUANTISED_ZERO = "the function's values change in coarse steps, and the claim is zero"
    STANDS_STILL = "the function is exactly constant over a distance too large for rounding to explain"
    NO_PART = "the outputs stand still far along this input, and the claim is lost in their last bits"
    DRAWN_BY_REJECTION = "the input parametrises a draw by rejection, whose derivative differences do not show"
    INSIDE_KINK = "the function has a kink here, and the claim lies between its one-sided slopes"
    OUTSIDE_KINK = "the function has a kink here, and the claim lies outside its one-sided slopes"
    METHODS_AT_KINK = "two methods are compared where the function has a kink, so that each may choose another slope"
    OUTSIDE_JOINTLY = "the claim lies between the one-sided slopes along one entry, but outside along many entries at once"
    WRONG_NEARBY = "the claim is wrong at a point near the kink, where the function is smooth"
    RIGHT_NEARBY = "the claim is right at points near the kink, where the function is smooth"
    TIE_INSIDE = "several inputs are tied, as in max, and the claim lies between the claims at points around this one"
    TIE_UNCLEAR = (
        "several inputs are tied, and the claim is outside the claims at points around this one, but right where all tied"
        " inputs move alike"
    )
    TIE_OUTSIDE = "several inputs are tied, and the claim is outside the claims at points around, also where all move alike"
    STRAIGHT_THROUGH = "the function is constant here and changes farther away, and the claim is not zero"
    DECLARED = "you declared straight-through estimators: straight_through=True or --straight-through"
    CANCELLED = "the function is constant here, and the claim is only rounding error around zero"
    OUT_OF_RANGE = "the claim is infinite or NaN, and the derivative is too large for its dtype or does not exist"
    DTYPE_DIFFERS = "the claim differs from the same claim computed in float64, and so does the function in the claim's dtype"
    TOO_LARGE_FOR_DTYPE = "the claim is infinite or NaN in its own dtype, which cannot hold the derivative"
    APART_IN_OWN_DTYPE = "the claim in its own dtype differs from itself in float64 by more than rounding and rtol"
    ACCURACY_JUDGED_APART = "the claim is in half precision; its rounding is checked separately"
    CONFIRMED_BY_OTHER_MODE = (
        "the claim in forward mode is within 1e-2 (rtol, if contradicted) of one in reverse mode that passed"
    )
    LOW_RESOLUTION = "an error of the size that matters would not have been seen, and nothing is known to be wrong"
    BLIND = "a fault that was planted in the claim on purpose passed too"


Mask = NDArray[np.bool_]
# Which entries each fact holds for; a fact that is missing holds for none.
Facts = Mapping[Fact, Mask]


def add_fact(facts: Facts, fact: Fact, mask: Mask) -> Facts:
    """Return the facts with one more, which also holds where it held before."""
    return {**facts, fact: facts[fact] | mask if fact in facts else mask}

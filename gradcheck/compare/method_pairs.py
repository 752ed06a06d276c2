"""Two methods compared entry by entry: each knows its own rounding."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gradcheck.backends.flat import Leaf
from gradcheck.compare.claimed_jacobians import Jacobian
from gradcheck.compare.judge import JudgedLeaf, make_sides
from gradcheck.verdict.facts import Fact
from gradcheck.verdict.interval import ClaimAndEstimate, find_interval_facts

if TYPE_CHECKING:
    from gradcheck.evidence.line import F64

# A derivative may be off by this many units in the last place of the outputs, because terms as large as the outputs cancel in
# it.
CANCELLATION_ULPS = 16.0
# An uncertainty, of rounding and conditioning together, of at most this many times that error still counts as the outputs' last
# bits.
MAX_LAST_BITS = 8.0


def compare_jacobians(leaf: Leaf, claimed: Jacobian, trusted: Jacobian, rtol: float, *, demanded: bool) -> JudgedLeaf:
    """Compare a claim with the derivatives of another method, entry by entry.

    Args:
        leaf: the leaf whose columns are compared.
        claimed: the claim, with its error.
        trusted: the derivatives that it is compared with, with theirs.
        rtol: relative error from which on the claim is wrong.
        demanded: whether the user set `rtol`.
    """
    part = (slice(None), leaf.span)
    claim, value = claimed.values[part], trusted.values[part]
    sides = make_sides(claim, value, trusted.error[part], claimed.error[part], np.fmax(np.abs(claim), np.abs(value)))
    return judge_pair(leaf, sides, rtol, demanded=demanded)


def judge_pair(leaf: Leaf, sides: ClaimAndEstimate, rtol: float, *, demanded: bool) -> JudgedLeaf:
    """Judge numbers by others that are known without differences; equal ones pass, whatever the errors."""
    facts = find_interval_facts(sides, rtol, demanded=demanded) | {Fact.EQUAL: sides.difference == 0}
    shape = sides.claim.shape
    return JudgedLeaf(leaf, sides, facts, np.full(shape, None, dtype=object), np.zeros(shape, dtype=bool))


def mark_last_bits(judged: JudgedLeaf, floor: F64) -> JudgedLeaf:
    """Pass the undecided entries whose difference is lost in the last bits of the outputs; both sides are proved elsewhere.

    Args:
        floor: the error that the rounding of the outputs may cause in each entry, (C, n).
    """
    uncertainty = judged.sides.uncertainty
    is_lost = (judged.sides.difference <= uncertainty) & (uncertainty <= MAX_LAST_BITS * floor)
    return judged.with_fact(Fact.LAST_BITS, is_lost)

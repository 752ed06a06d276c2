"""Two methods compared entry by entry: each knows its own rounding."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.backends.flat import Leaf
from gradcheck.compare.claimed_jacobians import Jacobian
from gradcheck.compare.judge import JudgedLeaf, make_sides
from gradcheck.verdict.interval import Code, judge_entries

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
    judgement = judge_entries(sides, rtol, demanded=demanded)
    judgement.code[sides.difference == 0] = Code.PASS  # equal, whatever the errors
    no_remark = np.full(claim.shape, None, dtype=object)
    return JudgedLeaf(leaf, sides, judgement.code, judgement.unresolved, no_remark, np.zeros(claim.shape, dtype=bool))


def pass_last_bits(judged: JudgedLeaf, floor: F64) -> JudgedLeaf:
    """Pass the undecided entries whose difference is lost in the last bits of the outputs; both sides are proved elsewhere.

    Args:
        floor: the error that the rounding of the outputs may cause in each entry, (C, n).
    """
    uncertainty = judged.sides.uncertainty
    undecided = judged.code == Code.INCONCLUSIVE
    lost = undecided & (judged.sides.difference <= uncertainty) & (uncertainty <= MAX_LAST_BITS * floor)
    code = np.where(lost, Code.PASS, judged.code).astype(np.int8)
    return replace(judged, code=code, unresolved=judged.unresolved | lost)

"""Two methods compared entry by entry: each knows its own rounding."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.backends.flat import Leaf
from gradcheck.compare.claimed_jacobians import Jacobian
from gradcheck.compare.conditioning import with_conditioning
from gradcheck.compare.judge import JudgedLeaf, make_sides
from gradcheck.compare.output_scaling import compute_output_slopes
from gradcheck.verdict.facts import Fact
from gradcheck.verdict.interval import CLAIM_ROUNDING_ULPS, ClaimAndEstimate, find_interval_facts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gradcheck.backends.program import Program
    from gradcheck.compare.trial import MeasuredTrial
    from gradcheck.evidence.line import F64

# A derivative may be off by this many units in the last place of the outputs, because terms as large as the outputs cancel in
# it.
CANCELLATION_ULPS = 16.0
# An uncertainty, of rounding and conditioning together, of at most this many times that error still counts as the outputs' last
# bits.
MAX_LAST_BITS = 8.0


def judge_methods(
    trial: MeasuredTrial,
    leaves: Sequence[Leaf],
    claimed: Jacobian,
    trusted: Jacobian,
    cotangents: F64,
    *,
    trusted_program: Program | None = None,
    add_facts: Callable[[JudgedLeaf], JudgedLeaf] = lambda judged: judged,
) -> list[JudgedLeaf]:
    """Compare the derivatives of two methods, leaf by leaf and entry by entry.

    Terms as large as the outputs may have cancelled in either. How the rounding of the inputs moves them is measured only if
    something does not pass at once.

    Args:
        trial: what is checked.
        leaves: the leaves to compare.
        claimed: the claim.
        trusted: the derivatives that it is compared with.
        cotangents: the channels of both, (C, M).
        trusted_program: whose derivatives the trusted ones are, if they are not the target's.
        add_facts: adds what else is known of a leaf.
    """
    floors = [
        CANCELLATION_ULPS * jacobian.eps * compute_output_slopes(trial.program, trial.setting, jacobian.eps)
        for jacobian in (claimed, trusted)
    ]
    claimed, trusted = (replace(j, error=j.error + floor) for j, floor in zip((claimed, trusted), floors, strict=True))
    rtol = trial.rtol(claimed, trusted)

    def judge_all(claimed: Jacobian, trusted: Jacobian) -> list[JudgedLeaf]:
        judged = (compare_jacobians(leaf, claimed, trusted, rtol, demanded=trial.rtol_is_given) for leaf in leaves)
        return [add_facts(mark_last_bits(j, (floors[0] + floors[1])[:, j.leaf.span])) for j in judged]

    judged_leaves = judge_all(claimed, trusted)
    if not any(np.any(judged.code) for judged in judged_leaves):
        return judged_leaves
    claimed = with_conditioning(claimed, trial.program, cotangents)
    return judge_all(claimed, with_conditioning(trusted, trusted_program or trial.program, cotangents))


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
    """Judge numbers by others that are known without differences; equal ones pass, infinite ones and whatever the errors."""
    facts = find_interval_facts(sides, rtol, demanded=demanded) | {Fact.EQUAL: sides.claim == sides.value}
    shape = sides.claim.shape
    return JudgedLeaf(leaf, sides, np.ones(shape[1]), facts, np.full(shape, None, dtype=object), np.zeros(shape, dtype=bool))


def mark_last_bits(judged: JudgedLeaf, floor: F64, movement: F64 | float = 0.0) -> JudgedLeaf:
    """Pass the undecided entries whose difference is only rounding: of the outputs, or of the inputs.

    Args:
        floor: the error that the rounding of the outputs may cause in each entry, (C, n).
        movement: how far the derivative itself moves when the inputs are rounded, (C, n), if that was measured.
    """
    difference, uncertainty = judged.sides.difference, judged.sides.uncertainty
    is_rounding = (uncertainty <= MAX_LAST_BITS * floor) | (difference <= CLAIM_ROUNDING_ULPS * movement)
    return judged.with_fact(Fact.LAST_BITS, (difference <= uncertainty) & is_rounding)

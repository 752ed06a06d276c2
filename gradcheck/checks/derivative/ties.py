"""Claims at ties and kinks, where the function is not differentiable, compared with the claims around them.

At a tie of three entries, as in a median, no single entry moves the output, whatever the code claims. A little away from it the
function is smooth, and only one claim is right. At the tie itself, a claim is right if it lies in the convex hull of the claims
around it (`claims_around.py`), and if differences confirm those.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.checks.derivative.claims_around import ClaimsAround
from gradcheck.checks.derivative.kinks import find_confirmed_channels, judge_through_kink, passes_at_kink
from gradcheck.compare import claimed_jacobians
from gradcheck.results import Reason
from gradcheck.verdict.facts import Fact
from gradcheck.verdict.interval import Code

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gradcheck.backends.flat import Leaf
    from gradcheck.compare.claimed_jacobians import Jacobian
    from gradcheck.compare.judge import JudgedLeaf
    from gradcheck.compare.trial import MeasuredTrial
    from gradcheck.evidence.line import F64

# If more leaves than this are at kinks, they are compared all together only, and not in pairs.
MAX_PAIRED_LEAVES = 4
# Up to this many outputs are looked at one by one.
MAX_SINGLE_OUTPUTS = 64


def check_through_kinks(
    trial: MeasuredTrial, judged_leaves: list[JudgedLeaf], jacobian: Jacobian, cotangents: F64
) -> list[JudgedLeaf]:
    """Check leaves with entries that passed at kinks as a whole: a tie that is counted twice shows in no single entry.

    If the claim is not inside in all of them together, smaller groups show in which leaves.
    """
    checked = list(judged_leaves)
    at_kinks = [i for i, judged in enumerate(checked) if np.any(passes_at_kink(judged))]
    if not at_kinks or jacobian.claim is None:
        return checked
    everywhere = np.ones(len(cotangents), dtype=bool)
    codes = judge_by_claims_around(trial, [checked[i].leaf for i in at_kinks], jacobian, cotangents, everywhere)
    if codes is not None and not np.any(codes):
        return checked
    count = len(at_kinks)
    sizes = {1, 2, count} if count <= MAX_PAIRED_LEAVES else {1, count}
    for group in itertools.chain.from_iterable(itertools.combinations(at_kinks, size) for size in sorted(sizes)):
        members = [checked[i] for i in group]
        if all(np.any(passes_at_kink(judged)) for judged in members):
            wrong = _find_group_outside(trial, members, jacobian, cotangents)
            for i, judged in zip(group, members, strict=True):
                outside = wrong[:, None] & (judged.remark == Reason.KINK_SUBGRADIENT)
                checked[i] = judged.with_fact(Fact.OUTSIDE_JOINTLY, outside)
    return checked


def _find_group_outside(
    trial: MeasuredTrial, members: list[JudgedLeaf], jacobian: Jacobian, cotangents: F64
) -> NDArray[np.bool_]:
    """Mark the channels, (C,), whose claim is outside in some leaves together; not where an entry is known to be wrong."""
    known = np.any([np.any(judged.code == Code.FAIL, axis=1) for judged in members], axis=0)
    return find_channels_outside(trial, [judged.leaf for judged in members], jacobian, cotangents, known)[0]


def find_channels_outside(
    trial: MeasuredTrial,
    leaves: Sequence[Leaf],
    jacobian: Jacobian,
    cotangents: F64,
    known: NDArray[np.bool_] | bool = False,
) -> tuple[NDArray[np.bool_], JudgedLeaf]:
    """Mark the channels whose claim is not in the hull of the claims around, (C,).

    If differences do not confirm those, the one-sided slopes along dense directions decide.

    Args:
        known: channels that need no answer, (C,).

    Returns:
        The channels, and the judgement along the dense directions.
    """
    dense = judge_through_kink(trial, leaves, jacobian)
    code, wanted = np.max(dense.code, axis=1), np.broadcast_to(~np.asarray(known), len(dense.code))
    codes_around = judge_by_claims_around(trial, leaves, jacobian, cotangents, wanted)
    if codes_around is None:
        return wanted & (code == Code.FAIL), dense
    return wanted & (codes_around > Code.PASS) & (np.maximum(code, codes_around) == Code.FAIL), dense


def excuse_ties(
    trial: MeasuredTrial, judged: JudgedLeaf, jacobian: Jacobian, cotangents: F64, *, along_entries: bool = True
) -> JudgedLeaf:
    """Judge anew what is wrong, or undecided since the claim jumps, although the function may not be differentiable here.

    Args:
        judged: a leaf along the lines of its entries or along probes, or a single entry.
        along_entries: whether each line moves one entry.
    """
    claim_error = judged.sides.claim_error
    wrong = (judged.code == Code.FAIL) & np.isfinite(judged.sides.claim) & (judged.remark != Reason.STRAIGHT_THROUGH)
    # Rounding of the inputs breaks a tie, so that the claim's jump looks like bad conditioning.
    looks_coarse = (claim_error > judged.sides.bound) | judged.facts.get(Fact.UNCONFIRMED, np.zeros_like(wrong))
    undecided = (judged.code == Code.INCONCLUSIVE) & np.isfinite(claim_error)
    jumps = undecided & looks_coarse
    wrong &= ~judged.facts.get(Fact.OUTSIDE_JOINTLY, np.zeros_like(wrong))  # the claims around were looked at
    if not np.any(wrong | jumps) or jacobian.claim is None:
        return judged
    doubted = wrong | (jumps if along_entries else undecided)
    wanted = np.any(doubted, axis=1) if along_entries else np.ones(len(cotangents), dtype=bool)
    codes = judge_by_claims_around(trial, [judged.leaf], jacobian, cotangents, wanted)
    if codes is None:
        return judged
    if not along_entries:  # Each probe is read in a channel of its own, and the worst counts.
        codes = np.max(codes, keepdims=True)
    inside, unclear = (codes[:, None] == code for code in (Code.PASS, Code.INCONCLUSIVE))
    facts = {Fact.TIE_INSIDE: inside, Fact.TIE_UNCLEAR: unclear, Fact.TIE_OUTSIDE: ~inside & ~unclear}
    for fact, mask in facts.items():
        judged = judged.with_fact(fact, doubted & mask)
    return judged if np.any(judged.code == Code.FAIL) else replace(judged, where=None)


def is_outside_with_tied_leaves(trial: MeasuredTrial, leaf: Leaf, jacobian: Jacobian, cotangents: F64) -> bool:
    """Whether a claim is outside in this leaf and another one whose entries equal its: each alone may be right."""
    pairs = ([leaf, tied] for tied in find_tied_leaves(trial, leaf)[:MAX_PAIRED_LEAVES])
    return any(np.any(find_channels_outside(trial, pair, jacobian, cotangents)[0]) for pair in pairs)


def find_tied_leaves(trial: MeasuredTrial, leaf: Leaf) -> list[Leaf]:
    """Find the other leaves with an entry that equals one of this leaf."""
    point = trial.program.point
    return [other for other in trial.leaves if other is not leaf and np.isin(point[other.span], point[leaf.span]).any()]


def judge_by_claims_around(
    trial: MeasuredTrial, leaves: Sequence[Leaf], jacobian: Jacobian, cotangents: F64, wanted: NDArray[np.bool_]
) -> NDArray[np.int8] | None:
    """Judge a claim by the claims around, channel by channel, (C,); None if they show no jump or are not confirmed.

    Only the entries of the leaves move; if that is not enough, so do those of the leaves that are tied with them.

    Args:
        wanted: the channels to look at, (C,); the others pass.
    """
    tied = dict.fromkeys(other for leaf in leaves for other in find_tied_leaves(trial, leaf) if other not in leaves)
    groups = [list(leaves), [*leaves, *tied]] if tied else [list(leaves)]
    best = None
    for moved in groups:
        codes = _judge_moving(trial, moved, leaves, jacobian, cotangents, wanted)
        if codes is not None:
            best = codes if best is None else np.minimum(best, codes)
            if not np.any(best):
                break
    return best


def _judge_moving(
    trial: MeasuredTrial,
    moved: Sequence[Leaf],
    compared: Sequence[Leaf],
    jacobian: Jacobian,
    cotangents: F64,
    wanted: NDArray[np.bool_],
) -> NDArray[np.int8] | None:
    """Judge the claim in some leaves by the claims around, (C,), while the entries of some leaves move."""
    codes, outputs = np.full(wanted.shape, Code.PASS, dtype=np.int8), trial.program.value.size
    confirmed: dict[bytes, NDArray[np.bool_]] = {}
    try:
        for channel in np.flatnonzero(wanted)[: 1 if outputs == 1 else None]:
            around = ClaimsAround(trial, moved, compared, jacobian, cotangents[[channel]])
            signs = around.find_jump(jacobian.values[channel])
            code = None if signs is None else around.judge(jacobian.values[channel])
            if code is None:
                return None
            for sign in signs or ():  # channels mostly share them
                if sign.tobytes() not in confirmed:
                    confirmed[sign.tobytes()] = find_confirmed_channels(trial, moved, jacobian, cotangents, sign)
                if not confirmed[sign.tobytes()][channel]:
                    return None
            codes[channel] = code
        if outputs == 1:  # all channels are the same
            codes[:] = np.max(codes)
        elif np.any(codes) and outputs <= MAX_SINGLE_OUTPUTS and _passes_in_every_output(trial, moved, compared, jacobian):
            codes[:] = Code.PASS
    except Exception:  # off the primal a derivative need not exist
        return None
    return codes


def _passes_in_every_output(trial: MeasuredTrial, moved: Sequence[Leaf], compared: Sequence[Leaf], jacobian: Jacobian) -> bool:
    """Whether the claim of every output alone passes: at a tie, two outputs may choose different entries."""
    assert jacobian.claim is not None
    for unit in np.eye(trial.program.value.size):
        values = claimed_jacobians.evaluate_rows(jacobian.claim, trial.program.point, unit[None])[0]
        if ClaimsAround(trial, moved, compared, jacobian, unit[None]).judge(values) is not Code.PASS:
            return False
    return True

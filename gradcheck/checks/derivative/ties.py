"""Claims at ties, where entries are equal and the function is not differentiable, as in a maximum.

At a tie of three entries, as in a median, no single entry moves the output, whatever the code claims. A little away from it the
function is smooth, and only one claim is right. At the tie itself, a claim is right if it lies between the claims around it.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.checks.derivative.kinks import (
    POINTS_NEAR_KINK,
    compute_leaf_factors,
    draw_nearby_point,
    find_adjacent_claims,
    judge_entries_at,
    judge_through_kink,
    passes_at_kink,
)
from gradcheck.compare import claimed_jacobians, claims_along_lines
from gradcheck.evidence import directions
from gradcheck.results import Reason
from gradcheck.seeds import make_generator
from gradcheck.verdict.facts import Fact
from gradcheck.verdict.interval import TINY, Code

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gradcheck.backends.flat import Leaf
    from gradcheck.compare.claimed_jacobians import Jacobian
    from gradcheck.compare.judge import JudgedLeaf
    from gradcheck.compare.trial import MeasuredTrial
    from gradcheck.evidence.line import F64

# A claim is judged near a tie at up to this many entries of a leaf: those that seem most wrong.
MAX_TIED_ENTRIES = 2
# All entries of a leaf of at most this many are judged near a tie: another operation may hide the one that wins.
FEW_ENTRIES = 8
# Where differences decide nothing near a tie, as entries are nearly tied there too, other points are tried, up to this many.
MAX_POINTS_NEAR_TIE = 8
# The gradients at this many points around a tie show the range of its subgradients.
POINTS_AROUND_TIE = 32
# A tie is looked for, and gradients around it are compared, along this many random directions.
TIE_DIRECTIONS = 3
# Differences smaller than this, relative to the slopes that are compared at a tie, do not count.
TIE_TOLERANCE = 1e-6
# At these steps the changes along two directions are added up; each step is a sixteenth of the one before.
ADDITIVITY_STEPS = 2.0 ** -np.arange(10, 23, 4)
# The difference between a change along a sum and the sum of two changes consists of this many function values.
VALUES_IN_DEFECT = 4.0
# The function is not differentiable if that difference, divided by the step, has a ratio above this at successive steps. A
# smooth function has 1/16, a tie has 1.
MIN_TIE_RATIO = 0.5
# What it means that a claim lies between the claims around a tie, a little outside of them, or far.
TIE_FACTS = {Code.PASS: Fact.TIE_INSIDE, Code.INCONCLUSIVE: Fact.TIE_UNCLEAR, Code.FAIL: Fact.TIE_OUTSIDE}
# If more leaves than this are at kinks, they are compared all together only, and not in pairs.
MAX_PAIRED_LEAVES = 4


def check_through_kinks(
    trial: MeasuredTrial, judged_leaves: list[JudgedLeaf], jacobian: Jacobian, cotangents: F64
) -> list[JudgedLeaf]:
    """Check leaves with entries that passed at kinks along dense directions: of each leaf, and of several that may be tied."""
    checked = list(judged_leaves)
    at_kinks = [i for i, judged in enumerate(checked) if np.any(passes_at_kink(judged))]
    count = len(at_kinks)
    sizes = {1, 2, count} if count <= MAX_PAIRED_LEAVES else {1, count}
    for group in itertools.chain.from_iterable(itertools.combinations(at_kinks, size) for size in sorted(sizes)):
        members = [checked[i] for i in group]
        if group and all(np.any(passes_at_kink(judged)) for judged in members):
            places = np.flatnonzero(np.any(members[0].remark == Reason.KINK_SUBGRADIENT, axis=0))[:MAX_TIED_ENTRIES]
            # If an entry is wrong already, dense directions may show nothing but that entry.
            known = np.any([np.any(judged.code == Code.FAIL, axis=1) for judged in members], axis=0)
            leaves = [judged.leaf for judged in members]
            wrong, _ = find_channels_outside(trial, leaves, jacobian, cotangents, places, known)
            for i, judged in zip(group, members, strict=True):
                outside = wrong[:, None] & (judged.remark == Reason.KINK_SUBGRADIENT)
                checked[i] = judged.with_fact(Fact.OUTSIDE_JOINTLY, outside)
    return checked


def find_channels_outside(
    trial: MeasuredTrial,
    leaves: Sequence[Leaf],
    jacobian: Jacobian,
    cotangents: F64,
    places: NDArray[np.intp] | None = None,
    known: NDArray[np.bool_] | bool = False,
) -> tuple[NDArray[np.bool_], JudgedLeaf]:
    """Mark the channels whose claim does not lie between the one-sided slopes along dense directions of some leaves, (C,).

    Dense directions see a gradient that counts a tie twice, which lines of single entries do not. They also contradict right
    claims where convex kinks meet concave ones, and decide nothing if jitter breaks the tie, as its jump then counts as the
    claim's own rounding. So the claims around are looked at where they do not confirm a claim. It is wrong if one of the two
    contradicts it and the other does not confirm it; if the claims around are wrong too, the dense directions decide.

    Args:
        places: entries at which the claim is judged near the kink, as positions in the first leaf; None for one of those that
            equal most others.
        known: channels that are known to be wrong and need no answer, (C,).

    Returns:
        The channels, and the judgement along the dense directions.
    """
    dense = judge_through_kink(trial, leaves, jacobian)
    code = np.where(known, Code.PASS, np.max(dense.code, axis=1))
    if not np.any(code) or jacobian.claim is None:
        return np.asarray(code == Code.FAIL), dense
    if places is None:
        places = _find_most_tied_entry(trial.program.point[leaves[0].span])
    tie_codes = _judge_tie(trial, leaves, jacobian, cotangents, places, at_kink=True)
    tie_codes = code if tie_codes is None else tie_codes
    return (np.maximum(code, tie_codes) == Code.FAIL) & (np.minimum(code, tie_codes) > Code.PASS), dense


def excuse_ties(
    trial: MeasuredTrial, judged: JudgedLeaf, jacobian: Jacobian, cotangents: F64, *, along_entries: bool = True
) -> JudgedLeaf:
    """Judge anew what is wrong although the function may not be differentiable here, because entries are tied.

    Args:
        judged: a leaf along the lines of its entries or along probes, or a single entry.
        along_entries: whether each line moves one entry.
    """
    wrong = (judged.code == Code.FAIL) & np.isfinite(judged.sides.claim) & (judged.remark != Reason.STRAIGHT_THROUGH)
    wrong &= ~judged.facts.get(Fact.OUTSIDE_JOINTLY, np.zeros_like(wrong))  # the claims around were looked at
    if not np.any(wrong) or jacobian.claim is None:
        return judged
    if judged.entry_line is not None:
        places = np.array([judged.entry_line.place])
    elif along_entries:
        urgency = np.where(wrong, judged.sides.difference / np.maximum(judged.sides.uncertainty, TINY), 0.0)
        places = np.argsort(-np.max(urgency, axis=0), kind="stable")[:MAX_TIED_ENTRIES]
    else:
        places = _find_most_tied_entry(trial.program.point[judged.leaf.span])
    at_kink = bool(np.any(judged.remark[wrong] == Reason.OUTSIDE_KINK))
    codes = _judge_tie(trial, [judged.leaf], jacobian, cotangents, places, at_kink=at_kink)
    tied_leaves = _find_tied_leaves(trial, judged.leaf, int(places[0])) if codes is None else []
    if tied_leaves:
        codes = _judge_tie(trial, [judged.leaf, *tied_leaves], jacobian, cotangents, places, at_kink=at_kink)
    if codes is None:
        return judged
    if at_kink:  # A claim in doubt is wrong.
        codes = np.where(codes == Code.INCONCLUSIVE, Code.FAIL, codes)
    if not along_entries:  # Each probe is read in a channel of its own, and the worst counts.
        codes = np.max(codes, keepdims=True)
    for code, fact in TIE_FACTS.items():
        judged = judged.with_fact(fact, wrong & (codes[:, None] == code))
    return judged if np.any(judged.code == Code.FAIL) else replace(judged, where=None)


def is_outside_with_tied_leaves(trial: MeasuredTrial, leaf: Leaf, jacobian: Jacobian, cotangents: F64) -> bool:
    """Whether a claim at a kink lies outside the slopes along dense directions of this leaf and of one whose entries equal its.

    Each leaf alone may be right, and a tie between the two counted twice, as in a hand-written `maximum`.
    """
    places = _find_most_tied_entry(trial.program.point[leaf.span])
    pairs = ([leaf, tied] for tied in _find_tied_leaves(trial, leaf, int(places[0]))[:MAX_PAIRED_LEAVES])
    return any(np.any(find_channels_outside(trial, pair, jacobian, cotangents, places)[0]) for pair in pairs)


def _find_most_tied_entry(x: F64) -> NDArray[np.intp]:
    """Find an entry of a leaf that equals the most others, (1,)."""
    _, first, counts = np.unique(x, return_index=True, return_counts=True)
    return np.asarray(first[[np.argmax(counts)]])


def _find_tied_leaves(trial: MeasuredTrial, leaf: Leaf, place: int) -> list[Leaf]:
    """Find the other leaves with an entry that equals one of this leaf."""
    point = trial.program.point
    return [other for other in trial.leaves if other is not leaf and np.any(point[other.span] == point[leaf.start + place])]


def _judge_tie(
    trial: MeasuredTrial,
    leaves: Sequence[Leaf],
    jacobian: Jacobian,
    cotangents: F64,
    places: NDArray[np.intp],
    *,
    at_kink: bool,
) -> NDArray[np.int8] | None:
    """Judge a claim at a tie, channel by channel, (C,); None if there is no tie, or if the claim is wrong near it too.

    At a tie the slopes along two directions do not add up. The claim must be right near this point, and along some directions
    it must lie between the claims around it.

    Args:
        leaves: the leaves whose entries may be tied.
        places: the entries at which the claim is judged near the tie, as positions in the first leaf.
        at_kink: whether the point is known to be a kink. Then the tie needs no proof.
    """
    if not at_kink and not _is_not_additive(trial, leaves, int(places[0])):
        return None
    points = [_move_leaves(trial, leaves, k) for k in range(POINTS_AROUND_TIE)]
    decided = 0
    try:
        for point in points[:MAX_POINTS_NEAR_TIE]:
            nearby = _judge_near_tie(trial, leaves[0], jacobian, cotangents, places, point)
            if nearby is None or np.any(nearby.code == Code.FAIL):
                return None
            decided += not np.any(nearby.code)
            if decided == POINTS_NEAR_KINK:
                break
        codes = _compare_with_claims_around(trial, leaves, jacobian, cotangents, points)
    except Exception:  # off the primal a derivative need not exist
        return None
    if not decided:  # nothing confirms the claims around
        return None
    codes[find_adjacent_claims(trial, leaves, jacobian, cotangents, codes > Code.PASS)] = Code.PASS
    return codes


def _judge_near_tie(
    trial: MeasuredTrial, leaf: Leaf, jacobian: Jacobian, cotangents: F64, places: NDArray[np.intp], point: F64
) -> JudgedLeaf | None:
    """Judge some entries at a point near a tie, and those whose claim differs most from that at the tie, the largest first.

    Such an entry may be the one that wins there. The claim of all others is zero on either side, which hides a wrong factor.
    """
    assert jacobian.claim is not None
    rows = claimed_jacobians.evaluate_rows(jacobian.claim, point, cotangents)
    size, change = (np.max(np.abs(x[:, leaf.span]), axis=0) for x in (rows, rows - jacobian.values))
    largest_first = np.lexsort((-size, -change))
    winners = largest_first[: MAX_TIED_ENTRIES if leaf.entries > FEW_ENTRIES else None]
    return judge_entries_at(trial, leaf, jacobian, cotangents, np.union1d(places, winners), point)


def _move_leaves(trial: MeasuredTrial, leaves: Sequence[Leaf], k: int) -> F64:
    """Draw a point a little away from the primal in all entries of some leaves, (N,); see `draw_nearby_point`."""
    point = trial.program.point.copy()
    for leaf, factor in zip(leaves, compute_leaf_factors(trial.program, leaves), strict=True):
        moved = draw_nearby_point(trial, leaf, np.arange(leaf.entries * leaf.width), k)[leaf.span]
        point[leaf.span] += factor * (moved - point[leaf.span])
    return point


def _is_not_additive(trial: MeasuredTrial, leaves: Sequence[Leaf], place: int) -> bool:
    """Whether the changes along an entry and along a random direction do not add up to the change along their sum.

    The entry moves either way. The random direction moves the entries that equal it, if there are any, since these may be tied
    with it.

    Args:
        place: the entry, as a position in the first leaf.
    """
    program, column = trial.program, leaves[0].start + place
    entry_tangent, is_tied = np.zeros(program.point.size), np.zeros(program.point.size, dtype=bool)
    entry_tangent[column] = 4 * claims_along_lines.compute_displacements(program, leaves[0])[place]
    for leaf in leaves:
        is_tied[leaf.span] = program.point[leaf.span] == program.point[column]

    @functools.cache
    def change_along_entry(sign: float) -> F64:
        return _changes_along(trial, sign * entry_tangent)

    for k in range(TIE_DIRECTIONS):
        random_tangent = np.zeros(program.point.size)
        for leaf in leaves:
            rng = make_generator(0, "adds up", trial.label, leaf.path, k)
            random_tangent[leaf.span] = directions.draw_dense(rng, program.point[leaf.span], program.eps)
        if np.sum(is_tied) > 1:
            random_tangent[~is_tied] = 0.0
        along_random = _changes_along(trial, random_tangent)
        for sign in (1.0, -1.0):
            along_sum = _changes_along(trial, sign * entry_tangent + random_tangent)
            if _do_not_add_up(trial, change_along_entry(sign), along_random, along_sum):
                return True
    return False


def _changes_along(trial: MeasuredTrial, tangent: F64) -> F64:
    """Evaluate the change of every channel along a tangent at each of `ADDITIVITY_STEPS`, (T, C)."""
    phi, setting = trial.evaluator.line(tangent), trial.setting
    with np.errstate(all="ignore"):
        return np.stack([setting.contract(phi(t) - setting.base) for t in ADDITIVITY_STEPS])


def _do_not_add_up(trial: MeasuredTrial, along_u: F64, along_w: F64, along_sum: F64) -> bool:
    """Whether the changes along two tangents differ from the change along their sum by an amount linear in the step.

    For a differentiable function the difference is quadratic in the step. The finest steps at which it shows decide.
    """
    setting, steps = trial.setting, ADDITIVITY_STEPS[:, None]
    output_noise = np.maximum(setting.total_noise, setting.half_ulp(setting.base))
    noise = VALUES_IN_DEFECT * setting.slack * setting.contract_noise(output_noise)
    with np.errstate(all="ignore"):
        defects = np.abs(along_sum - along_u - along_w)
        defects = np.where(defects > noise, defects, np.nan) / steps
        sizes = (np.abs(along_u) + np.abs(along_w) + np.abs(along_sum)) / steps
        ratio, clear = defects[1:] / defects[:-1], defects[1:] > TIE_TOLERANCE * sizes[1:]
    finest = [np.flatnonzero(~np.isnan(column))[-1:] for column in ratio.T]
    return any(
        step.size and clear[step[0], channel] and ratio[step[0], channel] > MIN_TIE_RATIO for channel, step in enumerate(finest)
    )


def _compare_with_claims_around(
    trial: MeasuredTrial, leaves: Sequence[Leaf], jacobian: Jacobian, cotangents: F64, points: list[F64]
) -> NDArray[np.int8]:
    """Compare each channel's claim with the claims at points around, (C,), along some directions and along all entries alike.

    PASS if it lies between them, FAIL if it is farther outside than they differ among themselves, INCONCLUSIVE otherwise.
    """
    assert jacobian.claim is not None
    program = trial.program
    tangents = np.zeros((program.point.size, TIE_DIRECTIONS + 1))
    for leaf, factor in zip(leaves, compute_leaf_factors(program, leaves), strict=True):
        x = program.point[leaf.span]
        random_tangents = [
            directions.draw_dense(make_generator(0, "between", trial.label, leaf.path, k), x, program.eps)
            for k in range(TIE_DIRECTIONS)
        ]
        tangents[leaf.span] = factor * np.stack([*random_tangents, directions.compute_entry_scales(x)], axis=1)
    moving = np.any(tangents != 0, axis=1)
    tangents = tangents[moving]
    around = np.stack(
        [claimed_jacobians.evaluate_rows(jacobian.claim, point, cotangents)[:, moving] @ tangents for point in points]
    )
    low, high = np.min(around, axis=0), np.max(around, axis=0)
    claim = jacobian.values[:, moving] @ tangents
    # Rounding alone counts as the claim's error, since jitter around a kink takes its jump for conditioning.
    margin = TIE_TOLERANCE * (np.abs(low) + np.abs(high)) + jacobian.rounding[:, moving] @ np.abs(tangents)
    outside = np.maximum(low - claim, claim - high)
    beyond_margin = np.where(outside <= margin + (high - low), Code.INCONCLUSIVE, Code.FAIL)
    code = np.where(outside <= margin, Code.PASS, beyond_margin)
    return np.asarray(np.max(code, axis=1), dtype=np.int8)

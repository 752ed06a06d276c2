"""Claims at kinks, where the function has one-sided slopes only.

At a kink any slope between the one-sided slopes is right, so nearly any code passes there. A little away from it the function
is smooth, and only one claim is right.

`reports/modules.md` counts false alarms in networks of many kinks.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.compare import claimed_jacobians, claims_along_lines, conditioning
from gradcheck.compare.estimates import estimate_lines
from gradcheck.compare.evaluator import Evaluator
from gradcheck.compare.judge import ClaimAlongLines, JudgedLeaf, judge_and_refine
from gradcheck.evidence import directions
from gradcheck.evidence.line import InternalNoise
from gradcheck.results import Reason
from gradcheck.seeds import make_generator
from gradcheck.verdict.facts import Fact
from gradcheck.verdict.interval import Code

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gradcheck.backends.flat import Leaf
    from gradcheck.backends.program import Program
    from gradcheck.compare.claimed_jacobians import Jacobian
    from gradcheck.compare.trial import MeasuredTrial
    from gradcheck.evidence.line import F64

# A claim is compared with one-sided slopes along this many random directions through a kink.
KINK_DIRECTIONS = 3
# A point near a kink lies this far from it, in an entry's scales. There is room for many finer steps on one side of the kink,
# and the entry keeps its scale.
DISTANCE_FROM_KINK = 2.0**-8
# A claim is checked near the kink at up to this many entries of a leaf at kinks.
MAX_KINK_ENTRIES = 16
# A claim must be right at this many points near a kink or a tie, on opposite sides of it.
POINTS_NEAR_KINK = 2
# These fields of `ClaimAndEstimate` are in units of a line.
FIELDS_ALONG_LINES = ("claim", "value", "bound", "claim_error", "scale")


def passes_at_kink(judged: JudgedLeaf) -> NDArray[np.bool_]:
    """Mark the channels and lines that passed because the claim lies between the one-sided slopes of a kink, (C, L)."""
    return np.asarray((judged.remark == Reason.KINK_SUBGRADIENT) & (judged.code == Code.PASS))


def find_confirmed_channels(
    trial: MeasuredTrial, leaves: Sequence[Leaf], jacobian: Jacobian, cotangents: F64, signs: F64
) -> NDArray[np.bool_]:
    """Mark the channels, (C,), that differences along dense directions confirm at a point near the primal.

    Args:
        leaves: the leaves whose entries move.
        signs: the direction in which the point lies, in entry scales, (N,).
    """
    point = trial.program.point.copy()
    for leaf, factor in zip(leaves, compute_leaf_factors(trial.program, leaves), strict=True):
        step = DISTANCE_FROM_KINK * factor * directions.compute_entry_scales(point[leaf.span])
        point[leaf.span] += step * signs[leaf.span]
    moved = move_trial(trial, jacobian, cotangents, point)
    if moved is None:
        return np.zeros(len(cotangents), dtype=bool)
    moved_trial, moved_jacobian = moved
    return np.asarray(np.all(judge_through_kink(moved_trial, leaves, moved_jacobian).code == Code.PASS, axis=1))


def judge_through_kink(trial: MeasuredTrial, leaves: Sequence[Leaf], jacobian: Jacobian) -> JudgedLeaf:
    """Compare a claim with one-sided slopes along dense directions of some leaves, which see a tie that is counted twice."""
    program = trial.program
    tangents = np.zeros((program.point.size, KINK_DIRECTIONS + 1))
    for leaf, factor in zip(leaves, compute_leaf_factors(program, leaves), strict=True):
        x = program.point[leaf.span]
        leaf_tangents = [
            directions.draw_dense(make_generator(0, "kink", trial.label, leaf.path, k), x, program.eps)
            for k in range(KINK_DIRECTIONS)
        ]
        # If all entries move alike, a tie stays one, and counts once.
        leaf_tangents.append(directions.entry_displacements(x, program.eps))
        rounded = [directions.round_tangent(factor * u, x, program.eps) for u in leaf_tangents]
        tangents[leaf.span] = np.stack(rounded, axis=1)
    phis = [trial.evaluator.line(u) for u in tangents.T]
    estimates = estimate_lines(leaves[0], phis, [trial.setting] * len(phis), program.eps)
    size = np.abs(tangents)
    claim = ClaimAlongLines(
        jacobian.values @ tangents,
        jacobian.error @ size,
        jacobian.rounding @ size,
        np.abs(jacobian.values) @ size,
        is_combination=True,
    )
    return judge_and_refine(estimates, claim, trial.rtol(jacobian), demanded=False)


def check_near_kinks(trial: MeasuredTrial, judged: JudgedLeaf, jacobian: Jacobian, cotangents: F64) -> JudgedLeaf:
    """Check entries that passed at a kink at points near it; they become INCONCLUSIVE if the claim is wrong on either side.

    Such a claim may be a valid subgradient at the kink, but the code behind it is hardly right.
    """
    passed = np.flatnonzero(np.any(passes_at_kink(judged), axis=0))
    if not passed.size or jacobian.claim is None:
        return judged
    places = passed[np.linspace(0, passed.size - 1, min(MAX_KINK_ENTRIES, passed.size)).astype(int)]
    points = [draw_nearby_point(trial, judged.leaf, places, k) for k in range(POINTS_NEAR_KINK)]
    nearby = [judge_entries_at(trial, judged.leaf, jacobian, cotangents, places, point) for point in points]
    wrong = next((entries for entries in nearby if entries is not None and np.any(entries.code == Code.FAIL)), None)
    if wrong is not None:
        return _mark_wrong_near_kink(judged, places, wrong)
    if passed.size <= places.size:
        return judged
    # Another entry may win there than those that were looked at.
    points = [draw_nearby_point(trial, judged.leaf, passed, k) for k in range(POINTS_NEAR_KINK)]
    moved = (move_trial(trial, jacobian, cotangents, point) for point in points)
    dense = [judge_through_kink(there[0], [judged.leaf], there[1]) for there in moved if there is not None]
    outside = np.any([np.any(lines.code == Code.FAIL, axis=1) for lines in dense], axis=0)
    return judged.with_fact(Fact.WRONG_NEARBY, outside[:, None] & passes_at_kink(judged)) if np.any(outside) else judged


def draw_nearby_point(trial: MeasuredTrial, leaf: Leaf, places: NDArray[np.intp], k: int) -> F64:
    """Draw a point a little away from the primal in some entries of a leaf, (N,).

    Args:
        places: the entries that move, as positions in the leaf.
        k: number of the point; points 2 j and 2 j + 1 lie opposite to each other.
    """
    point, x = trial.program.point.copy(), trial.program.point[leaf.span]
    rng = make_generator(0, "beside", trial.label, leaf.path, k // 2)
    jitter = (-1.0) ** k * rng.choice([-1.0, 1.0], places.size) * rng.uniform(0.5, 1.0, places.size)
    point[leaf.start + places] += DISTANCE_FROM_KINK * directions.compute_entry_scales(x)[places] * jitter
    return point


def move_trial(trial: MeasuredTrial, jacobian: Jacobian, cotangents: F64, point: F64) -> tuple[MeasuredTrial, Jacobian] | None:
    """Return the trial and the claim at another point; None if the function or the claim does not exist there."""
    assert jacobian.claim is not None
    try:
        value = trial.program.evaluate(point)
        program = replace(trial.program, point=point, value=value)
        rows = claimed_jacobians.evaluate_rows(jacobian.claim, point, cotangents)
        moved_jacobian = claimed_jacobians.jacobian_of_claim(jacobian.claim, rows, program)
    except Exception:
        return None
    if value.shape != trial.program.value.shape or not np.all(np.isfinite(value)):
        return None
    trial.recorder.count()
    # What looks like noise at the other point, as where two entries are nearly tied, says nothing about the primal.
    noise = InternalNoise(trial.setting.internal_noise.level)
    evaluator, setting = Evaluator(program, trial.recorder), replace(trial.setting, base=value, internal_noise=noise)
    moved_trial = replace(trial, evaluator=evaluator, setting=setting)
    return moved_trial, conditioning.with_conditioning(moved_jacobian, program, cotangents)


def judge_entries_at(
    trial: MeasuredTrial, leaf: Leaf, jacobian: Jacobian, cotangents: F64, places: NDArray[np.intp], point: F64
) -> JudgedLeaf | None:
    """Judge some entries of a claim at another point; None if the function or the claim does not exist there."""
    moved = move_trial(trial, jacobian, cotangents, point)
    if moved is None:
        return None
    moved_trial, moved_jacobian = moved
    estimates = claims_along_lines.estimate_entries(moved_trial.evaluator, moved_trial.setting, leaf, places)
    claim = claims_along_lines.claim_along_entries(estimates, moved_jacobian, places)
    return judge_and_refine(estimates, claim, trial.rtol(jacobian), demanded=trial.rtol_is_given)


def _mark_wrong_near_kink(judged: JudgedLeaf, places: NDArray[np.intp], nearby: JudgedLeaf) -> JudgedLeaf:
    """Mark entries that are wrong near the kink, and show what was found there.

    Args:
        judged: the leaf at the kink.
        places: the entries that were judged near it, as positions in the leaf.
        nearby: these entries near it.
    """
    wrong = nearby.code == Code.FAIL
    channels, entries = np.nonzero(wrong)
    is_wrong = np.zeros(judged.code.shape, dtype=bool)
    is_wrong[channels, places[entries]] = True
    fields = {}
    for name in FIELDS_ALONG_LINES:
        field = np.array(np.broadcast_to(getattr(judged.sides, name), judged.code.shape))
        field[channels, places[entries]] = (getattr(nearby.sides, name) / nearby.units * judged.units[places])[wrong]
        fields[name] = field
    shown = replace(judged, sides=replace(judged.sides, **fields), story=None)
    return shown.with_fact(Fact.WRONG_NEARBY, is_wrong)


def compute_leaf_factors(program: Program, leaves: Sequence[Leaf]) -> list[float]:
    """Compute by what to multiply the displacements in each of some leaves, so that entries of all leaves move equally far."""
    scales = [directions.compute_leaf_scale(program.point[leaf.span]) for leaf in leaves]
    return [min(scales) / scale for scale in scales]

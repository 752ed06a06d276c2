"""From a judged leaf to its row of the table."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.backends.flat import Leaf
from gradcheck.backends.program import Program
from gradcheck.compare.estimates import estimate_with_ladder
from gradcheck.results import Comparison, Reason, Verdict, Whereabouts, WrongEntry
from gradcheck.verdict.interval import MAX_RESOLUTION, TINY, VERDICTS, Code, choose_reason
from gradcheck.verdict.slices import name_slice

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gradcheck.compare.estimates import LineEstimates
    from gradcheck.compare.judge import JudgedLeaf
    from gradcheck.evidence.line import F64


# A row lists at most this many wrong entries one by one.
MAX_LISTED_ENTRIES = 8


def compute_relative_errors(judged: JudgedLeaf) -> F64:
    """Compute |claim - estimate| over the entry's own size, or over its leaf's largest if it passed by that, (C, L).

    Between the slopes of a kink the error is 0. For a derivative that is zero to within its bound it has no meaning: NaN.
    """
    sides, passed = judged.sides, judged.code == Code.PASS
    with np.errstate(all="ignore"):
        zero = passed & (sides.magnitude <= sides.uncertainty) & (sides.difference > 0)
        scale = np.where(passed & judged.unresolved, sides.leaf_scale, sides.scale)
        inside_kink = (judged.remark == Reason.KINK_SUBGRADIENT) & passed
        errors = np.where((sides.difference == 0) | inside_kink, 0.0, sides.difference / scale)
    errors = np.where(zero & ~judged.unresolved & ~inside_kink, np.nan, errors)
    return np.where(np.isnan(sides.claim) & (judged.code == Code.FAIL), np.inf, errors)


def find_worst_place(judged: JudgedLeaf) -> tuple[int, int]:
    """Find the channel and line to show: those of the worst verdict, and among these of the largest relative error."""
    errors = np.nan_to_num(compute_relative_errors(judged), nan=-1.0, posinf=1e300)
    rank = np.where(judged.code == np.max(judged.code), errors + TINY * _counts_for_resolution(judged), -2.0)
    channel, line = np.unravel_index(int(np.argmax(rank)), rank.shape)
    return int(channel), int(line)


def _counts_for_resolution(judged: JudgedLeaf) -> NDArray[np.bool_]:
    """Mark the passed entries whose derivative is neither zero nor at a kink or tie, nor declared as straight-through."""
    remark = judged.remark
    exempt = (remark == Reason.KINK_SUBGRADIENT) | (remark == Reason.TIE) | (remark == Reason.STRAIGHT_THROUGH)
    nonzero = judged.sides.magnitude > judged.sides.uncertainty
    return np.asarray((judged.code == Code.PASS) & ~exempt & nonzero, dtype=bool)


def find_unresolved(judged: JudgedLeaf) -> NDArray[np.bool_]:
    """Mark the entries that passed but are not known well enough to be counted by their own size."""
    sides = judged.sides
    coarse = sides.difference + sides.uncertainty > MAX_RESOLUTION * sides.scale
    return judged.unresolved | (coarse & _counts_for_resolution(judged))


def compute_resolution(judged: JudgedLeaf) -> float:
    """Compute the relative error to within which the passed entries are right; NaN if all are zero or at kinks."""
    sides = judged.sides
    with np.errstate(all="ignore"):
        scale = np.where(find_unresolved(judged), sides.leaf_scale, sides.scale)
        resolutions = (sides.difference + sides.uncertainty) / scale
    counted = _counts_for_resolution(judged) & (resolutions <= MAX_RESOLUTION)
    return float(np.max(resolutions, where=counted, initial=0.0)) if counted.any() else float("nan")


def make_comparison(
    judged: JudgedLeaf,
    program: Program,
    methods: tuple[str, str],
    rtol: float,
    *,
    channels: F64 | None,
    resolution: float,
    trial_number: int,
    mode: str = "full",
    certainty: float = 1.0,
) -> Comparison:
    """Make the row of one leaf and pair of methods.

    Args:
        judged: the leaf.
        program: the target, whose outputs are named.
        methods: the method of the claim, and the method that it was compared with.
        rtol: relative error from which on a claim is wrong.
        channels: combinations of outputs, (C, M); None: every output is a channel.
        resolution: the smallest relative error that would have been seen; stated if the leaf passed.
        trial_number: number of the trial.
        mode: 'full' or 'probe'; in full mode a line is an entry, and the row names it.
        certainty: probability with which an error of the size of the resolution would have been caught.
    """
    leaf, sides = judged.leaf, judged.sides
    place = find_worst_place(judged)
    channel, line = place
    verdict, remark = VERDICTS[int(judged.code[place])], judged.remark[place]
    unit = float(judged.units[line])
    claimed, estimate = float(sides.claim[place]) / unit, float(sides.value[place]) / unit
    difference, bound = float(sides.difference[place]) / abs(unit), float(sides.uncertainty[place]) / abs(unit)
    story = None if judged.story is None else judged.story[place]
    if remark is Reason.KINK_SUBGRADIENT and verdict is Verdict.PASS:
        difference = 0.0
    where = judged.where
    if where is None and mode == "full" and verdict is Verdict.FAIL:
        where = _locate_wrong_entries(judged, program, channels)
    return Comparison(
        wrt=leaf.path,
        output=name_output(program, channel, channels),
        method=methods[0],
        against=methods[1],
        verdict=verdict,
        reason=_choose_row_reason(judged, verdict, claimed, estimate, bound, remark),
        claimed=claimed,
        estimate=estimate,
        bound=bound,
        abs_err=difference,
        rel_err=float(compute_relative_errors(judged)[place]),
        rtol=rtol,
        resolution=resolution if verdict is Verdict.PASS else float("nan"),
        worst_entry=leaf.index(leaf.start + line) if mode == "full" else None,
        shape=leaf.shape,
        dtype=leaf.dtype,
        entries=leaf.entries,
        unresolved=int(np.sum(np.any(find_unresolved(judged) & (sides.magnitude > sides.uncertainty), axis=0))),
        trial=trial_number,
        mode=mode,
        certainty=certainty,
        story=story and story.per(unit),
        where=where,
        max_abs_err=_compute_largest_error(judged) if mode == "full" else None,
        largest=_find_largest_finite(sides.magnitude / np.abs(judged.units)) if mode == "full" else None,
    )


def _compute_largest_error(judged: JudgedLeaf) -> float:
    """Compute the largest |claim - estimate| of the entries; between the slopes of a kink it is 0."""
    inside_kink = (judged.remark == Reason.KINK_SUBGRADIENT) & (judged.code == Code.PASS)
    return _find_largest_finite(np.where(inside_kink, 0.0, judged.sides.difference / np.abs(judged.units)))


def _find_largest_finite(values: F64) -> float:
    return float(np.max(values, where=np.isfinite(values), initial=0.0))


def _locate_wrong_entries(judged: JudgedLeaf, program: Program, channels: F64 | None) -> Whereabouts:
    """Locate the wrong entries of a leaf whose every entry was looked at: largest errors first, each in its worst channel."""
    leaf, sides, wrong = judged.leaf, judged.sides, judged.code == Code.FAIL
    with np.errstate(all="ignore"):
        errors = np.where(wrong, np.nan_to_num(sides.difference / np.abs(judged.units), nan=np.inf), -1.0)
    places = np.flatnonzero(np.any(wrong, axis=0))
    places = places[np.argsort(-np.max(errors[:, places], axis=0), kind="stable")]
    _, first = np.unique(places // leaf.width, return_index=True)  # of a complex entry only the part with the larger error
    places = places[np.sort(first)]
    entries = []
    for i in places[:MAX_LISTED_ENTRIES]:
        place, unit = (int(np.argmax(errors[:, i])), i), float(judged.units[i])
        claimed, estimate = float(sides.claim[place] / unit), float(sides.value[place] / unit)
        bound = float(sides.uncertainty[place] / abs(unit))
        index, output = leaf.index(leaf.start + int(i)), name_output(program, place[0], channels)
        entries.append(WrongEntry(index, claimed, estimate, bound, output))
    is_wrong = np.any(wrong, axis=0).reshape(*leaf.shape, leaf.width).any(axis=-1)
    return Whereabouts(tuple(entries), len(places), 1.0, slice=name_slice(is_wrong, leaf.path) or "")


def add_estimate_story(row: Comparison, judged: JudgedLeaf, estimates: LineEstimates) -> Comparison:
    """Add to a row how the estimate at its worst place is found step by step, unless it says so already.

    Args:
        judged: the leaf that the row was made of.
        estimates: the lines; a line without a story is estimated again with the step ladder.
    """
    if row.story is not None:
        return row
    channel, line = find_worst_place(judged)
    story = estimate_with_ladder(estimates.phis[line], estimates.settings[line]).story[channel]
    return replace(row, story=story.per(float(judged.units[line])))


def _choose_row_reason(
    judged: JudgedLeaf, verdict: Verdict, claimed: float, estimate: float, bound: float, remark: Reason | None
) -> Reason:
    """Say why a row got its verdict; a kink, tie or declaration at any entry explains a PASS, not only at the one shown."""
    for reason in (Reason.KINK_SUBGRADIENT, Reason.TIE, Reason.STRAIGHT_THROUGH, Reason.SMALL_DIFFERENCE):
        if verdict is Verdict.PASS and np.any(judged.remark == reason):
            return reason
    if remark in (Reason.OUTSIDE_KINK, Reason.STRAIGHT_THROUGH) and verdict is Verdict.FAIL:
        return remark
    return choose_reason(verdict, claimed, estimate, bound, remark)


def name_output(program: Program, channel: int, channels: F64 | None) -> str:
    """Name the output that a channel stands for, with its index; 'combination' if it combines several."""
    if channels is not None:
        members = np.flatnonzero(channels[channel])
        if members.size > 1:
            return "combination"
        channel = int(members[0]) if members.size else 0
    return find_output_leaf(program, channel).entry(channel)


def find_output_leaf(program: Program, position: int) -> Leaf:
    """Find the output leaf that a position of the flat vector belongs to."""
    return next(leaf for leaf in program.outputs if leaf.span.start <= position < leaf.span.stop)

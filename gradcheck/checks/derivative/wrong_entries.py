"""The search for wrong entries in probe mode: from sums that disagree down to the wrong entries, one after another.

What a wrong entry adds to the disagreement is known from a separate estimate of that entry. So the entry is corrected, and the
claim is compared along the same probes again: if they agree now, no other entry is wrong by more than the resolution.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.checks.derivative import straight_through
from gradcheck.checks.derivative.probe_block import ProbeBlock, claim_along_probes, select_channel
from gradcheck.compare import claims_along_lines, output_scaling
from gradcheck.compare.estimates import estimate_lines
from gradcheck.compare.evaluator import remember_line
from gradcheck.compare.judge import EntryLine, JudgedLeaf, judge_and_refine, judge_lines
from gradcheck.compare.table_row import name_output
from gradcheck.evidence import directions, richardson
from gradcheck.results import Whereabouts, WrongEntry
from gradcheck.seeds import make_generator
from gradcheck.verdict.entry_bisection import find_wrong_entry, rising_weights
from gradcheck.verdict.interval import TINY, Code

if TYPE_CHECKING:
    from gradcheck.backends.flat import Leaf
    from gradcheck.compare.claimed_jacobians import Jacobian
    from gradcheck.compare.trial import MeasuredTrial
    from gradcheck.evidence.line import F64

# It returns the slopes of the channels along the part from `start` to `stop` of the tangent of an attempt, (C,), given (start,
# stop, attempt, weighted), with rising weights if `weighted`.
PartSlopes = Callable[[int, int, int, bool], "F64"]

# Up to this many descents are tried for one wrong entry, each along another random direction.
MAX_ATTEMPTS = 4
# The search ends after this many wrong entries of a leaf.
MAX_WRONG_ENTRIES = 8
# It takes at most this many evaluations to confirm the first wrong entry.
CONFIRMATION_EVALUATIONS = 150
# This many further entries, chosen at random, show whether most entries are wrong.
SAMPLE_SIZE = 8
# Such an entry counts as wrong only if its relative error is at least this: a single cheap difference resolves no less.
MIN_SAMPLE_RTOL = 1e-4


@dataclass(frozen=True)
class _ConfirmedEntry:
    """A wrong entry that a separate estimate has confirmed.

    Attributes:
        place: its position in the leaf.
        judged: the judgement of this entry alone.
        entry: the entry for the report.
        value: its derivative for every channel by the evidence, (C,).
        bound: bound of the error of the value, (C,).
    """

    place: int
    judged: JudgedLeaf
    entry: WrongEntry
    value: F64
    bound: F64


class WrongEntrySearch:
    """The search for the wrong entries of one leaf; a second search need not evaluate the slopes along parts again.

    Attributes:
        trial: what is checked.
        leaf: the leaf.
        rtol: relative error from which on a claim is wrong.
    """

    def __init__(self, trial: MeasuredTrial, leaf: Leaf, rtol: float) -> None:
        self.trial, self.leaf, self.rtol = trial, leaf, rtol
        self._part_slopes = _make_part_slopes(trial, leaf)

    def find(self, jacobian: Jacobian, block: ProbeBlock, judged: JudgedLeaf, *, few_only: bool = False) -> JudgedLeaf | None:
        """Search a leaf whose probes disagree for its wrong entries.

        Args:
            jacobian: the claim.
            block: the probes.
            judged: the claim along the probes.
            few_only: give up as soon as many entries seem to be wrong, before any careful estimate.

        Returns:
            The judgement of the entry that is off by most, which says where all are; None if no single entry is confirmed.
        """
        trial, leaf, size = self.trial, self.leaf, self.leaf.entries * self.leaf.width
        suspicious = (judged.code == Code.FAIL) | judged.doubtful
        urgency = np.where(suspicious, judged.sides.difference / np.maximum(judged.sides.uncertainty, TINY), 0.0)
        channel = int(np.argmax(urgency[0]))
        if _is_over_budget(trial, leaf, silent=few_only):
            return None
        corrected, sample = jacobian, (0, 0)
        confirmed: dict[int, _ConfirmedEntry] = {}
        while len(confirmed) < MAX_WRONG_ENTRIES:
            wrong_entry, few = self._find_next(corrected, channel, is_first=not confirmed, few_only=few_only and not confirmed)
            if wrong_entry is None or wrong_entry.place in confirmed:
                break
            confirmed[wrong_entry.place] = wrong_entry
            corrected = _correct_entry(corrected, leaf, wrong_entry)
            rest = judge_lines(block.estimates, claim_along_probes(corrected, block), self.rtol, demanded=trial.rtol_is_given)
            if not np.any(rest.code) and not np.any(rest.doubtful):
                share = (block.span.stop - block.span.start) / size
                return _summarize_entries(confirmed, share, sample, is_complete=block.is_whole_leaf)
            if not few and sample == (0, 0):
                sample = _sample_other_entries(trial, jacobian, leaf, channel, set(confirmed), self.rtol)
                sampled, wrong_in_sample = sample
                if 2 * wrong_in_sample >= sampled:
                    break
        return _summarize_entries(confirmed, (len(confirmed) + sample[0]) / size, sample, is_complete=False)

    def _find_next(
        self, jacobian: Jacobian, channel: int, *, is_first: bool, few_only: bool
    ) -> tuple[_ConfirmedEntry | None, bool]:
        """Descend to an entry, and confirm by a separate estimate that it is wrong; also say whether few entries are wrong."""
        for attempt in range(1 if few_only else MAX_ATTEMPTS):
            place, few = self._descend(jacobian, channel, attempt, few_only=few_only)
            if place is None:
                break
            entry = _confirm_entry(self.trial, jacobian, self.leaf, channel, place, self.rtol, is_first=is_first)
            if entry is not None:
                return entry, few
        return None, False

    def _descend(self, jacobian: Jacobian, channel: int, attempt: int, *, few_only: bool) -> tuple[int | None, bool]:
        """Descend to an entry along the tangent of an attempt; also say whether few entries disagree."""
        gradient = jacobian.values[channel, self.leaf.span]
        if not np.all(np.isfinite(gradient)):  # A sum that contains a NaN cannot be bisected.
            return (None if few_only else int(np.argmin(np.isfinite(gradient)))), False
        u = _draw_tangent(self.trial, self.leaf, attempt)

        def disagreement(part: slice) -> float:
            return float(gradient[part] @ u[part] - self._part_slopes(part.start, part.stop, attempt, False)[channel])

        def weighted_disagreement(part: slice) -> float:
            weighted = rising_weights(part.stop - part.start) * u[part]
            return float(gradient[part] @ weighted - self._part_slopes(part.start, part.stop, attempt, True)[channel])

        return find_wrong_entry(u.size, disagreement, weighted_disagreement, few_only=few_only)


def _is_over_budget(trial: MeasuredTrial, leaf: Leaf, *, silent: bool) -> bool:
    """Whether the search for one entry would take more time than the user allows; if so, and not `silent`, a note says it."""
    evaluator, budget = trial.evaluator, trial.options.budget
    predicted = (2 * math.log2(leaf.entries * leaf.width) + CONFIRMATION_EVALUATIONS) * evaluator.seconds
    if budget is None or evaluator.elapsed + predicted <= budget:
        return False
    if silent:
        return True
    trial.recorder.note(
        f"{leaf.path}: finding the wrong entry would take about {predicted:.2g} s, more than is left of --budget {budget:g} s"
    )
    return True


def _summarize_entries(
    confirmed: dict[int, _ConfirmedEntry], share: float, sample: tuple[int, int], *, is_complete: bool
) -> JudgedLeaf | None:
    """Judge a leaf by its worst entry, and list all.

    Args:
        confirmed: the entries by position; None is returned if there are none.
        share: the share of the leaf that was examined.
        sample: how many other entries were examined, and how many of them are wrong.
        is_complete: whether these are all wrong entries of the leaf.
    """
    if not confirmed:
        return None
    by_error = sorted(confirmed.values(), key=lambda entry: -abs(entry.entry.claimed - entry.entry.estimate))
    wrong = [entry for entry in by_error if entry.judged.code[0, 0] == Code.FAIL]
    if not wrong:  # These are declared straight-through, and nothing more is known of the other entries.
        return by_error[0].judged
    # For a complex entry, the part that is off by more replaces the other.
    entries = {entry.entry.entry: entry.entry for entry in reversed(wrong)}
    listed = tuple(reversed(entries.values()))
    where = Whereabouts(listed, len(listed) if is_complete else None, share, sample)
    return replace(wrong[0].judged, where=where)


def _make_part_slopes(trial: MeasuredTrial, leaf: Leaf) -> PartSlopes:
    """Make the function's slopes along parts of tangents; all descents share them, as they do not depend on the claim."""
    setting = trial.setting

    @functools.cache
    def slopes_at_step(start: int, stop: int, attempt: int, weighted: bool, step: float) -> F64:
        tangent = np.zeros(leaf.entries * leaf.width)
        tangent[start:stop] = _draw_tangent(trial, leaf, attempt)[start:stop]
        if weighted:
            tangent[start:stop] *= rising_weights(stop - start)
        phi = trial.evaluator.line(claims_along_lines.embed_tangent(trial.program, leaf, tangent))
        if attempt:  # A single difference has misled the attempt before, so this one takes the careful estimate.
            return richardson.estimate_slopes(phi, setting, (step,)).value
        with np.errstate(all="ignore"):
            return np.asarray(setting.contract(phi(step) - phi(-step)) / (2 * step))

    def slopes_along_part(start: int, stop: int, attempt: int, weighted: bool) -> F64:
        # The step grows once noise is found inside the function.
        return slopes_at_step(start, stop, attempt, weighted, richardson.choose_steps(setting, trial.program.eps)[-1])

    return slopes_along_part


def _draw_tangent(trial: MeasuredTrial, leaf: Leaf, attempt: int) -> F64:
    rng = make_generator(0, "descent", trial.label, leaf.path, attempt)
    return directions.draw_dense(rng, trial.program.point[leaf.span], trial.program.eps)


def _confirm_entry(
    trial: MeasuredTrial, jacobian: Jacobian, leaf: Leaf, channel: int, place: int, rtol: float, *, is_first: bool
) -> _ConfirmedEntry | None:
    """Judge an entry by a separate estimate; None if it is not wrong."""
    program, column = trial.program, leaf.start + place
    unit = claims_along_lines.compute_displacements(program, leaf)[[place]]
    phi = remember_line(trial.evaluator.line_of_entry(column, float(unit[0])), trial.setting.base)
    estimates = estimate_lines(leaf, [phi], [trial.setting], program.eps, unit)
    claimed = replace(jacobian, rounding=jacobian.error)
    claim = claims_along_lines.claim_along_entries(estimates, claimed, np.array([place]))
    judged = judge_lines(estimates, claim, rtol, demanded=trial.rtol_is_given)
    # The first entry is always estimated with care. A later one is not if it is as clearly wrong as the first.
    if is_first or judged.code[channel, 0] != Code.FAIL or np.any(estimates.rough):
        judged = judge_and_refine(estimates, claim, rtol, demanded=trial.rtol_is_given, check_internal_rounding=is_first)
    if judged.code[channel, 0] != Code.FAIL:
        return None
    outputs = output_scaling.find_outputs_of_channels(program, trial.setting.channels)
    judged = straight_through.mark_straight_through(estimates, judged, outputs, declared=trial.options.straight_through)
    sides, displacement = judged.sides, float(unit[0])
    entry = WrongEntry(
        leaf.index(column),
        float(sides.claim[channel, 0] / displacement),
        float(sides.value[channel, 0] / displacement),
        float(sides.uncertainty[channel, 0] / abs(displacement)),
        name_output(program, channel, trial.setting.channels),
    )
    shown = replace(judged.select_channel(channel), entry_line=EntryLine(place, phi))
    derivative, bound = estimates.value[:, 0] / displacement, estimates.bound[:, 0] / abs(displacement)
    return _ConfirmedEntry(place, shown, entry, derivative, bound)


def _correct_entry(jacobian: Jacobian, leaf: Leaf, wrong_entry: _ConfirmedEntry) -> Jacobian:
    """Return the claim with one entry replaced by what the evidence says."""
    values, error = jacobian.values.copy(), jacobian.error.copy()
    column = leaf.start + wrong_entry.place
    values[:, column], error[:, column] = wrong_entry.value, wrong_entry.bound
    return replace(jacobian, values=values, error=error)


def _sample_other_entries(
    trial: MeasuredTrial, jacobian: Jacobian, leaf: Leaf, channel: int, known_places: Collection[int], rtol: float
) -> tuple[int, int]:
    """Examine some other entries cheaply; return how many, and how many of them are wrong."""
    size, setting = leaf.entries * leaf.width, select_channel(trial.setting, channel)
    step = richardson.choose_steps(setting, trial.program.eps)[-1]
    places = make_generator(0, "sample", trial.label, leaf.path).permutation(size)[
        : SAMPLE_SIZE + leaf.width * len(known_places)
    ]
    known_entries = [place // leaf.width for place in known_places]
    places = places[~np.isin(places // leaf.width, known_entries)][:SAMPLE_SIZE]
    displacements = claims_along_lines.compute_displacements(trial.program, leaf)[places]
    wrong = 0
    for place, displacement in zip(places, displacements, strict=True):
        phi = trial.evaluator.line_of_entry(leaf.start + int(place), float(displacement))
        claim = float(jacobian.values[channel, leaf.start + place] * displacement)
        estimate = richardson.estimate_slopes(phi, setting, (step,))
        slope, bound = float(estimate.value[0]), float(estimate.bound[0])
        wrong += abs(claim - slope) - bound > max(rtol, MIN_SAMPLE_RTOL) * max(abs(claim), abs(slope))
    return len(places), wrong

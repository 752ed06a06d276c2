"""A claim compared with the estimates along the lines of one leaf, which are refined until it is decided.

A line moves a single entry (full mode) or many (probe mode). All arrays are per channel and line, (C, L), and hold derivatives
along the line: an entry's derivative times its displacement. Estimates start cheap; those that a claim disagrees with are
refined.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.backends.flat import Leaf
from gradcheck.compare.estimates import LineEstimates, refine_line
from gradcheck.evidence import directions, internal_rounding
from gradcheck.evidence.line import F64, Phi
from gradcheck.results import Reason, Whereabouts
from gradcheck.verdict.facts import Fact, Facts, Mask, add_fact
from gradcheck.verdict.interval import ClaimAndEstimate, Code, compute_urgency, find_interval_facts, is_flat
from gradcheck.verdict.rules import Decision, choose_worse, decide

if TYPE_CHECKING:
    from numpy.typing import NDArray

# A cheap estimate whose uncertainty is more than this many times the relative error that matters is refined, even if the claim
# has passed.
MAX_CHEAP_UNCERTAINTY = 100.0
# With more lines than this, cheap estimates stay if they are sharp compared with the leaf's largest derivatives.
MANY_LINES = 64
# An entry that passed by the size of its leaf alone is refined if its difference is more than this share of the uncertainty,
# unless there are many lines.
MAX_QUIET_SHARE = 0.125
# Small differences from a cause that they have in common are found in at least this share of a leaf's entries.
MIN_COMMON_SHARE = 0.125
# If values stand still up to this distance, in an entry's scales, the function itself is constant there, as an arg-max is, and
# rounding is not the cause.
STANDSTILL_REACH = 2.0**-6
# A difference of values up to this many times the smallest number of a dtype may be lost in it.
MAX_UNDERFLOW = 64.0
# At most this many wrong lines of a leaf are refined: more of them would not change its verdict.
ENOUGH_CONFIRMED = 4
# Once so many refined lines of a leaf stay undecided, only lines that seem to be wrong are refined: the leaf cannot pass.
ENOUGH_UNDECIDED = 16


@dataclass(frozen=True)
class EntryLine:
    """A line that moves a single entry.

    Attributes:
        place: the entry, as a position in its leaf.
        phi: the line.
    """

    place: int
    phi: Phi


@dataclass(frozen=True)
class JudgedLeaf:
    """A claim compared with estimates along the lines of one leaf.

    Attributes:
        leaf: the leaf that the lines move.
        sides: claim, estimate and the errors of both, (C, L).
        units: how far each line moves its entry per unit of t, (L,): sides over units are partial derivatives.
        facts: what is known, for each channel and line, (C, L): by `verdict/rules.py` it decides.
        evidence_remark: what the evidence remarked on the derivative: a Reason, or None.
        doubtful: passed along many entries at once although the two differ by more than their errors, so that a few entries
            may be wrong by more than the sum shows.
        story: how the refined estimates were found.
        entry_line: the line of a single entry, if a search for a wrong entry ended there.
        where: the wrong entries, if they were searched for one by one.
        own_dtype: the claim compared in its own dtype with its twin, if this is the judgement of the twin.
    """

    leaf: Leaf
    sides: ClaimAndEstimate
    units: F64
    facts: Facts
    evidence_remark: NDArray[np.object_]
    doubtful: NDArray[np.bool_]
    story: NDArray[np.object_] | None = None
    entry_line: EntryLine | None = None
    where: Whereabouts | None = None
    own_dtype: JudgedLeaf | None = None

    @functools.cached_property
    def decision(self) -> Decision:
        """The verdicts, (C, L)."""
        decision = decide(self.facts, self.evidence_remark)
        return decision if self.own_dtype is None else choose_worse(decision, self.own_dtype.decision)

    @property
    def code(self) -> NDArray[np.int8]:
        """A `Code` for each channel and line, (C, L)."""
        return self.decision.code

    @property
    def remark(self) -> NDArray[np.object_]:
        """The reason of each verdict, or None if the numbers say it, (C, L)."""
        return self.decision.remark

    @property
    def unresolved(self) -> NDArray[np.bool_]:
        """Which passed only because they are small compared with the leaf's larger entries, (C, L)."""
        return self.decision.unresolved

    def with_fact(self, fact: Fact, mask: Mask) -> JudgedLeaf:
        """Return the leaf with one more fact, for the channels and lines in a mask, (C, L)."""
        return replace(self, facts=add_fact(self.facts, fact, mask))

    def select_channel(self, channel: int) -> JudgedLeaf:
        """Return the judgement of one channel alone."""
        row = slice(channel, channel + 1)
        sides = ClaimAndEstimate(**{f.name: getattr(self.sides, f.name)[row] for f in fields(ClaimAndEstimate)})
        return replace(
            self,
            sides=sides,
            facts={fact: mask[row] for fact, mask in self.facts.items()},
            evidence_remark=self.evidence_remark[row],
            doubtful=self.doubtful[row],
            story=None if self.story is None else self.story[row],
            own_dtype=self.own_dtype and self.own_dtype.select_channel(channel),
        )


@dataclass(frozen=True)
class ClaimAlongLines:
    """A claim along the lines of some estimates, (C, L).

    Attributes:
        value: the claimed derivatives along the lines.
        error: bound of their error: rounding, and conditioning if it was measured.
        rounding: the part of the error that is no conditioning; by it the interval of a kink's slopes is widened.
        scale: what a relative error is relative to, at least.
        is_combination: whether a line moves many entries at once.
    """

    value: F64
    error: F64
    rounding: F64
    scale: F64
    is_combination: bool


def judge_and_refine(
    estimates: LineEstimates, claim: ClaimAlongLines, rtol: float, *, demanded: bool, check_internal_rounding: bool = True
) -> JudgedLeaf:
    """Judge every line, refining estimates until each line has passed or enough are certainly wrong.

    Args:
        estimates: refined in place.
        claim: the claim along the same lines.
        rtol: relative error from which on a claim is wrong.
        demanded: whether the user set `rtol`.
        check_internal_rounding: look for rounding inside the function before a claim is called wrong; unnecessary if that was
            done for similar lines.
    """
    enough, judged = 1 if claim.is_combination else ENOUGH_CONFIRMED, judge_lines(estimates, claim, rtol, demanded=demanded)
    # What the step ladder showed along a group of entries is looked at again, entry by entry.
    in_groups = np.all(estimates.story == None, axis=0)  # noqa: E711 - elementwise
    estimates.refined &= ~(in_groups & np.any(judged.code != Code.PASS, axis=0))
    while True:
        unsettled = judged.doubtful | estimates.rough | estimates.contested
        if not (demanded or claim.is_combination):
            many = len(estimates.phis) > MANY_LINES
            unsettled |= _is_coarse(judged, rtol, many=many)
            if not many:
                unsettled |= judged.unresolved & (judged.sides.difference > MAX_QUIET_SHARE * judged.sides.uncertainty)
        open_code = np.where(unsettled, np.maximum(judged.code, Code.INCONCLUSIVE), judged.code).astype(np.int8)
        urgency = np.where(estimates.refined, 0.0, np.max(compute_urgency(judged.sides, open_code), axis=0))
        worst = np.max(judged.code, axis=0, initial=Code.PASS)
        confirmed, undecided = (
            int(np.sum((worst == verdict) & estimates.refined)) for verdict in (Code.FAIL, Code.INCONCLUSIVE)
        )
        if undecided >= ENOUGH_UNDECIDED:
            urgency = np.where(worst == Code.FAIL, urgency, 0.0)
        queue = [int(i) for i in np.argsort(-urgency, kind="stable")[:enough] if urgency[i] > 0]
        if confirmed >= enough or not queue:
            # A rough line that was not refined may be a kink, so it is not called wrong.
            return judged.with_fact(Fact.UNCONFIRMED, estimates.rough & ~estimates.refined)
        for line in queue:
            refine_line(estimates, line)
        for line in queue if check_internal_rounding else ():
            _allow_for_internal_rounding(estimates, line, judge_lines(estimates, claim, rtol, demanded=demanded))
        judged = judge_lines(estimates, claim, rtol, demanded=demanded)


def _is_coarse(judged: JudgedLeaf, rtol: float, *, many: bool) -> NDArray[np.bool_]:
    """Mark entries that passed by an estimate much coarser than the error that matters: a refined one may be sharper.

    Among many lines, those stay that are known to within that error compared with the leaf's largest.
    """
    sides = judged.sides
    resolved = (judged.code == Code.PASS) & ~judged.unresolved & (sides.magnitude > sides.uncertainty)
    coarse = resolved & (sides.uncertainty > MAX_CHEAP_UNCERTAINTY * rtol * sides.scale)
    return np.asarray(coarse & (sides.uncertainty > rtol * sides.leaf_scale) if many else coarse)


def _allow_for_internal_rounding(estimates: LineEstimates, line: int, judged: JudgedLeaf) -> None:
    """Allow for rounding inside the function before a line is called wrong: the slope at fine steps may not be its derivative.

    Also if no steps agree, since there may be more noise than was measured at fine steps.
    """
    phi, setting, difference = estimates.phis[line], estimates.settings[line], judged.sides.difference[:, line]
    code, reason = judged.code[:, line], estimates.reason[:, line]
    wrong = (code == Code.FAIL) & np.isnan(estimates.low[:, line]) & np.isfinite(difference)
    unexplained = (reason == Reason.DULL) | (reason == None)  # noqa: E711 - elementwise
    undecided = (code == Code.INCONCLUSIVE) & unexplained
    if not np.any(wrong | undecided):
        return
    suspicious = np.where(wrong, difference, np.inf)
    if not np.any(undecided) and not internal_rounding.explains_disagreement(phi, setting, suspicious):
        return
    noise = internal_rounding.find_internal_noise(phi, setting)
    if noise is not None:
        # This line may move other outputs than those in which such noise was found before.
        setting.internal_noise.level = np.maximum(setting.total_noise, noise)
        unknown = np.any((estimates.reason == Reason.QUANTISED) & np.isinf(estimates.bound), axis=0)
        for known in np.flatnonzero(estimates.refined & ~unknown):
            refine_line(estimates, int(known))
    elif not np.any(undecided):  # the values jump everywhere, in no known way, so nothing shows the slope
        estimates.bound[wrong, line], estimates.reason[wrong, line] = np.inf, Reason.QUANTISED


def judge_lines(estimates: LineEstimates, claim: ClaimAlongLines, rtol: float, *, demanded: bool) -> JudgedLeaf:
    """Judge every line by the estimates as they stand.

    Args:
        estimates: are not changed.
        claim: the claim along the same lines.
        rtol: relative error from which on a claim is wrong.
        demanded: whether the user set `rtol`.
    """
    # Terms as steep as the slopes nearby may have cancelled in the claim.
    claim_error = np.fmax(claim.error, estimates.eps * estimates.nearby_slope)
    scale = np.fmax(claim.scale, np.abs(estimates.value))
    sides = make_sides(claim.value, estimates.value, estimates.bound, claim_error, scale, estimates.nearby_slope)
    if claim.is_combination:
        sides = replace(sides, leaf_scale=sides.scale)
    kink, margin = ~np.isnan(estimates.low), claim.rounding + rtol * sides.scale
    inside = (sides.claim >= estimates.low - margin) & (sides.claim <= estimates.high + margin)
    quantised_zero = (estimates.reason == Reason.QUANTISED) & (sides.claim == 0)
    stands_still = np.zeros_like(quantised_zero)
    stands_still[quantised_zero] = _stands_still(estimates.story[quantised_zero])
    facts: Facts = find_interval_facts(sides, rtol, demanded=demanded) | {
        Fact.FLAT: estimates.refined & is_flat(sides, estimates.channel_sizes, estimates.eps),
        Fact.QUANTISED_ZERO: quantised_zero,
        Fact.STANDS_STILL: stands_still,
        Fact.INSIDE_KINK: kink & inside,
        Fact.OUTSIDE_KINK: kink & ~inside,
        Fact.DRAWN_BY_REJECTION: np.isfinite(sides.claim) & estimates.leaf.drawn_by_rejection,
        Fact.UNDERFLOWS: (sides.difference <= _largest_underflow(estimates)) & np.isfinite(sides.claim),
    }
    if not claim.is_combination and estimates.settings and estimates.settings[0].channels is not None:
        facts = _accuse_single_differences(facts, sides)
    no_doubt = np.zeros(kink.shape, dtype=bool)
    judged = JudgedLeaf(estimates.leaf, sides, estimates.units, facts, estimates.reason.copy(), no_doubt, estimates.story)
    if not claim.is_combination:
        return judged
    doubtful = (judged.code == Code.PASS) & ~kink & (sides.difference > sides.uncertainty)
    return replace(judged, doubtful=doubtful)


def _accuse_single_differences(facts: Facts, sides: ClaimAndEstimate) -> Facts:
    """Call an entry of a combination of outputs wrong if it differs by less than rtol while hardly any other does.

    A constant in single precision, or a solver's tolerance, shows in many entries. If few differ, a single derivative in the
    sum may be wrong by far more than the sum is.
    """
    within = facts[Fact.WITHIN_RTOL]
    share = np.sum(within, axis=1, keepdims=True) / np.maximum(1, np.count_nonzero(sides.claim, axis=1, keepdims=True))
    single = within & (share < MIN_COMMON_SHARE)
    return {**facts, Fact.APART: facts[Fact.APART] | single, Fact.WITHIN_RTOL: within & ~single}


def _largest_underflow(estimates: LineEstimates) -> float:
    """Return the largest slope that may be lost among the smallest numbers that the function can return."""
    finest_step = min(setting.finest_step for setting in estimates.settings)
    return MAX_UNDERFLOW * directions.smallest_subnormal(estimates.eps) / finest_step


def _stands_still(stories: NDArray[np.object_]) -> NDArray[np.bool_]:
    """Whether each function stands exactly still so far around that no rounding of any precision explains it: zero is right."""
    moving_steps = [[h for h, d in zip(story.steps, story.differences, strict=True) if d != 0] for story in stories]
    return np.array([min(steps, default=0.0) >= STANDSTILL_REACH for steps in moving_steps], dtype=bool)


def make_sides(
    claim: F64, value: F64, bound: F64, claim_error: F64, scale: F64, nearby_slope: F64 | None = None
) -> ClaimAndEstimate:
    """Make both sides of the interval test for one leaf; all arrays are (C, L).

    Args:
        claim: the claimed derivatives.
        value: the estimated derivatives.
        bound: bound of the error of each estimate.
        claim_error: bound of the error of each claim.
        scale: what a relative error is relative to.
        nearby_slope: the steepest chord of the function nearby; zero if it is unknown.
    """
    leaf_scale = np.max(np.where(np.isfinite(scale), scale, 0.0), initial=0.0)
    nearby = np.zeros(scale.shape) if nearby_slope is None else nearby_slope
    return ClaimAndEstimate(claim, value, bound, claim_error, scale, np.broadcast_to(leaf_scale, scale.shape), nearby)

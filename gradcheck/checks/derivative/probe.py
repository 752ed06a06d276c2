"""Probe mode: random directions of each leaf, for problems too large for every partial derivative."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.checks.derivative import (
    diagnosis_facts,
    fault_injection,
    kinks,
    probe_forward,
    ties,
    worst_output,
    wrong_entries,
)
from gradcheck.checks.derivative.comparisons import Comparisons, measure_trial_noise
from gradcheck.checks.derivative.probe_block import (
    PROBES,
    ProbeBlock,
    claim_along_probes,
    compute_probe_resolution,
    estimate_probe_block,
    make_probe_comparison,
    mark_low_resolution,
)
from gradcheck.compare import claimed_jacobians, conditioning, internal_precision, method_pairs, native_dtype, output_scaling
from gradcheck.compare.estimates import refine_line
from gradcheck.compare.judge import ClaimAlongLines, JudgedLeaf, judge_and_refine, judge_lines
from gradcheck.compare.table_row import add_estimate_story, compute_resolution, name_output
from gradcheck.evidence import directions
from gradcheck.results import Comparison, Reason, Verdict, Whereabouts
from gradcheck.seeds import make_generator
from gradcheck.verdict.facts import Fact
from gradcheck.verdict.interval import MAX_RESOLUTION, Code

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from gradcheck.backends.flat import Leaf
    from gradcheck.compare.claimed_jacobians import Jacobian
    from gradcheck.compare.trial import MeasuredTrial, Trial
    from gradcheck.compare.trial_recorder import Recorder
    from gradcheck.evidence.line import F64

# A leaf is split into at most this many blocks, if probes of the whole leaf have too low a resolution.
MAX_BLOCKS = 64
AT_KINK = (Reason.KINK_SUBGRADIENT, Reason.TIE)  # of a PASS at a point where methods may choose different slopes


def compare_leaf_by_leaf(trial: Trial, spread: F64) -> Comparisons:
    """Compare every claim along random directions of each leaf.

    Args:
        trial: what is checked.
        spread: how far repeated evaluations at the primal differ, (M,).
    """
    measured = measure_trial_noise(trial, spread)
    rows = compare_along_probes(measured)
    measured.recorder.note(*internal_precision.describe_internal_precision(measured, rows))
    return Comparisons(measured, rows, "probe")


def compare_along_probes(trial: MeasuredTrial) -> list[Comparison]:
    """Compare every claim with the numerical derivative along random directions, and with the other claims entry by entry."""
    program = trial.program
    cotangents = draw_cotangents(trial, trial.recorder)
    trial = replace(trial, setting=replace(trial.setting, channels=cotangents))
    reverse = claimed_jacobians.evaluate_claims(program, cotangents, trial.recorder)
    forward_claims = [claim for claim in program.claims if claim.vjp is None]
    table: list[Comparison] = []
    for leaf in trial.leaves if program.claims else ():
        block = estimate_probe_block(trial, leaf, slice(0, program.point[leaf.span].size))
        compared: list[tuple[Comparison, Jacobian]] = []
        for i, jacobian in enumerate(reverse):
            table_row = _compare_with_estimates(trial, leaf, jacobian, block, cotangents)
            table.append(table_row)
            compared.append((table_row, jacobian))
            for j, earlier_jacobian in enumerate(reverse[:i]):
                first, second = (claimed_jacobians.twin_if_half_precision(x, program) for x in (earlier_jacobian, jacobian))
                at_kink = all(row.verdict is Verdict.PASS and row.reason in AT_KINK for row in (compared[j][0], table_row))
                table.append(_compare_pair(trial, leaf, first, second, cotangents, at_kink=at_kink))
        for claim in forward_claims:
            table += probe_forward.compare_forward_mode(trial, claim, block, compared)
    return _drop_cut_off_derivatives(table, reverse, trial.recorder)


def _drop_cut_off_derivatives(table: list[Comparison], claimed: list[Jacobian], recorder: Recorder) -> list[Comparison]:
    """Leave out a traced derivative that the evidence contradicts: the tracing is at fault, not the user."""
    derived = {jacobian.method for jacobian in claimed if jacobian.claim is not None and jacobian.claim.derived}
    wrong = {
        comparison.method
        for comparison in table
        if comparison.method in derived and comparison.against == "numeric" and comparison.verdict is Verdict.FAIL
    }
    recorder.note(*(claimed_jacobians.CUT_OFF_NOTE.format(method) for method in sorted(wrong)))
    return [comparison for comparison in table if not wrong & {comparison.method, comparison.against}]


def draw_cotangents(trial: MeasuredTrial, recorder: Recorder) -> F64:
    """Draw one random cotangent per probe, (P, M); 1 if there is a single output number.

    Args:
        recorder: takes a note on outputs that are not compared.
    """
    if trial.program.value.size == 1:
        return np.ones((PROBES, 1))
    output_scales = output_scaling.measure_output_scales(trial.evaluator, trial.setting, trial.label)
    non_finite = output_scales.non_finite
    if non_finite.any():
        first = name_output(trial.program, int(np.argmax(non_finite)), None)
        recorder.note(f"{non_finite.sum()} outputs are not finite nearby and not compared; the first is {first}")
    return np.stack([output_scales.draw_cotangent(make_generator(0, "cotangent", trial.label, k)) for k in range(PROBES)])


def _compare_with_estimates(
    trial: MeasuredTrial, leaf: Leaf, jacobian: Jacobian, block: ProbeBlock, cotangents: F64
) -> Comparison:
    """Compare a claim with the estimates on one leaf.

    The comparison names a wrong output, and has the score of the self-test; a FAIL has a diagnosis. Only with the option
    `stories`, and only if it rests on probes, it also says how the estimate of its worst probe was found.

    Args:
        block: the probes of the whole leaf.
    """
    comparison, judged, precise, sharpest_block = _compare_claim(trial, leaf, jacobian, block, cotangents)
    comparison = worst_output.name_worst_output(trial, comparison, leaf, jacobian, judged.entry_line)
    comparison = _run_self_test(trial, comparison, precise, sharpest_block)
    if comparison.verdict is Verdict.FAIL:
        true, wrong = _correct_wrong_entries(precise.values[:, leaf.span], leaf, comparison.where)
        project = _make_projection(claim_along_probes(precise, block), block)
        comparison = diagnosis_facts.diagnose_failure(
            trial, comparison, block.estimates, precise, project, true=true, wrong=wrong
        )
    needs_story = trial.options.stories and comparison.mode == "probe"
    if not needs_story:
        return comparison
    return add_estimate_story(comparison, judged, sharpest_block.estimates)


def _correct_wrong_entries(
    gradient: F64, leaf: Leaf, where: Whereabouts | None
) -> tuple[F64, NDArray[np.bool_]] | tuple[None, None]:
    """Return the gradient with its wrong entries corrected, and which these are; None if not all of them are known."""
    if where is None or where.count is None or leaf.width == 2:
        return None, None
    true, wrong = gradient.copy(), np.zeros(gradient.shape, dtype=bool)
    for entry in where.entries:
        i = int(np.ravel_multi_index(entry.entry, leaf.shape)) if leaf.shape else 0
        wrong[:, i] = True
        true[:, i] = true[:, i] * (entry.estimate / entry.claimed) if entry.claimed else entry.estimate
    return true, wrong


def _make_projection(claim: ClaimAlongLines, block: ProbeBlock) -> Callable[[F64], ClaimAlongLines]:
    """Make a function that turns gradients, one row per probe, into claims along the probes with the errors of this claim."""
    tangents = block.tangents[:, block.span]
    return lambda gradient: replace(claim, value=np.sum(gradient * tangents, axis=1)[None])


def _run_self_test(trial: MeasuredTrial, comparison: Comparison, jacobian: Jacobian, block: ProbeBlock) -> Comparison:
    """Run the self-test on the block of a leaf whose probes have the lowest resolution."""
    leaf, estimates = block.estimates.leaf, block.estimates
    gradient = jacobian.values[:, leaf.span][:, block.span]
    project = _make_projection(claim_along_probes(jacobian, block), block)
    scales = directions.compute_entry_scales(trial.program.point[leaf.span][block.span])
    is_zero = bool(np.isnan(comparison.resolution))
    negligible = float(np.max(np.fmax(estimates.nearby_slope, estimates.channel_sizes))) if is_zero else 0.0
    error = fault_injection.make_probe_error(scales, gradient, negligible)
    shape = (*leaf.shape, leaf.width) if block.is_whole_leaf else (-1, 1)
    rng = make_generator(0, "faults", trial.label, leaf.path)
    nonzero_entry = negligible / float(np.min(scales)) or 1.0
    slips = fault_injection.make_acceptance_test(estimates, project, comparison.rtol)
    return fault_injection.add_self_test(comparison, gradient, slips, error, rng, shape=shape, replacement=nonzero_entry)


def _compare_claim(
    trial: MeasuredTrial, leaf: Leaf, jacobian: Jacobian, block: ProbeBlock, cotangents: F64
) -> tuple[Comparison, JudgedLeaf, Jacobian, ProbeBlock]:
    """Compare a claim with the estimates on one leaf; one in lower precision by its float64 twin, which it must equal.

    Returns:
        The comparison, the judgement behind it, and the claim and the block that have the lowest resolution.
    """
    native = native_dtype.compare_with_twin(trial, leaf, jacobian, cotangents) if jacobian.twin else None

    def compare_native(judged: JudgedLeaf) -> Comparison:
        return make_probe_comparison(trial, judged, jacobian, "numeric", compute_resolution(judged), entries=True)

    if native is not None and np.any(native.code == Code.FAIL):
        return compare_native(native), native, jacobian, block
    precise, rtol = jacobian.twin or jacobian, trial.rtol(jacobian)
    judged, precise, block = _judge_claim(trial, precise, block, rtol, cotangents)
    resolution = compute_probe_resolution(judged, precise, block)
    limit = trial.options.rtol or MAX_RESOLUTION
    if not np.any(judged.code) and limit < resolution < np.inf:
        at_kink = np.any(kinks.passes_at_kink(judged))  # then the claim and the block are those near it
        judged, precise, block = _judge_in_blocks(trial, judged, precise, block, rtol, limit, cotangents)
        judged = judged.with_fact(Fact.RIGHT_NEARBY, at_kink & (judged.code == Code.PASS))
        resolution = compute_probe_resolution(judged, precise, block)
    if native is not None and np.any(native.code) and not np.any(judged.code):
        return compare_native(native), native, precise, block
    return make_probe_comparison(trial, judged, jacobian, "numeric", resolution), judged, precise, block


def _judge_claim(
    trial: MeasuredTrial, jacobian: Jacobian, block: ProbeBlock, rtol: float, cotangents: F64
) -> tuple[JudgedLeaf, Jacobian, ProbeBlock]:
    """Judge a claim along the probes; if sums disagree, search for a wrong entry and judge that.

    Returns:
        The judgement, and the claim and the probes that it is based on; at a kink, those near it.
    """
    at_first = judge_lines(block.estimates, claim_along_probes(jacobian, block), rtol, demanded=trial.rtol_is_given)
    is_sure = not np.any((at_first.code > Code.PASS) | at_first.doubtful)
    if not is_sure:
        jacobian = conditioning.with_conditioning(jacobian, trial.program, cotangents)
    claim = claim_along_probes(jacobian, block)
    judged = judge_lines(block.estimates, claim, rtol, demanded=trial.rtol_is_given)
    search, entry = wrong_entries.WrongEntrySearch(trial, judged.leaf, rtol), None
    if _disagrees(judged) and not np.any(block.estimates.rough):
        # If a few entries are wrong, only they need careful estimates. Many, or none, look alike until the probes are refined.
        entry = search.find(jacobian, block, judged, few_only=True)
    if entry is None:
        judged = judge_and_refine(block.estimates, claim, rtol, demanded=trial.rtol_is_given)
        if is_sure and np.any((judged.code > Code.PASS) | judged.doubtful):  # what a coarse estimate had passed
            jacobian = conditioning.with_conditioning(jacobian, trial.program, cotangents)
            claim = claim_along_probes(jacobian, block)
            judged = judge_and_refine(block.estimates, claim, rtol, demanded=trial.rtol_is_given)
        if not np.any(judged.code) and not np.any(judged.doubtful):
            return _check_near_kinks(trial, jacobian, judged, block, cotangents)
        entry = search.find(jacobian, block, judged) if _disagrees(judged) else None
    judged = ties.excuse_ties(trial, judged if entry is None else entry, jacobian, cotangents, along_entries=False)
    return judged, jacobian, block


def _disagrees(judged: JudgedLeaf) -> bool:
    """Whether a claim is wrong along some probe, or may be wrong in a few of its entries."""
    return bool(np.any((judged.code == Code.FAIL) | judged.doubtful))


def _check_near_kinks(
    trial: MeasuredTrial, jacobian: Jacobian, judged: JudgedLeaf, block: ProbeBlock, cotangents: F64
) -> tuple[JudgedLeaf, Jacobian, ProbeBlock]:
    """Check a claim that passed at kinks at points near them; it becomes INCONCLUSIVE if it is wrong on either side.

    If it is right there, the PASS is based on that, since there is much room between the slopes at many kinks.

    Returns:
        The judgement, and the claim and the probes that it is based on.
    """
    leaf, at_kink = judged.leaf, (judged, jacobian, block)
    if not np.any(kinks.passes_at_kink(judged)):
        return at_kink
    wrong, dense = ties.find_channels_outside(trial, [leaf], jacobian, cotangents)
    if np.any(wrong[:, None] & (dense.code > Code.PASS)):
        return dense.with_fact(Fact.OUTSIDE_JOINTLY, wrong[:, None] & (dense.code > Code.PASS)), jacobian, block
    if np.any(wrong) or ties.is_outside_with_tied_leaves(trial, leaf, jacobian, cotangents):
        return judged.with_fact(Fact.OUTSIDE_JOINTLY, kinks.passes_at_kink(judged)), jacobian, block
    nearby = at_kink
    for k in range(kinks.POINTS_NEAR_KINK):
        point = kinks.draw_nearby_point(trial, leaf, np.arange(leaf.entries * leaf.width), k)
        moved = kinks.move_trial(trial, jacobian, cotangents, point)
        if moved is None:
            return at_kink
        moved_trial, moved_jacobian = moved
        moved_block = estimate_probe_block(moved_trial, leaf, block.span)
        claim = claim_along_probes(moved_jacobian, moved_block)
        moved_judged = judge_and_refine(moved_block.estimates, claim, trial.rtol(jacobian), demanded=trial.rtol_is_given)
        wrong = moved_judged.code == Code.FAIL
        if np.any(wrong) and np.any(dense.code == Code.FAIL):
            return dense, jacobian, block
        if np.any(wrong):
            return moved_judged.with_fact(Fact.WRONG_NEARBY, wrong), moved_jacobian, moved_block
        if np.any(moved_judged.code):
            nearby = at_kink
        else:
            nearby = moved_judged.with_fact(Fact.RIGHT_NEARBY, ~wrong), moved_jacobian, moved_block
    return nearby


def _judge_in_blocks(
    trial: MeasuredTrial,
    judged: JudgedLeaf,
    jacobian: Jacobian,
    block: ProbeBlock,
    rtol: float,
    limit: float,
    cotangents: F64,
) -> tuple[JudgedLeaf, Jacobian, ProbeBlock]:
    """Judge a claim anew if the probes of the whole leaf have too low a resolution: with refined estimates, then by blocks.

    In a block of 1/k of the size, an entry stands out sqrt(k) times more. If the resolution stays too low, the claim is
    INCONCLUSIVE.

    Args:
        block: the probes of the whole leaf.
        limit: the resolution that is needed.

    Returns:
        The judgement, the claim and the probes of the block that has the lowest resolution, or that did not pass.
    """
    size = block.tangents.shape[1]
    for line in np.flatnonzero(~block.estimates.refined):
        refine_line(block.estimates, int(line))
    coarsest = judged, jacobian, block = _judge_claim(trial, jacobian, block, rtol, cotangents)
    coarsest_resolution = compute_probe_resolution(*coarsest)
    if np.any(judged.code) or coarsest_resolution <= limit:
        return coarsest
    # If the estimates alone are sharp enough, the claim differs from them, and blocks would not help.
    as_estimated = replace(judged, sides=replace(judged.sides, claim=judged.sides.value))
    estimate_resolution = compute_probe_resolution(as_estimated, jacobian, block)
    if estimate_resolution > limit:
        count = min(MAX_BLOCKS, size, int(np.ceil((estimate_resolution / limit) ** 2)) + 1)
        coarsest_resolution = -np.inf
        for low, high in pairwise(np.linspace(0, size, count + 1).astype(int)):
            small_block = estimate_probe_block(trial, judged.leaf, slice(int(low), int(high)))
            judged_block = _judge_claim(trial, jacobian, small_block, rtol, cotangents)
            resolution = compute_probe_resolution(*judged_block)
            if resolution > coarsest_resolution or coarsest_resolution == -np.inf:
                coarsest_resolution, coarsest = resolution, judged_block
            if np.any(judged_block[0].code):
                return judged_block
    if coarsest_resolution > limit:
        coarsest = (mark_low_resolution(coarsest[0]), *coarsest[1:])
    return coarsest


def _compare_pair(
    trial: MeasuredTrial, leaf: Leaf, claimed: Jacobian, trusted: Jacobian, cotangents: F64, *, at_kink: bool
) -> Comparison:
    """Compare the derivatives of two methods on one leaf, entry by entry; at a kink each may choose another slope."""

    def add_facts(judged: JudgedLeaf) -> JudgedLeaf:
        return judged.with_fact(Fact.METHODS_AT_KINK, np.full(judged.code.shape, at_kink))

    (judged,) = method_pairs.judge_methods(trial, [leaf], claimed, trusted, cotangents, add_facts=add_facts)
    return make_probe_comparison(trial, judged, claimed, trusted.method, compute_resolution(judged), entries=True)

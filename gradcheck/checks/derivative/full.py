"""Full mode: every partial derivative by every method, each method compared with the others."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.backends.program import COMPLEX_STEP, Claim, Program, Unavailable
from gradcheck.checks.derivative import (
    diagnosis_facts,
    entry_groups,
    fault_injection,
    heatmap,
    kinks,
    straight_through,
    swamped_entries,
    ties,
    worst_output,
)
from gradcheck.checks.derivative.comparisons import Comparisons, measure_trial_noise
from gradcheck.checks.derivative.mode import needs_every_entry
from gradcheck.compare import (
    claimed_jacobians,
    conditioning,
    dtype_range,
    internal_precision,
    method_pairs,
    native_dtype,
    output_scaling,
)
from gradcheck.compare.claimed_jacobians import Jacobian
from gradcheck.compare.claims_along_lines import claim_along_entries
from gradcheck.compare.judge import ENOUGH_CONFIRMED, ClaimAlongLines, JudgedLeaf, judge_and_refine, judge_lines, make_sides
from gradcheck.compare.table_row import add_estimate_story, compute_resolution, find_output_leaf, make_comparison
from gradcheck.evidence import directions
from gradcheck.number_format import FLOAT64
from gradcheck.results import Comparison, Partial, Reason, Verdict
from gradcheck.seeds import make_generator
from gradcheck.verdict.facts import Fact
from gradcheck.verdict.interval import CLAIM_ROUNDING_ULPS, Code, default_rtol, find_interval_facts, is_flat

if TYPE_CHECKING:
    from gradcheck.backends.flat import Leaf
    from gradcheck.compare.estimates import LineEstimates
    from gradcheck.compare.trial import MeasuredTrial, Trial
    from gradcheck.evidence.line import F64, Setting

# Up to this many partial derivatives are kept for `-v`; if there are more, none is.
MAX_PARTIALS_SHOWN = 64


def compare_every_entry(trial: Trial, spread: F64) -> Comparisons:
    """Compare every claim with every other method, entry by entry; notes say which methods were not used, and why.

    Args:
        trial: what is checked.
        spread: how far repeated evaluations at the primal differ, (M,).
    """
    measured = measure_trial_noise(trial, spread)
    rows, partials = _compare_methods(measured)
    trial.recorder.note(*internal_precision.describe_internal_precision(measured, rows))
    return Comparisons(measured, rows, "full", partials)


def _compare_methods(trial: MeasuredTrial) -> tuple[list[Comparison], list[Partial]]:
    program = trial.program
    channels = output_scaling.choose_channels(trial.evaluator, trial.setting, trial.label)
    trial = replace(trial, setting=replace(trial.setting, channels=channels))
    cotangents = np.eye(program.value.size) if channels is None else channels

    def evaluate_forward_rows(claim: Claim, known_jacobian: Jacobian) -> F64:
        return entry_groups.evaluate_forward_rows(
            claim, program, cotangents, known_jacobian, trial.label, in_groups=not _lists_partials(trial)
        )

    claimed = claimed_jacobians.evaluate_claims(program, cotangents, trial.recorder, evaluate_forward_rows)
    if not claimed:
        return [], []
    most_precise = claimed[0].twin or claimed[0]
    in_groups = program.point.size > entry_groups.GROUP_SIZE or not needs_every_entry(program, trial.options)
    estimates = entry_groups.estimate_entries(
        trial.evaluator, trial.setting, trial.leaves, most_precise, trial.label, in_groups=in_groups
    )
    complex_step = _confirm_complex_step(trial, estimates)
    _mark_contested_entries(estimates, [*claimed, *([complex_step] if complex_step else [])])
    table: list[Comparison] = []
    accepted: list[Jacobian] = []
    for jacobian in claimed:
        judged_leaves = _judge_claim(trial, jacobian, estimates, cotangents)
        if jacobian.claim is not None and jacobian.claim.derived:
            # A derived claim that is wrong is left out, since the tracing is at fault and not the user. If there is another
            # claim, a derived one that is undecided is left out too.
            excluded_from = Code.INCONCLUSIVE if accepted else Code.FAIL
            if any(np.any(judged.code >= excluded_from) for judged in judged_leaves):
                trial.recorder.note(claimed_jacobians.CUT_OFF_NOTE.format(jacobian.method))
                continue
        table += [
            _compare_with_estimates(trial, jacobian, leaf_estimates, judged)
            for leaf_estimates, judged in zip(estimates, judged_leaves, strict=True)
        ]
        if complex_step is not None:
            table += _compare_pair(trial, jacobian, complex_step, estimates, cotangents)
        for earlier_jacobian in accepted:
            first, second = (claimed_jacobians.twin_if_half_precision(j, program) for j in (earlier_jacobian, jacobian))
            table += _compare_pair(trial, first, second, estimates, cotangents)
        accepted.append(jacobian)
    methods = accepted if complex_step is None else [*accepted, complex_step]
    return table, _list_partials(trial, methods, estimates)


def _mark_contested_entries(estimates: list[LineEstimates], methods: list[Jacobian]) -> None:
    """Mark the entries in which two methods differ for a closer look, since a cheap estimate may not show which is right.

    In each leaf these are at most a few: those in which the methods are furthest apart.
    """
    precise = [jacobian.twin or jacobian for jacobian in methods]
    for leaf_estimates in estimates:
        span, size = leaf_estimates.leaf.span, np.zeros(leaf_estimates.value.shape)
        for first, second in itertools.combinations(precise, 2):
            claim, value = first.values[:, span], second.values[:, span]
            scale = np.fmax(np.abs(claim), np.abs(value))
            pair = make_sides(claim, value, second.error[:, span], first.error[:, span], scale)
            apart = find_interval_facts(pair, default_rtol(max(first.eps, second.eps)), demanded=False)[Fact.APART]
            is_zero = leaf_estimates.refined & (scale * np.abs(leaf_estimates.units) <= leaf_estimates.bound)
            size = np.where(apart & ~is_zero, np.fmax(size, pair.difference / pair.scale), size)
        contested = np.max(size, axis=0)
        lines = [line for line in np.argsort(-contested)[:ENOUGH_CONFIRMED] if contested[line] > 0]
        leaf_estimates.contested[lines] = True
        leaf_estimates.refined[lines] = False  # the step ladder along a group does not say which entry is wrong


def _judge_claim(trial: MeasuredTrial, jacobian: Jacobian, estimates: list[LineEstimates], cotangents: F64) -> list[JudgedLeaf]:
    """Judge a claim by the estimates, leaf by leaf; its conditioning is measured only if it does not pass at once."""
    rtol, program = trial.rtol(jacobian), trial.program
    precise = jacobian.twin or jacobian
    at_first = [
        judge_lines(leaf_estimates, claim_along_entries(leaf_estimates, precise), rtol, demanded=trial.rtol_is_given)
        for leaf_estimates in estimates
    ]
    is_sure = all(np.all(judged.code == Code.PASS) for judged in at_first)
    if not is_sure:
        precise = conditioning.with_conditioning(precise, program, cotangents)
    refined = [_judge_leaf(trial, leaf_estimates, precise, rtol) for leaf_estimates in estimates]
    if is_sure and any(np.any(judged.code > Code.PASS) for judged in refined):  # what a coarse estimate had passed
        precise = conditioning.with_conditioning(precise, program, cotangents)
        refined = [_judge_leaf(trial, leaf_estimates, precise, rtol) for leaf_estimates in estimates]
    refined = [_mark_singular_points(trial, *pair) for pair in zip(estimates, refined, strict=True)]
    refined = ties.check_through_kinks(trial, refined, precise, cotangents)
    checked = [
        _check_non_smooth_points(trial, leaf_estimates, judged, precise, cotangents)
        for leaf_estimates, judged in zip(estimates, refined, strict=True)
    ]
    if jacobian.twin is None:
        return checked
    return [
        _add_native_dtype(trial, judged, leaf_estimates, jacobian, cotangents)
        for judged, leaf_estimates in zip(checked, estimates, strict=True)
    ]


def _judge_leaf(trial: MeasuredTrial, estimates: LineEstimates, jacobian: Jacobian, rtol: float) -> JudgedLeaf:
    """Judge a leaf; judge it again if larger steps show something of entries that seemed to move nothing."""
    claim = claim_along_entries(estimates, jacobian)
    judged = judge_and_refine(estimates, claim, rtol, demanded=trial.rtol_is_given)
    if swamped_entries.reestimate_swamped_entries(trial, estimates, judged):
        return judge_and_refine(estimates, claim, rtol, demanded=trial.rtol_is_given)
    return judged


def _mark_singular_points(trial: MeasuredTrial, estimates: LineEstimates, judged: JudgedLeaf) -> JudgedLeaf:
    """Mark claims that are not finite where the derivative is no finite number either."""
    x = trial.program.point[estimates.leaf.span]
    out_of_range = dtype_range.mark_out_of_range_slopes(x, estimates.value, estimates.units, estimates.leaf.dtype)
    return dtype_range.mark_non_finite(judged, out_of_range, Fact.OUT_OF_RANGE)


def _check_non_smooth_points(
    trial: MeasuredTrial, estimates: LineEstimates, judged: JudgedLeaf, jacobian: Jacobian, cotangents: F64
) -> JudgedLeaf:
    """Check entries at which the function is not differentiable: near the point, and farther away."""
    judged = kinks.check_near_kinks(trial, judged, jacobian, cotangents)
    judged = ties.excuse_ties(trial, judged, jacobian, cotangents)
    outputs = output_scaling.find_outputs_of_channels(trial.program, trial.setting.channels)
    return straight_through.mark_straight_through(estimates, judged, outputs, declared=trial.options.straight_through)


def _add_native_dtype(
    trial: MeasuredTrial, judged_twin: JudgedLeaf, estimates: LineEstimates, jacobian: Jacobian, cotangents: F64
) -> JudgedLeaf:
    """Judge a claim in its native dtype, given the judgement of its twin by the estimates.

    At a kink the two may choose different subgradients.
    """
    native = native_dtype.compare_with_twin(trial, judged_twin.leaf, jacobian, cotangents)
    if trial.program.half and not np.any(native.code):
        return judged_twin
    sides, units = judged_twin.sides, judged_twin.units
    claim = native.sides.claim * units
    claim_error = sides.claim_error + native.sides.uncertainty * np.abs(units)
    scale = np.fmax(np.abs(claim), np.abs(sides.value))
    margin = claim_error + trial.rtol_of(jacobian.eps) * scale
    inside = (claim >= estimates.low - margin) & (claim <= estimates.high + margin)
    at_kink = judged_twin.remark == Reason.KINK_SUBGRADIENT
    native = native.with_fact(Fact.INSIDE_KINK, inside & at_kink)
    # `grid_sample` in float32, at the border of its cells, takes the derivative in another cell than its twin.
    twin_of_other_side = replace(jacobian.twin or jacobian, values=jacobian.values, eps=jacobian.eps)
    doubtful = np.any(at_kink, axis=1) & np.any(native.code != Code.PASS, axis=1)
    codes = ties.judge_by_claims_around(trial, [judged_twin.leaf], twin_of_other_side, cotangents, doubtful)
    if codes is not None:
        native = native.with_fact(Fact.INSIDE_KINK, (codes == Code.PASS)[:, None] & at_kink & (native.code != Code.PASS))
    shown = replace(sides, claim=claim, claim_error=claim_error, scale=scale)
    return replace(judged_twin, sides=shown, own_dtype=native)


def _compare_with_estimates(
    trial: MeasuredTrial, jacobian: Jacobian, estimates: LineEstimates, judged: JudgedLeaf
) -> Comparison:
    """Make the comparison of a claim with the estimates on one leaf.

    It names a wrong output, and has a diagnosis, the score of the self-test and a heatmap. Only a FAIL, or any verdict with the
    option `stories`, also says how the estimate of its worst entry was found.
    """
    leaf, precise = judged.leaf, jacobian.twin or jacobian
    comparison = worst_output.name_worst_output(trial, _make_comparison(trial, judged, jacobian, "numeric"), leaf, jacobian)
    units, gradient = estimates.units, precise.values[:, leaf.span]
    claim = claim_along_entries(estimates, precise)

    def project(candidate: F64) -> ClaimAlongLines:
        return replace(claim, value=candidate * units, scale=np.abs(candidate * units))

    true, wrong = estimates.value / units, judged.code == Code.FAIL
    comparison = diagnosis_facts.diagnose_failure(trial, comparison, estimates, precise, project, true=true, wrong=wrong)
    comparison = fault_injection.add_self_test(
        comparison,
        gradient,
        fault_injection.make_acceptance_test(estimates, project, comparison.rtol),
        fault_injection.make_entry_error(estimates, judged, gradient),
        make_generator(0, "faults", trial.label, leaf.path),
        shape=(*leaf.shape, leaf.width),
        replacement=float(np.max(estimates.channel_sizes / np.abs(units), initial=0.0)) or 1.0,
    )
    comparison = replace(comparison, picture=heatmap.make_heatmap(judged))
    needs_story = trial.options.stories or comparison.verdict is Verdict.FAIL
    return add_estimate_story(comparison, judged, estimates) if needs_story else comparison


def _compare_pair(
    trial: MeasuredTrial, claimed: Jacobian, trusted: Jacobian, estimates: list[LineEstimates], cotangents: F64
) -> list[Comparison]:
    """Compare the derivatives of two methods, leaf by leaf.

    At a kink they may choose different subgradients, and pass. If the estimates cannot separate the two, nobody knows which is
    wrong, and the comparison is INCONCLUSIVE.
    """
    rtol, eps = trial.rtol(claimed, trusted), max(claimed.eps, trusted.eps)
    estimates_by_leaf = {leaf_estimates.leaf.path: leaf_estimates for leaf_estimates in estimates}

    def add_facts(judged: JudgedLeaf) -> JudgedLeaf:
        leaf_estimates = estimates_by_leaf[judged.leaf.path]
        size = np.abs(leaf_estimates.units)
        coarse = leaf_estimates.bound / size > rtol * judged.sides.scale
        judged = judged.with_fact(Fact.FLAT, is_flat(judged.sides, leaf_estimates.channel_sizes / size, eps))
        judged = judged.with_fact(Fact.COARSE, coarse & np.isfinite(judged.sides.claim))
        judged = _mark_singular_points(trial, leaf_estimates, judged)
        return judged.with_fact(Fact.METHODS_AT_KINK, ~np.isnan(leaf_estimates.low))

    judged_leaves = method_pairs.judge_methods(trial, trial.leaves, claimed, trusted, cotangents, add_facts=add_facts)
    return [_make_comparison(trial, judged, claimed, trusted.method) for judged in judged_leaves]


def _make_comparison(trial: MeasuredTrial, judged: JudgedLeaf, jacobian: Jacobian, against: str) -> Comparison:
    """Make the line of the table for a claim on one leaf, compared with the method `against`."""
    return make_comparison(
        judged,
        trial.program,
        (jacobian.method, against),
        trial.rtol(jacobian),
        channels=trial.setting.channels,
        resolution=compute_resolution(judged),
        trial_number=trial.number,
    )


def _lists_partials(trial: MeasuredTrial) -> bool:
    """Whether there are few enough partial derivatives to list each."""
    return trial.setting.channels is None and trial.program.point.size * trial.program.value.size <= MAX_PARTIALS_SHOWN


def _list_partials(trial: MeasuredTrial, methods: list[Jacobian], estimates: list[LineEstimates]) -> list[Partial]:
    """List every partial derivative by every method and by the estimates; none, with a note, if there are too many."""
    program = trial.program
    if not _lists_partials(trial):
        trial.recorder.note(f"more than {MAX_PARTIALS_SHOWN} partial derivatives: -v does not list them")
        return []
    partials = []
    for leaf_estimates in estimates:
        leaf = leaf_estimates.leaf
        for channel in range(program.value.size):
            output = find_output_leaf(program, channel)
            for i, unit in enumerate(leaf_estimates.units):
                values = {jacobian.method: float(jacobian.values[channel, leaf.start + i]) for jacobian in methods}
                estimate = values["numeric"] = float(leaf_estimates.value[channel, i] / unit)
                scale = max(map(abs, values.values()))
                difference = max(abs(value - estimate) for value in values.values())
                partials.append(
                    Partial(
                        wrt=leaf.path + _name_complex_part(leaf, i),
                        entry=leaf.index(leaf.start + i),
                        output=output.path + _name_complex_part(output, channel - output.start),
                        output_entry=output.index(channel),
                        values=values,
                        bound=float(leaf_estimates.bound[channel, i] / abs(unit)),
                        rel_err=difference / scale if scale else 0.0,
                    )
                )
    return partials


def _name_complex_part(leaf: Leaf, place: int) -> str:
    """Name the part of a complex entry that a number of a leaf is; '' for real leaves."""
    return "" if leaf.width == 1 else (".real", ".imag")[place % 2]


def _confirm_complex_step(trial: MeasuredTrial, estimates: list[LineEstimates]) -> Jacobian | None:
    """Evaluate the complex step's derivatives; None, with a note, if central differences do not confirm them.

    `abs`, `max`, `conj` and comparisons break the complex step without an error.
    """
    try:
        values = _evaluate_complex_step(trial.program, trial.setting)
    except Unavailable as why:
        if trial.program.capabilities.complex_step is not None:
            trial.recorder.note(f"complex-step not available: {why}")
        return None
    smallest = directions.smallest_subnormal(FLOAT64.eps) / COMPLEX_STEP
    error = CLAIM_ROUNDING_ULPS * (FLOAT64.eps * np.abs(values) + smallest)
    jacobian = Jacobian("complex-step", values, error, error, FLOAT64.eps)
    for leaf_estimates in estimates:
        claim = claim_along_entries(leaf_estimates, jacobian)
        judged = judge_and_refine(leaf_estimates, claim, default_rtol(jacobian.eps), demanded=False)
        if np.any(judged.code != Code.PASS) or np.any(judged.remark == Reason.KINK_SUBGRADIENT):
            trial.recorder.note(
                "complex-step not used: central differences do not confirm it; abs, max, conj or comparisons break it"
            )
            return None
    return jacobian


def _evaluate_complex_step(program: Program, setting: Setting) -> F64:
    """Evaluate partial derivatives by the complex step, (C, N).

    Raises:
        Unavailable: if the function does not take complex numbers.
    """
    if program.capabilities.complex_step is None:
        raise Unavailable("it needs NumPy code with real float64 inputs and outputs")
    columns = []
    for position in range(program.point.size):
        unit = np.zeros(program.point.size)
        unit[position] = 1.0
        columns.append(setting.contract(program.capabilities.complex_step(program.point, unit)))
    derivatives = np.stack(columns, axis=1)
    if not np.all(np.isfinite(derivatives)):
        raise Unavailable("it gives non-finite numbers")
    return derivatives

"""The cheapest comparison: all leaves at once, along two random directions. Small inputs and probe mode begin with it.

This pass confirms right gradients in about a dozen evaluations, however many leaves there are, and can do nothing else. Leaves
whose share in the sum is too small to be judged sharply are checked again on their own (`probe.py`), or in a small input entry
by entry (`full.py`), and so are all leaves if anything disagrees. In probe mode the pass takes no more memory than a few
vectors as long as the inputs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from gradcheck import progress
from gradcheck.backends.flat import repeat_per_number
from gradcheck.checks.derivative.all_leaves_claims import (
    LeafGradients,
    evaluate_forward_claims,
    evaluate_gradients,
    find_largest,
    find_lost_size,
    find_peak,
)
from gradcheck.checks.derivative.all_leaves_entries import find_changes, find_entry_uncertainty
from gradcheck.checks.derivative.all_leaves_lines import (
    LINES,
    fill_tangent,
    find_farther_slopes,
    find_least_noise,
    find_still_leaves,
)
from gradcheck.checks.derivative.all_leaves_table import (
    ComparedSum,
    LeafSums,
    add_self_test_of_leaf,
    add_self_test_of_sum,
    add_up_line,
    make_empty_sums,
    make_rows,
    pass_as_zero,
)
from gradcheck.checks.derivative.probe_block import CERTAINTY
from gradcheck.compare import claimed_jacobians
from gradcheck.compare.output_scaling import COMBINATIONS, MAX_SINGLE_CHANNELS, OutputScales, measure_scales_along
from gradcheck.evidence import directions, richardson
from gradcheck.evidence.line import F64, Setting, choose_slack
from gradcheck.results import Comparison, Verdict
from gradcheck.verdict.interval import default_rtol

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gradcheck.backends.flat import Leaf
    from gradcheck.backends.program import Claim, Program
    from gradcheck.compare.evaluator import Evaluator
    from gradcheck.compare.trial import Trial
    from gradcheck.compare.trial_recorder import Recorder

# A function whose noise is more than this many times the rounding of its values needs a proper measurement of the noise.
MAX_NOISE_RATIO = 1e4
# The self-test changes and rearranges entries among this many numbers of a leaf.
FAULT_BLOCK_SIZE = 4096


@dataclass(frozen=True)
class WholeInputResult:
    """What a pass over all leaves at once showed.

    Attributes:
        rows: rows of the table by the path of the leaf, for the leaves that are confirmed.
        setting: the noise, as far as this pass measured it.
        scales: the scales of the outputs.
    """

    rows: dict[str, list[Comparison]]
    setting: Setting
    scales: OutputScales


def compare_whole_input(trial: Trial, *, every_entry_counts: bool = False) -> WholeInputResult | None:
    """Compare every claim with the numerical derivative along directions that move all leaves.

    Args:
        trial: what is checked.
        every_entry_counts: look at each output alone, or at several combinations of many; and leave a leaf unconfirmed if one
            of its entries is not known as well as full mode would know it (`EntryChanges.find_known_leaves`).

    Returns:
        What was confirmed; None if such directions cannot decide.

    Raises:
        DerivativeError: if a derivative that the user wrote raises.
    """
    evaluator, program, label = trial.evaluator, trial.program, trial.label
    draft = trial.recorder.nested()  # its notes count only if this pass decides
    leaves = [leaf for leaf in program.leaves if leaf.entries]
    scales = _measure_output_scales(evaluator, leaves, label)
    if scales.non_finite.any():
        return None
    cotangents = _choose_cotangents(scales, label, every_entry_counts=every_entry_counts)
    claims = _evaluate_vjp_claims(trial, cotangents, leaves, draft, every_entry_counts=every_entry_counts)
    if not claims or not all(np.any(claim.gradients.agrees) for claim in claims):
        return None
    setting = Setting(
        program.value,
        0.5 * program.eps * np.abs(program.value),
        program.eps,
        cotangents,
        directions.finest_step(program.eps),
        choose_slack(LINES * len(cotangents)),
    )
    evidence, forward_slopes = _take_evidence(trial, claims, setting, leaves, draft, every_entry_counts=every_entry_counts)
    compared = [claim.compare(evidence, program.eps) for claim in claims]
    compared += [
        ComparedSum(claim, value[None], evidence.value[:1], evidence.bound[:1] + error, evidence.noise_error[:1])
        for claim, value, error in forward_slopes
    ]
    # What is not smooth along a line only adds to its noise, so the smaller reading is nearer to the truth.
    noise = np.min(evidence.noise, axis=0)
    noise_ratio = float(np.max(noise / _usual_noise(program, setting)))
    if not all(claim_sum.agrees for claim_sum in compared) or noise_ratio > MAX_NOISE_RATIO:
        return None
    terms = [*range(len(claims)), *[len(claims) - 1] * len(forward_slopes)]  # those of a claim in forward mode are not known
    confirmed, zero_bounds, least_resolutions = _confirm_leaves(
        trial, setting, claims, compared, terms, leaves, every_entry_counts=every_entry_counts
    )
    is_certain = every_entry_counts and program.value.size <= MAX_SINGLE_CHANNELS  # every entry of every output was moved
    certainty = 1.0 if is_certain else CERTAINTY
    rows_by_claim = [
        make_rows(program, claim_sum, claims[i].sums, leaves, trial, cotangents, least, certainty)
        for claim_sum, i, least in zip(compared, terms, least_resolutions, strict=True)
    ]
    for i, claim in enumerate(claims):
        rows_by_claim[i] = claim.add_self_tests(rows_by_claim[i], compared[i], label)
    for i in range(len(claims), len(compared)):
        rows_by_claim[i] = add_self_test_of_sum(rows_by_claim[i], compared[i], label)
    rows_by_leaf = [list(rows) for rows in zip(*rows_by_claim, strict=True)]
    is_lost = np.all([claim.gradients.is_lost for claim in claims], axis=0)
    lost_leaves = {i: leaves[i] for i in np.flatnonzero(is_lost).tolist() if i not in zero_bounds}
    if lost_leaves:
        # More noise than that may come from what is not smooth elsewhere.
        quiet_setting = replace(setting, noise=setting.noise * min(noise_ratio, richardson.MAX_SMOOTH_NOISE))
        zero_bounds |= find_still_leaves(evaluator, quiet_setting, lost_leaves, np.zeros(program.point.size), label)
    for i, slope_bound in zero_bounds.items():
        rows_by_leaf[i] = [pass_as_zero(row, slope_bound) for row in rows_by_leaf[i]]
    trial.recorder.note(*draft.notes)
    rows = _select_confirmed(leaves, rows_by_leaf, confirmed)
    output_noise = noise if len(noise) == program.value.size else setting.noise * noise_ratio
    return WholeInputResult(rows, replace(setting, noise=output_noise, channels=None), scales)


def _confirm_leaves(
    trial: Trial,
    setting: Setting,
    claims: list[_VjpClaim],
    compared: list[ComparedSum],
    terms: list[int],
    leaves: list[Leaf],
    *,
    every_entry_counts: bool,
) -> tuple[NDArray[np.bool_], dict[int, float], list[F64]]:
    """Find which leaves every claim is known well enough in, besides its sums.

    Args:
        terms: for each comparison the index of the claim whose terms its sums are taken to have.

    Returns:
        The leaves, (L,); those among them that have a gradient of zero, each with a bound of the slope there; and for each
        comparison the resolution that each leaf states at least, (L,).
    """
    confirmed = np.all([claim.gradients.agrees | claim.gradients.is_lost for claim in claims], axis=0)
    least_resolutions = [claims[i].gradients.twin_error for i in terms]
    if not every_entry_counts:
        return confirmed, {}, least_resolutions
    assert setting.channels is not None
    lost = [find_lost_size(trial.program, setting.channels, claim.eps) for claim in claims]
    changes = [find_changes(c.gradients.values, trial.program, leaves, size) for c, size in zip(claims, lost, strict=True)]
    uncertainty = np.max([find_entry_uncertainty(compared[i]) for i in range(len(claims))], axis=0)
    farther_slopes, rtol = np.zeros(uncertainty.shape), trial.options.rtol
    if any(np.any(change.is_zero | (change.largest <= uncertainty)) for change in changes):
        farther_slopes = find_farther_slopes(trial.evaluator, setting, leaves, trial.label)
    is_zero = np.ones(len(leaves), dtype=bool)
    for i, claim in enumerate(claims):
        changes[i] = changes[i].mark_unseen_channels(compared[i], claim.eps, rtol, farther_slopes)
        known = changes[i].find_known_leaves(compared[i], claim.eps, rtol, farther_slopes)
        confirmed &= (known & claim.gradients.entries_agree | claim.gradients.is_lost) & ~changes[i].is_swamped
        is_zero &= known & np.all(changes[i].is_zero)
    resolutions = [changes[i].compute_resolution(claim_sum) for claim_sum, i in zip(compared, terms, strict=True)]
    zero_bounds = dict.fromkeys(np.flatnonzero(confirmed & is_zero).tolist(), float(np.max(uncertainty)))
    stated = [np.fmax(least, resolution) for least, resolution in zip(least_resolutions, resolutions, strict=True)]
    return confirmed, zero_bounds, stated


@dataclass(frozen=True)
class _VjpClaim:
    """A claim in reverse mode with its gradients for some cotangents, and what it is along the lines.

    Attributes:
        eps: relative spacing of floats in the precision of the gradients.
        blocks: for each leaf the numbers in which the self-test changes entries.
        block_tangents: the tangents of these numbers, for each line and leaf.
    """

    claim: Claim
    eps: float
    gradients: LeafGradients
    sums: LeafSums
    leaves: list[Leaf]
    blocks: list[slice]
    block_tangents: list[list[F64]]

    def add_line(self, tangent: F64, k: int) -> None:
        """Add up the claim along line number `k`."""
        add_up_line(self.sums, self.gradients.values, tangent, self.leaves, k)
        self.block_tangents.append([tangent[block].copy() for block in self.blocks])

    def compare(self, evidence: _Evidence, eps: float) -> ComparedSum:
        """Compare the claim with the slopes of the lines; `eps` is that of the evaluation."""
        error = np.fmax(self.sums.rounding_error(self.eps), eps * np.abs(evidence.value))
        claimed = self.sums.products.sum(axis=2)
        return ComparedSum(self.claim, claimed, evidence.value, evidence.bound + error, evidence.noise_error)

    def add_self_tests(self, rows: list[Comparison], compared: ComparedSum, label: str) -> list[Comparison]:
        """Add the scores of the self-tests to the rows of the leaves."""
        gradients, tested = self.gradients.values, []
        for i, (row, block) in enumerate(zip(rows, self.blocks, strict=True)):
            tangents = np.stack([of_line[i] for of_line in self.block_tangents])
            tested.append(add_self_test_of_leaf(row, compared, self.sums, i, gradients[:, block], tangents, label))
        return tested


def _evaluate_vjp_claims(
    trial: Trial, cotangents: F64, leaves: list[Leaf], recorder: Recorder, *, every_entry_counts: bool
) -> list[_VjpClaim]:
    """Evaluate the claims in reverse mode.

    Args:
        every_entry_counts: compare the precisions of a claim entry by entry, and leave out a claim that was derived by tracing
            if there is another.
    """
    program, claims = trial.program, []
    pairs = list(claimed_jacobians.claims_with_twins(trial.program, only_vjp=True))
    written = [(claim, twin) for claim, twin in pairs if not claim.derived]
    for claim, twin in (written or pairs) if every_entry_counts else pairs:
        rtol = trial.options.rtol or default_rtol(claim.eps)
        gradients = evaluate_gradients(
            claim, twin, program, cotangents, leaves, rtol, recorder, every_entry_counts=every_entry_counts
        )
        if gradients is not None:
            blocks = [_choose_fault_block(leaf, leaf.start + find_peak(gradients.values[:, leaf.span])) for leaf in leaves]
            largest = np.array([find_largest(gradients.values[:, leaf.span]) for leaf in leaves]).T
            sums = make_empty_sums(leaves, LINES, largest=largest)
            claims.append(_VjpClaim(claim, program.eps if twin else claim.eps, gradients, sums, leaves, blocks, []))
    return claims


@dataclass(frozen=True)
class _Evidence:
    """Slopes along the lines, (K, C), with bounds of their errors.

    Attributes:
        noise: of one evaluation, as each line shows it.
        noise_error: the error that noise alone would leave in an estimate at the steps of a first closer look.
    """

    value: F64
    bound: F64
    noise: F64
    noise_error: F64


def _take_evidence(
    trial: Trial, claims: list[_VjpClaim], setting: Setting, leaves: list[Leaf], recorder: Recorder, *, every_entry_counts: bool
) -> tuple[_Evidence, list[tuple[Claim, F64, F64]]]:
    """Estimate the slopes along every line, and evaluate every claim along it.

    Args:
        every_entry_counts: the precisions of a claim in forward mode may differ by rounding only, as they are compared in sums.
    """
    program, cotangents = trial.program, setting.channels
    assert cotangents is not None
    rtol = 0.0 if every_entry_counts else trial.options.rtol or default_rtol(claims[0].claim.eps)
    slopes: list[richardson.RichardsonEstimate] = []
    forward_slopes: list[tuple[Claim, F64, F64]] = []
    tangent, least_noise = np.zeros(program.point.size), find_least_noise(setting)
    for k in range(LINES):
        progress.report_progress("all leaves at once", k, LINES)
        fill_tangent(tangent, program, leaves, trial.label, k)
        for claim in claims:
            claim.add_line(tangent, k)
        if k == 0:
            forward_slopes = evaluate_forward_claims(program, tangent, cotangents, rtol, recorder)
        claimed_slopes = claims[0].sums.products[k].sum(axis=1)
        first = slopes[0] if k else None
        slopes.append(_estimate_slopes(trial.evaluator, setting, least_noise, tangent, claimed_slopes, first))
    value, bound, noise = (np.stack([getattr(estimate, name) for estimate in slopes]) for name in ("value", "bound", "noise"))
    first_step = richardson.smallest_step(richardson.TWO_STEPS, 0.0, program.eps)
    return _Evidence(value, bound, noise, richardson.noise_bound(noise, first_step, setting.slack)), forward_slopes


def _select_confirmed(
    leaves: list[Leaf], rows_by_leaf: list[list[Comparison]], agrees: NDArray[np.bool_]
) -> dict[str, list[Comparison]]:
    """Select the rows of the leaves in which every claim passed, in its own precision too."""
    return {
        leaf.path: rows
        for leaf, rows, twin_agrees in zip(leaves, rows_by_leaf, agrees, strict=True)
        if twin_agrees and all(row.verdict is Verdict.PASS for row in rows)
    }


def _usual_noise(program: Program, setting: Setting) -> F64:
    """Return the noise of each channel if every output is rounded as a typical one of its leaf, (C,)."""
    scales = [directions.compute_leaf_scale(program.value[leaf.span]) for leaf in program.outputs]
    return setting.contract_noise(0.5 * program.eps * repeat_per_number(scales, program.outputs))


def _estimate_slopes(
    evaluator: Evaluator,
    setting: Setting,
    least_noise: F64,
    tangent: F64,
    claimed: F64,
    first: richardson.RichardsonEstimate | None,
) -> richardson.RichardsonEstimate:
    """Estimate the slopes along a line: from three steps, or from two if the line proves to be similar to the first one.

    Args:
        least_noise: the least noise that each channel can have, (C,).
        claimed: the claimed slopes, (C,); if an estimate from two steps disagrees with them, three steps are taken.
        first: the estimate along the first line; None for that line itself.
    """
    channels = setting.channels
    assert channels is not None
    phi, buffer = evaluator.line_without_copies(tangent), np.empty_like(setting.base)

    def change(t: float) -> F64:
        return np.asarray(channels @ np.subtract(phi(t), setting.base, out=buffer))

    arguments = (change, 0.0, setting.eps, lambda _: least_noise, setting.slack)
    if first is not None:
        estimate = richardson.estimate_from_similar_line(first, *arguments)
        if np.all(np.abs(estimate.value - claimed) <= estimate.bound):
            return estimate
    return richardson.estimate_from_three_steps(*arguments)


def _measure_output_scales(evaluator: Evaluator, leaves: list[Leaf], label: str) -> OutputScales:
    """Measure the scales of the outputs; it takes evaluations only if an output is so small that its slope must decide."""
    program = evaluator.program
    size = np.abs(program.value)
    leaf_scales = [directions.compute_leaf_scale(size[leaf.span]) for leaf in program.outputs]
    scales = repeat_per_number(leaf_scales, program.outputs)
    if not np.any(size < directions.SMALL_ENTRY_RATIO * scales):
        return OutputScales(scales, np.zeros(scales.size, dtype=bool))
    tangent = np.zeros(program.point.size)
    fill_tangent(tangent, program, leaves, label, LINES)
    return measure_scales_along(program, evaluator.line_without_copies(tangent))


def _choose_cotangents(scales: OutputScales, label: str, *, every_entry_counts: bool) -> F64:
    """Choose the combinations of the outputs to look at, (C, M).

    Args:
        every_entry_counts: each output alone, or several combinations of many; otherwise one combination.
    """
    size = scales.scales.size
    if every_entry_counts and size <= MAX_SINGLE_CHANNELS:
        # Of both signs, negative first: every seed catches what is right for positive ones only.
        return np.diag([(-1.0) ** (i + 1) for i in range(size)])
    cotangents = scales.draw_even_cotangents(COMBINATIONS if every_entry_counts else 1, label)
    return -np.abs(cotangents) if size == 1 else cotangents


def _choose_fault_block(leaf: Leaf, peak: int) -> slice:
    """Choose some numbers of a leaf around its largest derivative."""
    low = leaf.start + (peak - leaf.start) // FAULT_BLOCK_SIZE * FAULT_BLOCK_SIZE
    return slice(low, min(low + FAULT_BLOCK_SIZE, leaf.span.stop))

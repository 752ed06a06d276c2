"""Probe mode at its cheapest: all leaves at once, along two random directions.

This pass confirms right gradients in about a dozen evaluations, however many leaves there are, and can do nothing else. If
anything disagrees, or if the share of a leaf in the sum is too small to be judged sharply, each leaf is checked on its own
(`probe.py`). The pass takes no more memory than a few vectors as long as the inputs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from gradcheck import progress
from gradcheck.checks.derivative import fault_injection
from gradcheck.checks.derivative.all_leaves_claims import evaluate_forward_claims, evaluate_whole_gradient, find_peak
from gradcheck.checks.derivative.all_leaves_table import (
    ComparedSum,
    add_self_test_of_leaf,
    add_self_test_of_sum,
    add_up_line,
    make_empty_sums,
    make_rows,
)
from gradcheck.compare import claimed_jacobians
from gradcheck.compare.output_scaling import OutputScales, measure_scales_along
from gradcheck.evidence import directions, richardson
from gradcheck.evidence.line import F64, Setting, choose_slack
from gradcheck.results import Comparison, Reason, Verdict
from gradcheck.seeds import make_generator
from gradcheck.verdict.interval import default_rtol

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gradcheck.backends.flat import Leaf
    from gradcheck.backends.program import Claim, Program
    from gradcheck.compare.evaluator import Evaluator
    from gradcheck.compare.trial import Trial

LINES = 2
# Times the rounding of the values: a noisier function needs a proper measurement of its noise.
MAX_NOISE_RATIO = 1e4
# Displacements (units of t) at which the outputs must not change where a zero gradient is claimed.
STANDSTILL_STEPS = (0.25, -0.25, 0.0625)
# Entries: in a leaf of at least as many some move one way and some the other, so that the first of these steps is enough.
MIN_ENTRIES_FOR_ONE_STEP = 64
# Numbers of a leaf in which the self-test changes and rearranges entries.
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


def compare_whole_input(trial: Trial) -> WholeInputResult | None:
    """Compare a claim with the numerical derivative along directions that move all leaves.

    Returns:
        What was confirmed; None if such directions cannot decide.

    Raises:
        DerivativeError: if a derivative that the user wrote raises.
    """
    evaluator, program, label = trial.evaluator, trial.program, trial.label
    draft = trial.recorder.nested()  # its notes count only if this pass decides
    leaves = [leaf for leaf in program.leaves if leaf.entries]
    vjp_claims = list(claimed_jacobians.claims_with_twins(program, only_vjp=True))
    if len(vjp_claims) != 1:
        return None  # several claims are also compared with each other, entry by entry
    claim, twin = vjp_claims[0]
    scales = _measure_output_scales(evaluator, leaves, label)
    if scales.non_finite.any():
        return None
    cotangent = _draw_cotangent(scales, label)
    rtol = trial.options.rtol or default_rtol(claim.eps)
    gradient = evaluate_whole_gradient(claim, twin, program, cotangent, leaves, rtol, draft)
    if gradient is None or not np.any(gradient.agrees):
        return None
    rounding = 0.5 * program.eps * np.abs(program.value)
    setting = Setting(program.value, rounding, program.eps, None, directions.finest_step(program.eps), choose_slack(LINES))
    peaks = [leaf.start + find_peak(gradient.values[leaf.span]) for leaf in leaves]
    blocks = [_choose_fault_block(leaf, peak) for leaf, peak in zip(leaves, peaks, strict=True)]
    sums = make_empty_sums(leaves, LINES, largest=np.abs(gradient.values[peaks]), twin_error=gradient.twin_error)
    slopes: list[richardson.RichardsonEstimate] = []
    block_tangents: list[list[F64]] = []
    forward_slopes: list[tuple[Claim, float, float]] = []
    tangent = np.zeros(program.point.size)
    for k in range(LINES):
        progress.report_progress("all leaves at once", k, LINES)
        _fill_tangent(tangent, program, leaves, label, k)
        add_up_line(sums, gradient.values, tangent, leaves, k)
        block_tangents.append([tangent[block].copy() for block in blocks])
        if k == 0:
            forward_slopes = evaluate_forward_claims(program, tangent, cotangent, rtol, draft)
        claimed_slope = float(sums.products[k].sum())
        slopes.append(_estimate_slope(evaluator, setting, tangent, cotangent, claimed_slope, slopes[0] if k else None))
    slope, bound, noise = (
        np.concatenate([getattr(estimate, name) for estimate in slopes]) for name in ("value", "bound", "noise")
    )
    claim_error = np.fmax(sums.rounding_error(program.eps if twin is not None else claim.eps), program.eps * np.abs(slope))
    first_step = richardson.smallest_step(richardson.TWO_STEPS, 0.0, program.eps)
    noise_error = richardson.noise_bound(noise, first_step, setting.slack)
    compared = [ComparedSum(claim, sums.products.sum(axis=1), slope, bound + claim_error, noise_error)]
    compared += [
        ComparedSum(forward_claim, np.array([value]), slope[:1], bound[:1] + error, noise_error[:1])
        for forward_claim, value, error in forward_slopes
    ]
    # What is not smooth along a line only adds to its noise, so the smaller reading is nearer to the truth.
    noise_ratio = float(np.min(noise)) / _least_noise(setting, cotangent)
    if not all(claim_sum.agrees for claim_sum in compared) or noise_ratio > MAX_NOISE_RATIO:
        return None
    rows_by_claim = [make_rows(program, claim_sum, sums, leaves, trial, cotangent) for claim_sum in compared]
    rows_by_claim[0] = [
        add_self_test_of_leaf(
            row, compared[0], sums, i, gradient.values[block], np.stack([t[i] for t in block_tangents]), label
        )
        for i, (row, block) in enumerate(zip(rows_by_claim[0], blocks, strict=True))
    ]
    for i in range(1, len(compared)):
        rows_by_claim[i] = add_self_test_of_sum(rows_by_claim[i], compared[i], label)
    rows_by_leaf = [list(rows) for rows in zip(*rows_by_claim, strict=True)]
    if gradient.is_lost.any():
        lost_leaves = {i: leaves[i] for i in np.flatnonzero(gradient.is_lost).tolist()}
        # More noise than that may come from what is not smooth elsewhere.
        quiet_setting = replace(setting, noise=rounding * min(noise_ratio, richardson.MAX_SMOOTH_NOISE))
        still = _find_still_leaves(evaluator, quiet_setting, lost_leaves, tangent, cotangent, label)
        for i, slope_bound in still.items():
            rows_by_leaf[i] = [_pass_as_zero(row, slope_bound) for row in rows_by_leaf[i]]
    trial.recorder.note(*draft.notes)
    confirmed = _select_confirmed(leaves, rows_by_leaf, gradient.agrees | gradient.is_lost)
    return WholeInputResult(confirmed, replace(setting, noise=rounding * noise_ratio), scales)


def _select_confirmed(
    leaves: list[Leaf], rows_by_leaf: list[list[Comparison]], agrees: NDArray[np.bool_]
) -> dict[str, list[Comparison]]:
    """Select the rows of the leaves in which every claim passed, in its own precision too."""
    return {
        leaf.path: rows
        for leaf, rows, twin_agrees in zip(leaves, rows_by_leaf, agrees, strict=True)
        if twin_agrees and all(row.verdict is Verdict.PASS for row in rows)
    }


# --- leaves along which the outputs stand still


def _find_still_leaves(
    evaluator: Evaluator, setting: Setting, leaves: dict[int, Leaf], tangent: F64, cotangent: F64, label: str
) -> dict[int, float]:
    """Find the leaves along which the outputs stand still, each with a bound of the slope there.

    An example is the bias of the keys in attention, which the softmax takes out again. All leaves are moved at once, then each
    alone: factors that are all zero stand still only alone.
    """
    bound = _bound_still_slope(evaluator, setting, list(leaves.values()), tangent, cotangent, label)
    if bound is not None:
        return dict.fromkeys(leaves, bound)
    if len(leaves) == 1:
        return {}
    bounds = {i: _bound_still_slope(evaluator, setting, [leaf], tangent, cotangent, label) for i, leaf in leaves.items()}
    return {i: leaf_bound for i, leaf_bound in bounds.items() if leaf_bound is not None}


def _bound_still_slope(
    evaluator: Evaluator, setting: Setting, leaves: list[Leaf], tangent: F64, cotangent: F64, label: str
) -> float | None:
    """Bound the slope along some leaves at once, if the outputs stand still far along them; None if they do not.

    Args:
        tangent: a vector (N,) that is overwritten.
    """
    tangent[:] = 0.0
    _fill_tangent(tangent, evaluator.program, leaves, label, LINES + 1)
    phi, noise = evaluator.line_without_copies(tangent), setting.slack * _least_noise(setting, cotangent)
    has_few_entries = min(leaf.entries for leaf in leaves) < MIN_ENTRIES_FOR_ONE_STEP
    steps = STANDSTILL_STEPS if has_few_entries else STANDSTILL_STEPS[:1]
    change = max(abs(float(cotangent @ (phi(t) - setting.base))) for t in steps)
    return noise / max(STANDSTILL_STEPS) if change <= noise else None


def _pass_as_zero(row: Comparison, bound: float) -> Comparison:
    """Pass a leaf whose gradient is rightly zero compared with the outputs: what is claimed is rounding."""
    return replace(
        fault_injection.record_faults(row, [("one entry changed", False)]),  # the changed entry would not have been zero
        verdict=Verdict.PASS,
        reason=Reason.BOTH_ZERO,
        claimed=0.0,
        estimate=0.0,
        bound=bound,
        abs_err=0.0,
        rel_err=math.nan,
        resolution=math.nan,
    )


# --- the evidence


def _least_noise(setting: Setting, cotangent: F64) -> float:
    """Return the least noise that a combination of the outputs can have."""
    return max(float(np.linalg.norm(cotangent * setting.noise)), float(np.finfo(np.float64).tiny))


def _estimate_slope(
    evaluator: Evaluator,
    setting: Setting,
    tangent: F64,
    cotangent: F64,
    claimed: float,
    first: richardson.RichardsonEstimate | None,
) -> richardson.RichardsonEstimate:
    """Estimate the slope along a line: from three steps, or from two if the line proves to be similar to the first one.

    Args:
        claimed: the claimed slope; if an estimate from two steps disagrees with it, three steps are taken.
        first: the estimate along the first line; None for that line itself.
    """
    phi, noise_floor = evaluator.line_without_copies(tangent), np.array([_least_noise(setting, cotangent)])
    buffer = np.empty_like(setting.base)

    def change(t: float) -> F64:
        return np.array([cotangent @ np.subtract(phi(t), setting.base, out=buffer)])

    arguments = (change, 0.0, setting.eps, lambda _: noise_floor, setting.slack)
    if first is not None:
        estimate = richardson.estimate_from_similar_line(first, *arguments)
        if np.all(np.abs(estimate.value - claimed) <= estimate.bound):
            return estimate
    return richardson.estimate_from_three_steps(*arguments)


def _measure_output_scales(evaluator: Evaluator, leaves: list[Leaf], label: str) -> OutputScales:
    """Measure the scales of the outputs; it takes evaluations only if an output is so small that its slope must decide."""
    program = evaluator.program
    size = np.abs(program.value)
    scales = np.concatenate(
        [np.full(leaf.entries * leaf.width, directions.compute_leaf_scale(size[leaf.span])) for leaf in program.outputs]
    )
    if not np.any(size < directions.SMALL_ENTRY_RATIO * scales):
        return OutputScales(scales, np.zeros(scales.size, dtype=bool))
    tangent = np.zeros(program.point.size)
    _fill_tangent(tangent, program, leaves, label, LINES)
    return measure_scales_along(program, evaluator.line_without_copies(tangent))


def _draw_cotangent(scales: OutputScales, label: str) -> F64:
    """Draw a combination of the outputs in which every output counts, (M,)."""
    signs = np.empty(scales.scales.size)
    directions.fill_even(make_generator(0, "joint", "cotangent", label), np.ones(signs.size), signs)
    cotangent = signs / np.maximum(scales.scales, directions.MIN_OUTPUT_SIZE)
    # A single output gets a negative cotangent, so that every seed catches what is right for positive ones only.
    return -np.abs(cotangent) if cotangent.size == 1 else cotangent


def _fill_tangent(tangent: F64, program: Program, leaves: list[Leaf], label: str, k: int) -> None:
    """Fill a tangent with random displacements of some leaves, those of line number `k`."""
    for leaf in leaves:
        directions.fill_even(make_generator(0, "joint", label, leaf.path, k), program.point[leaf.span], tangent[leaf.span])


def _choose_fault_block(leaf: Leaf, peak: int) -> slice:
    """Choose some numbers of a leaf around its largest derivative."""
    low = leaf.start + (peak - leaf.start) // FAULT_BLOCK_SIZE * FAULT_BLOCK_SIZE
    return slice(low, min(low + FAULT_BLOCK_SIZE, leaf.span.stop))

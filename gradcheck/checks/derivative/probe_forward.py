"""Forward mode in probe mode: only its products with the probes are evaluated, each a sum over the entries of a leaf."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.checks.derivative import fault_injection
from gradcheck.checks.derivative.probe_block import (
    DENSE_PROBES,
    MIN_DENSE_DISPLACEMENT,
    PROBES,
    ProbeBlock,
    claim_along_probes,
    make_probe_comparison,
    mark_low_resolution,
)
from gradcheck.compare import claimed_jacobians, claims_along_lines, conditioning, method_pairs, output_scaling
from gradcheck.compare.claimed_jacobians import Jacobian
from gradcheck.compare.judge import ClaimAlongLines, JudgedLeaf, judge_and_refine
from gradcheck.number_format import FLOAT64
from gradcheck.results import Comparison, Reason, Verdict
from gradcheck.seeds import make_generator
from gradcheck.verdict.facts import Fact
from gradcheck.verdict.interval import CLAIM_ROUNDING_ULPS, MAX_RESOLUTION, Code

if TYPE_CHECKING:
    from gradcheck.backends.program import Claim
    from gradcheck.compare.trial import MeasuredTrial
    from gradcheck.evidence.line import F64

# A PASS with one of these reasons rests on more than central differences at the inputs.
NON_SMOOTH_REASONS = (Reason.KINK_SUBGRADIENT, Reason.TIE)


def compare_forward_mode(
    trial: MeasuredTrial, claim: Claim, block: ProbeBlock, reverse: list[tuple[Comparison, Jacobian]]
) -> list[Comparison]:
    """Compare a forward-mode claim with the estimates along the probes of a leaf.

    A claim in lower precision is compared with its twin too. If the claim agrees with one in reverse mode that passed, it is as
    good as that one (the adjoint test). On large leaves, at ties and at kinks this is sharper than the estimates.

    Args:
        block: the probes of the whole leaf.
        reverse: the comparisons of the reverse-mode claims on this leaf, and their derivatives.

    Returns:
        One comparison; none if forward mode is not available.
    """
    program, leaf = trial.program, block.estimates.leaf
    tangents = np.stack([claims_along_lines.embed_tangent(program, leaf, u) for u in block.tangents])
    products = claimed_jacobians.evaluate_jvp(claim, program.point, tangents, trial.recorder)
    if products is None:
        return []
    jacobian = Jacobian(claim.method, np.zeros((PROBES, program.point.size)), np.zeros(0), np.zeros(0), claim.eps, claim)
    rtol, twin = trial.rtol(jacobian), claimed_jacobians.make_twin(claim)
    native = _make_claim_along_tangents(trial, claim, products, tangents)
    precise = native
    if twin is not None and twin.jvp is not None:
        precise = _make_claim_along_tangents(trial, twin, twin.jvp(program.point, tangents), tangents)
    judged = judge_and_refine(block.estimates, precise, rtol, demanded=trial.rtol_is_given)
    resolution = _compute_sum_resolution(judged, leaf.entries)
    if precise is not native and not program.half:
        slopes = output_scaling.compute_output_slopes(program, trial.setting, claim.eps) * tangents
        cancellation = method_pairs.CANCELLATION_ULPS * claim.eps * np.linalg.norm(slopes, axis=1)
        judged = _add_native_claim(judged, native, precise, cancellation, rtol)
    comparison = make_probe_comparison(trial, judged, jacobian, "numeric", resolution)
    if not np.any(judged.code) and not any(remark in NON_SMOOTH_REASONS for remark in judged.remark.flat):
        comparison = _run_self_test(trial, comparison, block, precise)
    for passed, reverse_jacobian in reverse:
        along_probes = claim_along_probes(claimed_jacobians.twin_if_half_precision(reverse_jacobian, program), block)
        error = judged.sides.claim_error + along_probes.error
        if passed.reason in NON_SMOOTH_REASONS:  # there the claim's jump looks like bad conditioning
            rounding = precise.rounding if program.half else np.fmax(native.rounding, precise.rounding)
            error = rounding + along_probes.rounding
        difference = _bound_adjoint_difference(judged.sides.claim, along_probes.value, error, leaf.entries)
        # A claim that the estimates contradict passes only if the two modes are practically equal.
        limit = rtol if np.any(judged.code == Code.FAIL) else trial.options.rtol or MAX_RESOLUTION
        if passed.verdict is Verdict.PASS and difference < limit:
            reason = passed.reason if passed.reason in NON_SMOOTH_REASONS else None
            judged = replace(judged, evidence_remark=np.full(judged.code.shape, reason, dtype=object))
            judged = judged.with_fact(Fact.CONFIRMED_BY_OTHER_MODE, np.ones(judged.code.shape, dtype=bool))
            resolution = float(np.fmin(resolution, np.fmax(passed.resolution, difference)))
    if comparison.verdict is Verdict.INCONCLUSIVE and comparison.reason is Reason.BLIND:
        return [comparison]
    if not np.any(judged.code) and resolution > (trial.options.rtol or MAX_RESOLUTION):
        judged = mark_low_resolution(judged)
    final = make_probe_comparison(trial, judged, jacobian, "numeric", resolution)
    return [replace(final, self_test=comparison.self_test)]


def _add_native_claim(
    judged: JudgedLeaf, native: ClaimAlongLines, precise: ClaimAlongLines, cancellation: F64, rtol: float
) -> JudgedLeaf:
    """Show the claim in its own precision, and mark where it differs from its twin by more than rounding.

    Args:
        cancellation: the error along each probe, (P,), if terms as large as the outputs cancel in every entry.
    """
    difference, allowed = np.abs(native.value - precise.value), native.error + precise.error + cancellation
    judged = replace(judged, sides=replace(judged.sides, claim=native.value, claim_error=allowed))
    return judged.with_fact(Fact.APART_IN_OWN_DTYPE, difference - allowed > rtol * native.scale)


def _bound_adjoint_difference(forward: F64, reverse: F64, error: F64, entries: int) -> float:
    """Bound how far a forward-mode claim differs from one in reverse mode, (1, P) each, relative to a typical entry."""
    if np.all(forward == reverse):
        return 0.0
    with np.errstate(all="ignore"):
        typical = np.sqrt(np.mean(reverse[0, :DENSE_PROBES] ** 2) / entries)
        difference = (np.abs(forward - reverse) + error)[0, :DENSE_PROBES]
        return float(np.max(difference) / (MIN_DENSE_DISPLACEMENT * typical))


def _compute_sum_resolution(judged: JudgedLeaf, entries: int) -> float:
    """Compute the relative error of a typical entry that would have been caught, if only sums over entries are known.

    Such a sum is sqrt(entries) times the typical term. The resolution is NaN if the derivative is zero.
    """
    sides = judged.sides
    if np.all(sides.magnitude <= sides.uncertainty):
        return float("nan")
    typical = np.sqrt(np.mean(sides.magnitude[0, :DENSE_PROBES] ** 2) / entries)
    visible = np.max((sides.difference + sides.uncertainty)[0, :DENSE_PROBES])
    return float(visible / (MIN_DENSE_DISPLACEMENT * typical))


def _run_self_test(trial: MeasuredTrial, comparison: Comparison, block: ProbeBlock, claim: ClaimAlongLines) -> Comparison:
    """Run the self-test with faults that sums over entries can show; there is none if the derivative is zero."""
    if np.isnan(comparison.resolution):
        return comparison

    def faulty_claim(sums: F64) -> ClaimAlongLines:
        return replace(claim, value=sums.T)

    def error(sums: F64) -> F64:
        typical = np.sqrt(np.mean(claim.value**2))
        return np.asarray(np.abs(sums - claim.value.T) / typical)

    rng = make_generator(0, "faults", trial.label, comparison.wrt)
    slips = fault_injection.make_acceptance_test(block.estimates, faulty_claim, comparison.rtol)
    return fault_injection.add_self_test(comparison, claim.value.T, slips, error, rng, shape=(1,))


def _make_claim_along_tangents(trial: MeasuredTrial, claim: Claim, products: F64, tangents: F64) -> ClaimAlongLines:
    """Make the directional derivatives of a forward-mode claim in the channels, with their rounding and conditioning.

    Args:
        products: the claim's Jacobian-vector products, (P, M).
        tangents: the tangents, (P, N).
    """
    channels, point, eps = trial.setting.channels, trial.program.point, claim.eps
    jvp = claim.jvp
    assert channels is not None
    assert jvp is not None
    terms = channels * products
    size, value = np.sum(np.abs(terms), axis=1), np.sum(terms, axis=1)
    cancellation = method_pairs.CANCELLATION_ULPS
    if eps > FLOAT64.eps:  # a tangent moves every entry, and the rounding of so many terms adds up like their root
        cancellation = max(cancellation, float(np.sqrt(point.size)))
    rounding = eps * (CLAIM_ROUNDING_ULPS * size + cancellation * trial.setting.channel_sizes)
    count = conditioning.CONDITIONING_POINTS if eps > FLOAT64.eps else 0
    points = conditioning.jitter_points(point, eps, "forward", count, move_whole_numbers=True)
    movement = conditioning.measure_shift(lambda x: np.sum(channels * jvp(x, tangents), axis=1), value, points)
    error = rounding + CLAIM_ROUNDING_ULPS * movement
    return ClaimAlongLines(value[None], error[None], rounding[None], size[None], is_combination=True)

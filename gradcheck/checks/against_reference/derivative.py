"""A second implementation that the user trusts: its value compared with the target's, its derivative as further evidence.

The target's own slopes decide what is wrong wherever they are sharp enough. A claim that agrees with them is right, whatever
the reference says: then the two functions differ, or the reference's own derivative is wrong.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.backends.program import Claim
from gradcheck.checks.against_reference.value import compare_values
from gradcheck.checks.derivative import entry_groups, probe
from gradcheck.checks.derivative.check import check_derivative
from gradcheck.checks.derivative.mode import choose_mode
from gradcheck.checks.derivative.probe_block import make_probe_comparison
from gradcheck.checks.trial_result import TrialResult
from gradcheck.compare import claimed_jacobians, method_pairs, output_scaling
from gradcheck.compare.evaluator import Evaluator
from gradcheck.compare.noise_floor import measure_setting
from gradcheck.compare.table_row import compute_resolution
from gradcheck.compare.trial import MeasuredTrial, Trial
from gradcheck.evidence import noise
from gradcheck.results import Comparison, Reason, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradcheck.backends.flat import Leaf
    from gradcheck.backends.program import Program
    from gradcheck.compare.claimed_jacobians import Jacobian
    from gradcheck.evidence.line import F64

METHOD = "reference"
# These methods only look at the function, so that what they show is independent of any claim.
NUMERICAL_METHODS = ("numeric", "complex-step", "exact", "high-precision")
# With one of these reasons the reference may decide where the target's own slopes do not.
LOW_RESOLUTION = (Reason.DULL, Reason.QUANTISED)
NON_SMOOTH = (Reason.KINK_SUBGRADIENT, Reason.TIE, Reason.STRAIGHT_THROUGH)

# A claim is identified by the order of its derivative, the leaf and the method.
ClaimKey = tuple[int, str, str]


def compare_with_reference(result: TrialResult, trial: Trial, reference: Program) -> TrialResult:
    """Add the comparison with a reference to the result of a trial.

    Args:
        result: what the check of the derivative found.
        trial: the target with its options.
        reference: the reference, bound to the same inputs.
    """
    program = trial.program
    mode = choose_mode(program, trial.options, trial.evaluator.seconds).name  # whatever confirmed the claims
    if result.stop and result.stop is not Reason.NOTHING_CLAIMED:
        return result
    trial = _measure_target(trial)
    value_rows = compare_values(trial, reference)
    same_values = all(row.verdict is Verdict.PASS for row in value_rows)
    checked_methods = {row.method for row in result.comparisons}
    checked_claims = tuple(claim for claim in program.claims if claim.method in checked_methods)
    checked = replace(program, claims=checked_claims)
    if not checked_claims:
        rows = list[Comparison]()
    elif any(claim.vjp is not None and not claim.derived for claim in reference.claims):
        rows = _compare_with_derivative(replace(trial, evaluator=Evaluator(checked, trial.recorder)), reference, mode)
    else:
        rows = _compare_with_slopes(checked, reference, trial, mode)
    rows = [_weigh(row, result.comparisons, same_values=same_values) for row in rows]
    agreements = [_compare_reference_with_slopes(row, result.comparisons) for row in rows]
    comparisons = result.comparisons
    if trial.options.straight_through and same_values:
        comparisons = tuple(_pass_as_declared(row, rows) for row in comparisons)
    return replace(result, comparisons=(*value_rows, *comparisons, *rows, *filter(None, agreements)))


def _measure_target(trial: Trial) -> MeasuredTrial:
    """Measure the noise of the target."""
    program = trial.program
    evaluator = Evaluator(program, trial.recorder.nested())
    evaluator.recorder.count()  # the primal
    second_value = evaluator(program.point)
    spread = np.zeros(second_value.shape)
    if np.any(second_value != program.value):
        spread = noise.measure_spread(lambda _: evaluator(program.point), second_value)
    setting = measure_setting(evaluator, program.value.size, trial.label, spread)
    return replace(trial, evaluator=evaluator).with_setting(setting)


def find_confirmed_claims(comparisons: Sequence[Comparison]) -> set[ClaimKey]:
    """Find the claims that the reference confirms where the resolution of the target's own slopes is too low to."""
    confirmed = {_key(row) for row in comparisons if row.against == METHOD and row.verdict is Verdict.PASS}
    decided = {_key(row) for row in comparisons if row.against in NUMERICAL_METHODS and row.reason not in LOW_RESOLUTION}
    return confirmed - decided


def _key(row: Comparison) -> ClaimKey:
    return row.order, row.wrt, row.method


# --- a reference that has a derivative


def _compare_with_derivative(trial: MeasuredTrial, reference: Program, mode: str) -> list[Comparison]:
    """Compare each claim with the derivative of the reference, entry by entry; each knows its own rounding."""
    program = trial.program
    if mode == "full":
        channels = output_scaling.choose_channels(trial.evaluator, trial.setting, trial.label)
    else:
        channels = probe.draw_cotangents(trial, trial.recorder.nested())
    trial = replace(trial, setting=replace(trial.setting, channels=channels))
    cotangents = np.eye(program.value.size) if channels is None else channels

    def evaluate_forward(claim: Claim, known_jacobian: Jacobian) -> F64:
        return entry_groups.evaluate_forward_rows(claim, program, cotangents, known_jacobian, trial.label, in_groups=True)

    claimed = claimed_jacobians.evaluate_claims(
        program, cotangents, trial.recorder.nested(), evaluate_forward if mode == "full" else None
    )
    native_claim = next(claim for claim in reference.claims if claim.vjp is not None and not claim.derived)
    trusted_claim = replace(claimed_jacobians.make_twin(native_claim) or native_claim, method=METHOD)
    trusted_rows = claimed_jacobians.evaluate_rows(trusted_claim, reference.point, cotangents)
    trusted = claimed_jacobians.jacobian_of_claim(trusted_claim, trusted_rows, reference)
    return [
        _compare_leaf(trial, leaf, jacobian, trusted, reference, cotangents) for leaf in trial.leaves for jacobian in claimed
    ]


def _compare_leaf(
    trial: MeasuredTrial, leaf: Leaf, claimed: Jacobian, trusted: Jacobian, reference: Program, cotangents: F64
) -> Comparison:
    """Compare a claim on one leaf with the derivative of the reference."""
    (judged,) = method_pairs.judge_methods(trial, [leaf], claimed, trusted, cotangents, trusted_program=reference)
    return make_probe_comparison(trial, judged, claimed, METHOD, compute_resolution(judged), entries=True)


# --- a reference that has only values


def _compare_with_slopes(program: Program, reference: Program, trial: Trial, mode: str) -> list[Comparison]:
    """Compare the claims with slopes of the reference."""
    derivative_options = replace(
        trial.options, checks=(), optimizer=None, partners=(), contracts=False, contract=(), mode=mode, stories=False
    )
    claims = tuple(replace(claim, optional=True) for claim in program.claims if not claim.derived)
    claimed_reference = replace(reference, claims=claims).with_capabilities(layer=None)
    evaluator = Evaluator(claimed_reference, trial.recorder.nested())
    result = check_derivative(Trial(evaluator, derivative_options, trial.label, trial.number))
    return [replace(row, against=METHOD) for row in result.comparisons if row.against in NUMERICAL_METHODS]


# --- what a disagreement means


def _weigh(row: Comparison, comparisons: Sequence[Comparison], *, same_values: bool) -> Comparison:
    """Keep a FAIL if the target's own slopes agree with it or are too coarse for the error; else make it INCONCLUSIVE.

    Args:
        row: a claim compared with the reference.
        comparisons: the rows of the target's own check.
        same_values: whether the target and the reference have the same value.
    """
    by_slopes = [other for other in comparisons if _key(other) == _key(row) and other.against in NUMERICAL_METHODS]
    if row.verdict is not Verdict.FAIL or any(other.verdict is Verdict.FAIL for other in by_slopes):
        return row
    passed = [other for other in by_slopes if other.verdict is Verdict.PASS]
    if passed:
        sharp = min(other.resolution for other in passed) <= row.rel_err
        slopes_too_coarse = not (sharp or any(other.reason in NON_SMOOTH for other in passed))
        reason = Reason.REFERENCE_DIFFERS
    else:
        slopes_too_coarse = not by_slopes or any(other.reason in LOW_RESOLUTION for other in by_slopes)
        reason = Reason.METHODS_DISAGREE
    if same_values and slopes_too_coarse:
        return row
    return replace(row, verdict=Verdict.INCONCLUSIVE, reason=reason, where=None, diagnosis=None)


def _pass_as_declared(row: Comparison, reference_rows: Sequence[Comparison]) -> Comparison:
    """Pass a claim that differs from the slopes if the reference confirms it and straight-through estimators are declared.

    The slopes do not show what such an estimator does to a formula around it, such as the step size of a quantiser.
    """
    by_reference = [other for other in reference_rows if _key(other) == _key(row)]
    confirmed = bool(by_reference) and all(other.verdict is Verdict.PASS for other in by_reference)
    if row.verdict is Verdict.PASS or row.against not in NUMERICAL_METHODS or not confirmed:
        return row
    return replace(row, verdict=Verdict.PASS, reason=Reason.STRAIGHT_THROUGH, where=None, diagnosis=None)


def _compare_reference_with_slopes(row: Comparison, comparisons: Sequence[Comparison]) -> Comparison | None:
    """Compare the reference with the target's own slopes at an entry where a claim contradicts both.

    Returns:
        A row that says they agree; None if there is no such entry, or if they do not agree.
    """
    by_slopes = next((other for other in comparisons if _key(other) == _key(row) and other.against == "numeric"), None)
    if by_slopes is None or not (by_slopes.where and row.where) or "probe" in (by_slopes.mode, row.mode):
        return None
    by_reference = {(wrong.entry, wrong.output): wrong for wrong in row.where.entries}
    for slope in by_slopes.where.entries:
        trusted = by_reference.get((slope.entry, slope.output))
        if trusted is not None:
            break
    else:
        return None
    size = max(abs(slope.estimate), abs(trusted.estimate))
    difference, bound = abs(slope.estimate - trusted.estimate), slope.bound + trusted.bound
    if not difference <= bound + row.rtol * size:
        return None
    return replace(
        row,
        method=METHOD,
        against="numeric",
        verdict=Verdict.PASS,
        reason=Reason.AGREES,
        output=slope.output,
        claimed=trusted.estimate,
        estimate=slope.estimate,
        bound=bound,
        abs_err=difference,
        max_abs_err=None,
        rel_err=difference / size if size else 0.0,
        resolution=(difference + bound) / size if size else float("nan"),
        worst_entry=slope.entry,
        diagnosis=None,
        where=None,
        story=None,
        picture=None,
        self_test=None,
    )

"""A claim in a lower precision, compared with its twin in float64, which is the one that is proved.

The evidence judges the twin, at a high resolution. Here the only question is whether the claim in its native dtype is the
rounded value of the twin, so a generous allowance for rounding can hide no wrong formula.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.compare import claims_along_lines, conditioning, dtype_range, method_pairs, output_scaling, ulp_error
from gradcheck.compare.evaluator import Evaluator
from gradcheck.compare.judge import JudgedLeaf, judge_and_refine
from gradcheck.compare.noise_floor import measure_setting
from gradcheck.verdict.facts import Fact
from gradcheck.verdict.interval import Code

if TYPE_CHECKING:
    from gradcheck.backends.flat import Leaf
    from gradcheck.compare.claimed_jacobians import Jacobian
    from gradcheck.compare.trial import MeasuredTrial
    from gradcheck.evidence.line import F64


def compare_with_twin(trial: MeasuredTrial, leaf: Leaf, jacobian: Jacobian, cotangents: F64) -> JudgedLeaf:
    """Compare a claim with its twin, entry by entry; where they differ, differences in the claim's own dtype decide.

    A function may depend on the dtype it is given: by an epsilon, a rounded constant, or a kink between two floats. Then both
    claims are right about different functions, and the comparison is INCONCLUSIVE. In half precision that is left to the check
    of accuracy against a plain implementation, so here an entry fails only if it is certainly wrong, and passes otherwise.
    """
    judged = _compare_entries(trial, leaf, jacobian, cotangents)
    if not trial.program.half:
        return judged
    claim = judged.sides.claim
    # The check of accuracy reports overflow and underflow.
    out_of_range = ~np.isfinite(claim) | ((claim == 0) & (jacobian.eps in ulp_error.SHORT_RANGE))
    wrong = (judged.code == Code.FAIL) & ~out_of_range
    return judged.with_fact(Fact.ACCURACY_JUDGED_APART, ~wrong)


def _compare_entries(trial: MeasuredTrial, leaf: Leaf, jacobian: Jacobian, cotangents: F64) -> JudgedLeaf:
    twin, rtol = jacobian.twin, trial.rtol_of(jacobian.eps)
    assert twin is not None
    slopes = output_scaling.compute_output_slopes(trial.program, trial.setting, jacobian.eps)
    floor = method_pairs.CANCELLATION_ULPS * jacobian.eps * slopes
    claimed = replace(jacobian, error=jacobian.error + floor)
    judged = method_pairs.compare_jacobians(leaf, claimed, twin, rtol, demanded=trial.rtol_is_given)
    movement: F64 | float = 0.0
    if np.any(judged.code == Code.FAIL if trial.program.half else judged.code != Code.PASS):
        claimed = conditioning.with_conditioning(claimed, trial.program, cotangents)
        twin = conditioning.with_conditioning(twin, trial.program, cotangents)
        judged = method_pairs.compare_jacobians(leaf, claimed, twin, rtol, demanded=trial.rtol_is_given)
        if np.any(judged.code != Code.PASS) and twin.claim is not None and not trial.rtol_is_given:
            in_native_dtype = replace(twin, eps=jacobian.eps)  # of the derivative itself, not of the code that claims it
            movement = conditioning.measure_movement(in_native_dtype, trial.program, cotangents)[:, leaf.span]
    # The twin is proved. This dtype can show no more than the last bits of the outputs, and what rounding the inputs does.
    judged = method_pairs.mark_last_bits(judged, floor[:, leaf.span], movement)
    out_of_range = dtype_range.mark_out_of_range(twin.values[:, leaf.span], leaf.dtype)
    judged = dtype_range.mark_non_finite(judged, out_of_range, Fact.TOO_LARGE_FOR_DTYPE)
    wrong = judged.code == Code.FAIL
    if np.any(wrong) and not _is_wrong_in_native_dtype(trial, leaf, claimed, judged, rtol):
        return judged.with_fact(Fact.DTYPE_DIFFERS, wrong)
    return judged


def _is_wrong_in_native_dtype(trial: MeasuredTrial, leaf: Leaf, jacobian: Jacobian, judged: JudgedLeaf, rtol: float) -> bool:
    """Whether the worst entry is also wrong about the function as it is in the claim's own dtype."""
    evaluate_native = trial.program.capabilities.evaluate_native
    if evaluate_native is None:
        return True
    difference = np.where(judged.code == Code.FAIL, np.nan_to_num(judged.sides.difference, nan=np.inf), -1.0)
    channel, i = (int(k) for k in np.unravel_index(int(np.argmax(difference)), difference.shape))
    value = evaluate_native(trial.program.point)
    program = replace(trial.program, evaluate=evaluate_native, eps=jacobian.eps, value=value)
    trial.recorder.count()
    evaluator = Evaluator(program, trial.recorder)
    setting = measure_setting(evaluator, 1, trial.label, np.zeros(program.value.shape))
    row = slice(channel, channel + 1)
    channels = np.eye(program.value.size)[row] if trial.setting.channels is None else trial.setting.channels[row]
    places = np.array([i])
    estimates = claims_along_lines.estimate_entries(evaluator, replace(setting, channels=channels), leaf, places)
    one_row = replace(jacobian, values=jacobian.values[row], error=jacobian.error[row], rounding=jacobian.rounding[row])
    claim = claims_along_lines.claim_along_entries(estimates, one_row, places)
    confirmed = judge_and_refine(estimates, claim, rtol, demanded=trial.rtol_is_given)
    return bool(confirmed.code[0, 0] == Code.FAIL)

"""One claim along one direction that moves every input at once, compared with the evidence along that direction."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.backends.flat import Leaf
from gradcheck.compare import claimed_jacobians, conditioning
from gradcheck.compare.claims_along_lines import claim_along_tangents
from gradcheck.compare.estimates import estimate_lines
from gradcheck.compare.judge import judge_and_refine
from gradcheck.compare.output_scaling import measure_output_scales
from gradcheck.evidence import directions
from gradcheck.results import Reason, Verdict
from gradcheck.seeds import make_generator
from gradcheck.verdict.interval import VERDICTS, Code, choose_reason

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradcheck.backends.program import Claim, Program
    from gradcheck.compare.claimed_jacobians import Jacobian
    from gradcheck.compare.judge import JudgedLeaf
    from gradcheck.compare.trial import MeasuredTrial
    from gradcheck.evidence.line import F64

# The derivative that the user wrote comes first.
METHODS_BY_PRIORITY = ("analytic", "reverse", "forward")


@dataclass(frozen=True)
class JudgedDirection:
    """A claim along a direction, compared with the evidence.

    Attributes:
        claimed: the claimed derivative along the direction.
        estimate: the estimated derivative along the direction.
        bound: how far the two may be apart although both are right.
        verdict: the outcome of the comparison.
        reason: why the verdict is what it is.
        change: t -> phi(t) - phi(0), in float64.
        noise: the noise of such a change, as the bounds allow for it.
    """

    claimed: float
    estimate: float
    bound: float
    verdict: Verdict
    reason: Reason
    change: Callable[[float], float]
    noise: float


def choose_main_claim(program: Program) -> Claim | None:
    """Choose the claim that optional checks look at: the hand-written one if there is one, else automatic differentiation."""
    return min(program.claims, key=lambda claim: METHODS_BY_PRIORITY.index(claim.method), default=None)


def draw_tangent(trial: MeasuredTrial, name: str, *more: object) -> F64:
    """Draw a Gaussian tangent that moves every leaf at once, (N,); `name` and what follows name its random stream."""
    program = trial.program
    streams = [make_generator(0, name, trial.label, leaf.path, *more) for leaf in program.leaves]
    parts = [
        directions.draw_dense(rng, program.point[leaf.span], program.eps)
        for rng, leaf in zip(streams, program.leaves, strict=True)
    ]
    return np.concatenate(parts)


def choose_cotangent(trial: MeasuredTrial) -> F64:
    """Choose the combination of the outputs that is looked at, (1, M): the output itself if it is a single number."""
    if trial.program.value.size == 1:
        return np.ones((1, 1))
    scales = measure_output_scales(trial.evaluator, trial.setting, trial.label)
    return scales.draw_cotangent(make_generator(0, "combination", trial.label))[None]


def evaluate_gradient(trial: MeasuredTrial, claim: Claim, cotangents: F64) -> Jacobian:
    """Evaluate the gradient that a claim gives, in the precision of the evaluation.

    Raises:
        Unavailable: if the claim is not available.
    """
    precise = claimed_jacobians.make_twin(claim) or claim
    rows = claimed_jacobians.evaluate_rows(precise, trial.program.point, cotangents)
    return claimed_jacobians.jacobian_of_claim(precise, rows, trial.program)


def compare_along(trial: MeasuredTrial, claim: Claim, jacobian: Jacobian, cotangents: F64, tangent: F64) -> JudgedDirection:
    """Compare the gradient that a claim gives with the evidence along a direction.

    Args:
        claim: the claim, whose dtype sets the relative error that matters.
        jacobian: the claim's derivatives, in a single row.
        cotangents: the combination of the outputs, (1, M).
        tangent: the direction, (N,).
    """
    program, rtol = trial.program, trial.rtol_of(claim.eps)
    whole_input = Leaf("inputs", program.point.shape, "float64", 0)
    setting = replace(trial.setting, channels=cotangents)
    phi = trial.evaluator.line(tangent)
    estimates = estimate_lines(whole_input, [phi], [setting], program.eps)

    def judge(jacobian: Jacobian) -> JudgedLeaf:
        claim_along_line = claim_along_tangents(jacobian, whole_input.span, tangent[None])
        return judge_and_refine(estimates, claim_along_line, rtol, demanded=trial.rtol_is_given)

    judged = judge(jacobian)
    if judged.code[0, 0] != Code.PASS or judged.doubtful[0, 0]:
        judged = judge(conditioning.with_conditioning(jacobian, program, cotangents))
    sides, remark = judged.sides, judged.remark[0, 0]
    claimed, estimate, bound = float(sides.claim[0, 0]), float(sides.value[0, 0]), float(sides.uncertainty[0, 0])
    verdict = VERDICTS[int(judged.code[0, 0])]
    reason = choose_reason(verdict, claimed, estimate, bound, remark)
    if remark in (Reason.KINK_SUBGRADIENT, Reason.OUTSIDE_KINK):  # no linear map is the differential of a kink
        verdict, reason = (verdict if verdict is Verdict.FAIL else Verdict.INCONCLUSIVE), remark

    def change(t: float) -> float:
        return float(setting.contract(phi(t) - program.value)[0])

    noise = setting.slack * float(setting.contract_noise(np.maximum(setting.total_noise, setting.half_ulp(program.value)))[0])
    return JudgedDirection(claimed, estimate, bound, verdict, reason, change, noise)

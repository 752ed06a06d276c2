"""Contract `linear-vjp`: the vjp is linear in its cotangent. A backward that ignores its cotangent may be right for some.

Contract `upstream` says the same of the cotangent that a model sends back, with a random one of its size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial

import numpy as np

from gradcheck.backends.flat import EPS, Leaf
from gradcheck.backends.program import Claim, Unavailable
from gradcheck.compare import claimed_jacobians, conditioning, internal_precision, output_scaling
from gradcheck.compare.identity import bound_round_off, explain_by_precision, explain_by_shift, find_unexplained
from gradcheck.compare.noise_floor import measure_setting
from gradcheck.compare.output_scaling import OutputScales, measure_output_scales
from gradcheck.compare.trial import MeasuredTrial
from gradcheck.errors import TargetError
from gradcheck.evidence import directions
from gradcheck.evidence.line import F64
from gradcheck.results import Contract, Verdict
from gradcheck.seeds import make_generator

NAME, UPSTREAM = "linear-vjp", "upstream"


def check_vjp_linearity(
    trial: MeasuredTrial, names: Sequence[str], *, coarse: bool, scales: OutputScales | None = None
) -> list[Contract]:
    """Compare each claimed vjp of a random combination of two cotangents, and of its opposite, with that of their vjps.

    No differences are taken: only rounding can make the two differ.

    Args:
        names: the contracts to check: `linear-vjp` for random cotangents, `upstream` for the one that a model sends back.
        coarse: the function's values come in steps that hide the evidence, which means that lower precision is used inside.
        scales: the scaling of the outputs, if it is known.
    """
    if not names:
        return []
    scaling, program = scales or measure_output_scales(trial.evaluator, trial.setting, trial.label), trial.program
    rng = make_generator(0, "linear", trial.label)
    cotangents, weights = np.stack([scaling.draw_cotangent(rng) for _ in range(2)]), rng.uniform(0.5, 2.0, 2)
    claims = [claim for claim in program.claims if claim.vjp is not None and not (claim.derived or claim.linear)]
    pairs = {NAME: cotangents}
    if program.capabilities.upstream is not None:
        upstream = program.capabilities.upstream
        pairs[UPSTREAM] = np.stack([upstream, directions.compute_leaf_scale(upstream) * cotangents[1]])
    contracts = [_check_claim(trial, claim, pairs[name], weights, name, coarse=coarse) for name in names for claim in claims]
    return [contract for contract in contracts if contract is not None]


def _check_claim(
    trial: MeasuredTrial, claim: Claim, cotangents: F64, weights: F64, name: str, *, coarse: bool
) -> Contract | None:
    """Check one claim at weighted cotangents (2, M); None if the vjp cannot be computed, which is reported elsewhere."""
    assert claim.vjp is not None
    program = trial.program
    try:
        combination = weights @ cotangents
        unit = _normalising_power(combination, claim.eps)
        *vjps, opposite, combined = claim.vjp(program.point, np.vstack([cotangents, -unit * combination, combination]))
    except (Unavailable, TargetError):
        return None
    rows = np.stack(vjps)
    terms = weights[:, None] * rows
    eps = max(claim.eps, *(EPS[leaf.dtype] for leaf in program.outputs))
    opposite = opposite / unit  # a power of two: the rounding is the same, whatever cancels
    size = np.abs(terms).sum(axis=0)
    errors = np.abs(np.stack([combined - terms.sum(axis=0), combined + opposite]))
    errors = np.nan_to_num(errors, nan=0.0, posinf=0.0)  # what is not finite decides nothing here
    setting = replace(trial.setting, channels=np.abs(weights[:, None] * cotangents).sum(axis=0)[None])
    # Terms as large as the outputs may cancel in a derivative.
    (slopes,) = output_scaling.compute_output_slopes(program, setting, eps)

    @cache
    def measure_cancelled_slopes() -> F64:
        """So may larger ones that cancel in an output which is nothing but rounding, (N,)."""
        sizes = measure_setting(trial.evaluator, 1, trial.label, np.zeros(program.value.size)).term_sizes
        assert sizes is not None
        cancelled = replace(setting, term_sizes=np.where(sizes > np.abs(program.value), sizes, 0.0))
        return np.asarray(output_scaling.compute_output_slopes(program, cancelled, eps)[0])

    jacobian = claimed_jacobians.jacobian_of_claim(claim, rows, program)
    tolerance = partial(internal_precision.measure_internal_tolerance, trial, coarse=coarse)
    # The vjp may consist of rounding only, for example if it is zero by cancellation.
    shifts = [
        cache(lambda measure=measure: weights @ measure(jacobian, program, cotangents))
        for measure in (conditioning.measure_movement, conditioning.measure_full_conditioning)
    ]
    for leaf in trial.leaves:
        largest, subnormal_unit = float(np.max(size[leaf.span], initial=0.0)), min(1.0, float(unit))
        sign_rounding = bound_round_off(eps, largest * subnormal_unit) / subnormal_unit
        sum_rounding = sign_rounding + bound_round_off(eps, np.max(slopes[leaf.span], initial=0.0))
        worst = find_unexplained(
            errors[:, leaf.span],
            trial.rtol_of(eps) * largest + np.array([[sum_rounding], [sign_rounding]]),
            *(explain_by_shift(shift, leaf.span, largest=True) for shift in shifts),
            partial(_bound_cancelled_terms, measure_cancelled_slopes, leaf, eps),
            explain_by_precision(tolerance, largest),
        )
        if worst is not None:
            entry = leaf.start + worst % (leaf.span.stop - leaf.start)
            values = combined[entry], terms[:, entry].sum(), -opposite[entry]
            return Contract(name, Verdict.FAIL, _describe_breach(claim, leaf.entry(entry), values, name))
    return Contract(name, Verdict.PASS, f"{claim.method}: the vjp of a sum of cotangents is the sum of their vjps")


def _bound_cancelled_terms(measure_slopes: Callable[[], F64], leaf: Leaf, eps: float) -> F64:
    """Bound what terms that cancel leave in a sum of vjps, (2, 1); the vjp of the opposite rounds as that of the cotangent."""
    return np.array([[bound_round_off(eps, np.max(measure_slopes()[leaf.span], initial=0.0))], [0.0]])


def _normalising_power(cotangent: F64, eps: float) -> float:
    """Return the power of two that brings a cotangent to about size 1, the size at which backwards are used in practice.

    It is 1 if that would make the smallest parts of the cotangent subnormal.
    """
    power = float(2.0 ** -np.round(np.log2(directions.compute_leaf_scale(cotangent))))
    smallest = np.min(np.abs(cotangent), where=cotangent != 0, initial=np.inf)
    return power if smallest * power >= directions.smallest_subnormal(eps) / eps else 1.0


def _describe_breach(claim: Claim, entry: str, values: tuple[float, float, float], name: str) -> str:
    combined, added, negated = (f"{value:.6g}" for value in values)
    which = "the cotangent that the model sends back" if name == UPSTREAM else "its cotangent"
    return (
        f"the {claim.method} vjp is not linear in {which}: at {entry} it is {combined} for a sum of cotangents, but"
        f" {added} as the sum of their vjps, and {negated} as minus the vjp of the negated sum; does the backward use the"
        " cotangent that it receives?"
    )

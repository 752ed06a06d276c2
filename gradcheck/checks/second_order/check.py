"""Second derivatives: the derivative of a vjp compared with differences of it, and their symmetry."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.backends.program import Unavailable
from gradcheck.backends.views import zero_outputs
from gradcheck.checks.derivative.check import check_derivative
from gradcheck.checks.second_order import double_adjoint, hessian_symmetry
from gradcheck.checks.trial_result import TrialResult
from gradcheck.compare import internal_precision
from gradcheck.compare.evaluator import Evaluator
from gradcheck.compare.noise_floor import draw_gaussian_tangent
from gradcheck.compare.output_scaling import CANCELLED_SIZE_POWER, measure_scales_along
from gradcheck.compare.trial import Trial
from gradcheck.evidence import directions, noise
from gradcheck.results import Reason, Verdict
from gradcheck.seeds import make_generator

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gradcheck.backends.flat import F64
    from gradcheck.backends.program import Program
    from gradcheck.options import Options
    from gradcheck.results import Contract

# This check compares derivatives of this order.
SECOND_ORDER = 2
FIRST_WRONG_NOTE = "second derivatives not checked: the first derivatives are wrong"
NO_VJP = "there is no derivative by automatic differentiation (reverse) to differentiate again"
ROUNDING_NOTE = "{} numbers of {} are zero up to rounding and not compared"
SECOND_ORDER_NOTE = "second derivatives: {}"
# A gradient larger than this many units in the last place of the largest gradient is not rounding alone.
MAX_CANCELLED_ULPS = 2.0**20
# A gradient larger than this many times the standard deviation of the noise is not rounding alone.
MAX_ROUNDING_TO_NOISE = 16.0
# At these displacements, in units of t, a gradient that is rounding must be as small as at the primal.
ROUNDING_CHECK_STEPS = (2.0**-6, -(2.0**-6))
# The rounding of a gradient is never assumed to be less than this share of its leaf's largest gradient.
MIN_GRADIENT_ROUNDING = 2.0**-24


def check_second_order(first: TrialResult, trial: Trial) -> TrialResult:
    """Add the check of second derivatives to the result of a trial; they are not checked if the first ones are wrong.

    Args:
        first: the result of the check of first derivatives.
        trial: the program that was checked, with its options.
    """
    program, options, label = trial.program, trial.options, trial.label
    if first.stop:
        return first
    any_wrong = any(row.verdict is Verdict.FAIL for row in first.comparisons)
    if any_wrong or any(c.name == "linear-vjp" and c.verdict is Verdict.FAIL for c in first.contracts):
        return replace(first, notes=(*first.notes, FIRST_WRONG_NOTE))
    # A method that drops tangents or cannot be traced does so for second derivatives too.
    usable_methods = {row.method for row in first.comparisons}
    try:
        if program.capabilities.gradient_program is None:
            raise Unavailable(NO_VJP)
        evaluator = Evaluator(program, trial.recorder)
        cotangent, adjoint_cotangent = _draw_cotangents(evaluator, label)
        gradient_program = program.capabilities.gradient_program(cotangent)
        claims = tuple(claim for claim in gradient_program.claims if claim.method in usable_methods)
        if not claims:
            raise Unavailable(NO_VJP)
    except Unavailable as why:
        return replace(first, stop=Reason.ONCE_DIFFERENTIABLE, message=SECOND_ORDER_NOTE.format(why))
    rounding = _bound_gradient_rounding(gradient_program, first)
    claimed_program = replace(gradient_program, claims=claims, value_rounding=rounding)
    second_label = f"{label}/{SECOND_ORDER}"
    second = _check_gradient_program(Trial(Evaluator(claimed_program, trial.recorder), options, second_label, trial.number))
    contracts: list[Contract] = []
    if not (second.stop or internal_precision.may_be_internal_rounding([*first.comparisons])):
        contracts = _check_cotangent_derivative(evaluator, gradient_program, options, label, adjoint_cotangent)
    first = replace(first, contracts=(*first.contracts, *contracts))
    return _merge_orders(first, second)


def _check_cotangent_derivative(
    evaluator: Evaluator, gradient_program: Program, options: Options, label: str, cotangent: F64
) -> list[Contract]:
    if not options.tries(double_adjoint.NAME) or gradient_program.capabilities.cotangent_jvp is None:
        return []
    return [double_adjoint.check_double_adjoint(evaluator, gradient_program, options, label, cotangent)]


def _bound_gradient_rounding(gradient_program: Program, first: TrialResult) -> F64 | None:
    """Bound the rounding of the gradients, (N,), by the resolution of the first derivatives; None if one did not pass."""
    if any(row.verdict is not Verdict.PASS for row in first.comparisons):
        return None
    resolution = max((row.resolution for row in first.comparisons if not np.isnan(row.resolution)), default=0.0)
    outputs = gradient_program.outputs
    largest = [np.max(np.abs(gradient_program.value[leaf.span]), initial=0.0) for leaf in outputs]
    return max(resolution, MIN_GRADIENT_ROUNDING) * np.repeat(largest, [leaf.entries * leaf.width for leaf in outputs])


def _draw_cotangents(evaluator: Evaluator, label: str) -> F64:
    """Draw two random combinations of the outputs, (2, M), in numbers that float32 holds; ones for a single number."""
    program = evaluator.program
    if program.value.size == 1:
        return np.ones((2, 1))
    tangent = draw_gaussian_tangent(program, make_generator(0, "second outlook", label))
    output_scales = measure_scales_along(program, evaluator.line(tangent))
    leaf_scales = np.concatenate(
        [
            np.full(leaf.entries * leaf.width, directions.compute_leaf_scale(program.value[leaf.span]))
            for leaf in program.outputs
        ]
    )
    least_scales = program.eps**CANCELLED_SIZE_POWER * leaf_scales
    output_scales = replace(output_scales, scales=np.maximum(output_scales.scales, least_scales))
    streams = ("second", "double adjoint")
    cotangents = [output_scales.draw_cotangent(make_generator(0, stream, label)) for stream in streams]
    return np.stack(cotangents).astype(np.float32).astype(np.float64)


def _check_gradient_program(trial: Trial) -> TrialResult:
    """Check the derivative of a vjp like that of any function, and its symmetry."""
    program, evaluator, options, label = trial.program, trial.evaluator, trial.options, trial.label
    is_rounding = _find_rounding_alone(evaluator, label)
    evaluator.program = zero_outputs(program, is_rounding) if is_rounding.any() else program
    derivative_options = replace(options, checks=(), optimizer=None, partners=())
    nonzero_outputs = Evaluator(evaluator.program, trial.recorder.nested())
    result = check_derivative(replace(trial, evaluator=nonzero_outputs, options=derivative_options))
    contracts = [
        replace(contract, message=SECOND_ORDER_NOTE.format(contract.message))
        for contract in result.contracts
        if contract.verdict is not Verdict.PASS
    ]
    # A straight-through estimator is no gradient, so its derivative need not be symmetric.
    if not (result.stop or options.straight_through) and options.tries(hessian_symmetry.NAME):
        contracts.append(hessian_symmetry.check_hessian_symmetry(evaluator, options, label, ~is_rounding))
    notes = [
        ROUNDING_NOTE.format(np.sum(is_rounding[leaf.span]), leaf.path)
        for leaf in program.outputs
        if is_rounding[leaf.span].any()
    ]
    return replace(result, contracts=tuple(contracts), notes=(*result.notes, *notes))


def _find_rounding_alone(evaluator: Evaluator, label: str) -> NDArray[np.bool_]:
    """Mark the gradients that are zero but for what rounding leaves of terms that cancel, (M,): their differences are noise.

    An example is the gradient of the bias before a batch norm, which takes the bias out again. Such gradients stay as small
    far from the primal.
    """
    program = evaluator.program
    scales = np.concatenate([directions.compute_entry_scales(program.point[leaf.span]) for leaf in program.leaves])
    phi = evaluator.line(draw_gaussian_tangent(program, make_generator(0, "rounding alone", label)))
    largest = np.abs(program.value)
    for t in ROUNDING_CHECK_STEPS:
        largest = np.maximum(largest, np.abs(phi(t)))
    largest *= scales
    small = largest <= MAX_CANCELLED_ULPS * program.eps * np.max(largest, initial=0.0)
    if not small.any() or not np.all(np.isfinite(largest)):
        return np.zeros(small.shape, dtype=bool)
    finest_step, positions = directions.finest_step(program.eps), np.flatnonzero(small)
    small_noise = noise.measure_noise(
        lambda t: phi(t)[positions], program.value[positions], finest_step, program.eps, spacings=1
    )
    noise_level = np.zeros(small.shape)
    noise_level[positions] = small_noise * scales[positions]
    for leaf in program.outputs:
        # A few evaluations say little about the noise of a single number, so its leaf's largest counts.
        noise_level[leaf.span] = np.max(noise_level[leaf.span], initial=0.0)
    return np.asarray(small & (noise_level > 0) & (largest <= MAX_ROUNDING_TO_NOISE * noise_level))


def _merge_orders(first: TrialResult, second: TrialResult) -> TrialResult:
    """Join the results of both orders; a note that both have is kept once."""
    notes = [SECOND_ORDER_NOTE.format(note) for note in second.notes if note not in first.notes]
    return replace(
        first,
        comparisons=(*first.comparisons, *(replace(row, order=SECOND_ORDER) for row in second.comparisons)),
        contracts=(*first.contracts, *second.contracts),
        partials=(*first.partials, *second.partials),
        notes=(*first.notes, *notes),
        details=(*first.details, *second.details),
        stop=second.stop,
        message=SECOND_ORDER_NOTE.format(second.message or second.stop.message) if second.stop else "",
    )

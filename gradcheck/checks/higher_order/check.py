"""Second and third derivatives: the derivative of a vjp compared with differences of it, and its symmetry."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.backends.flat import repeat_per_number
from gradcheck.backends.program import Unavailable
from gradcheck.backends.views import zero_outputs
from gradcheck.checks.derivative.check import check_derivative
from gradcheck.checks.higher_order import double_adjoint, hessian_symmetry
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
    from gradcheck.results import Contract

ORDER_NAMES = {2: "second", 3: "third"}
LOWER_WRONG_NOTE = "{} derivatives not checked: the {} derivatives are wrong"
NO_VJP = "there is no derivative by automatic differentiation (reverse) to differentiate again"
ROUNDING_NOTE = "{} numbers of {} are zero up to rounding and not compared"
# A gradient larger than this many units in the last place of the largest gradient is not rounding alone.
MAX_CANCELLED_ULPS = 2.0**20
# A gradient larger than this many times the standard deviation of the noise is not rounding alone.
MAX_ROUNDING_TO_NOISE = 16.0
# At these displacements, in units of t, a gradient that is rounding must be as small as at the primal.
ROUNDING_CHECK_STEPS = (2.0**-6, -(2.0**-6))
# The rounding of a gradient is never assumed to be less than this share of its leaf's largest gradient.
MIN_GRADIENT_ROUNDING = 2.0**-24


def check_higher_orders(first: TrialResult, trial: Trial) -> TrialResult:
    """Add the checks of second derivatives, and of third ones if they are requested, to the result of a trial.

    A gradient is a function again, so its derivative is checked as that of any function. No order is checked if the one below
    is wrong.

    Args:
        first: the result of the check of first derivatives.
        trial: the program that was checked, with its options.
    """
    lower = _CheckedOrder(1, trial, first, np.zeros(trial.program.value.shape, dtype=bool))
    result = first
    while lower.order < trial.options.order and not lower.result.stop:
        order = lower.order + 1
        name = ORDER_NAMES[order]
        if lower.is_wrong:
            note = LOWER_WRONG_NOTE.format(name, ORDER_NAMES.get(lower.order, "first"))
            return replace(result, notes=(*result.notes, note))
        try:
            higher = _check_order(lower, order)
        except Unavailable as why:
            return replace(result, stop=Reason.ONCE_DIFFERENTIABLE, message=f"{name} derivatives: {why}")
        result = _merge_orders(result, higher.result, order)
        lower = higher
    return result


@dataclass(frozen=True)
class _CheckedOrder:
    """The derivatives of one order, checked.

    Attributes:
        order: 1 for first derivatives.
        trial: the program whose derivatives they are, with its options.
        result: what the check found.
        is_rounding: the outputs of the program that are zero but for rounding, (M,).
    """

    order: int
    trial: Trial
    result: TrialResult
    is_rounding: NDArray[np.bool_]

    @property
    def is_wrong(self) -> bool:
        """Whether a derivative is wrong, or a vjp is not linear."""
        any_wrong = any(row.verdict is Verdict.FAIL for row in self.result.comparisons)
        return any_wrong or any(c.name == "linear-vjp" and c.verdict is Verdict.FAIL for c in self.result.contracts)


def _check_order(lower: _CheckedOrder, order: int) -> _CheckedOrder:
    """Check the derivatives of the next order: those of the vjp of a random cotangent.

    Raises:
        Unavailable: if the vjp cannot be differentiated.
    """
    trial, options = lower.trial, lower.trial.options
    program, label = trial.program, trial.label
    if program.capabilities.gradient_program is None:
        raise Unavailable(NO_VJP)
    evaluator = Evaluator(program, trial.recorder)
    cotangent, adjoint_cotangent = np.where(lower.is_rounding, 0.0, _draw_cotangents(evaluator, label))
    gradient_program = program.capabilities.gradient_program(cotangent)
    # A method that drops tangents or cannot be traced does so for higher derivatives too.
    usable_methods = {row.method for row in lower.result.comparisons}
    claims = tuple(claim for claim in gradient_program.claims if claim.method in usable_methods)
    if not claims:
        raise Unavailable(NO_VJP)
    rounding = _bound_gradient_rounding(gradient_program, lower.result)
    claimed_program = replace(gradient_program, claims=claims, value_rounding=rounding)
    gradient_trial = Trial(Evaluator(claimed_program, trial.recorder), options, f"{label}/{order}", trial.number)
    is_rounding = _find_rounding_alone(gradient_trial.evaluator, gradient_trial.label)
    result = _check_gradient_program(gradient_trial, is_rounding)
    contracts = list(result.contracts)
    if not (result.stop or internal_precision.may_be_internal_rounding([*lower.result.comparisons])):
        contracts += _check_cotangent_derivative(replace(trial, evaluator=evaluator), gradient_program, adjoint_cotangent)
    named = (_name_order(contract, order) for contract in contracts)
    result = replace(result, contracts=tuple(named))
    return _CheckedOrder(
        order, replace(gradient_trial, evaluator=Evaluator(claimed_program, trial.recorder)), result, is_rounding
    )


def _check_cotangent_derivative(trial: Trial, gradient_program: Program, cotangent: F64) -> list[Contract]:
    has_reverse = any(claim.method == "reverse" for claim in trial.program.claims)
    if not (has_reverse and trial.options.tries(double_adjoint.NAME)) or gradient_program.capabilities.cotangent_jvp is None:
        return []
    return [double_adjoint.check_double_adjoint(trial, gradient_program, cotangent)]


def _bound_gradient_rounding(gradient_program: Program, first: TrialResult) -> F64 | None:
    """Bound the rounding of the gradients, (N,), by the resolution of the first derivatives; None if one did not pass."""
    if any(row.verdict is not Verdict.PASS for row in first.comparisons):
        return None
    resolution = max((row.resolution for row in first.comparisons if not np.isnan(row.resolution)), default=0.0)
    outputs = gradient_program.outputs
    largest = [np.max(np.abs(gradient_program.value[leaf.span]), initial=0.0) for leaf in outputs]
    return max(resolution, MIN_GRADIENT_ROUNDING) * repeat_per_number(largest, outputs)


def _draw_cotangents(evaluator: Evaluator, label: str) -> F64:
    """Draw two random combinations of the outputs, (2, M), in numbers that float32 holds; ones for a single number."""
    program = evaluator.program
    if program.value.size == 1:
        return np.ones((2, 1))
    tangent = draw_gaussian_tangent(program, make_generator(0, "second outlook", label))
    output_scales = measure_scales_along(program, evaluator.line(tangent))
    scales = [directions.compute_leaf_scale(program.value[leaf.span]) for leaf in program.outputs]
    leaf_scales = repeat_per_number(scales, program.outputs)
    least_scales = program.eps**CANCELLED_SIZE_POWER * leaf_scales
    output_scales = replace(output_scales, scales=np.maximum(output_scales.scales, least_scales))
    streams = ("second", "double adjoint")
    cotangents = [output_scales.draw_cotangent(make_generator(0, stream, label)) for stream in streams]
    return np.stack(cotangents).astype(np.float32).astype(np.float64)


def _name_order(contract: Contract, order: int) -> Contract:
    """Say in the message of a contract that is not a plain PASS which derivatives it is about."""
    if contract.verdict is Verdict.PASS:
        return contract
    return replace(contract, message=f"{ORDER_NAMES[order]} derivatives: {contract.message}")


def _check_gradient_program(trial: Trial, is_rounding: NDArray[np.bool_]) -> TrialResult:
    """Check the derivative of a vjp like that of any function, and its symmetry.

    Args:
        is_rounding: the gradients that are zero but for rounding, (M,), which are not compared.
    """
    program, evaluator, options = trial.program, trial.evaluator, trial.options
    evaluator.program = zero_outputs(program, is_rounding) if is_rounding.any() else program
    derivative_options = replace(options, checks=(), optimizer=None, partners=())
    nonzero_outputs = Evaluator(evaluator.program, trial.recorder.nested())
    result = check_derivative(replace(trial, evaluator=nonzero_outputs, options=derivative_options))
    contracts = [contract for contract in result.contracts if contract.verdict is not Verdict.PASS]
    # A straight-through estimator is no gradient, so its derivative need not be symmetric.
    has_symmetry = not options.straight_through and any(claim.vjp is not None for claim in program.claims)
    if has_symmetry and not result.stop and options.tries(hessian_symmetry.NAME):
        contracts.append(hessian_symmetry.check_hessian_symmetry(trial, ~is_rounding))
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


def _merge_orders(lower: TrialResult, higher: TrialResult, order: int) -> TrialResult:
    """Join the result of one more order; a note that is known already is kept once."""
    name = ORDER_NAMES[order]
    notes = [f"{name} derivatives: {note}" for note in higher.notes if note not in lower.notes]
    return replace(
        lower,
        comparisons=(*lower.comparisons, *(replace(row, order=order) for row in higher.comparisons)),
        contracts=(*lower.contracts, *higher.contracts),
        partials=(*lower.partials, *higher.partials),
        notes=(*lower.notes, *notes),
        details=(*lower.details, *higher.details),
        stop=higher.stop,
        message=f"{name} derivatives: {higher.message or higher.stop.message}" if higher.stop else "",
    )

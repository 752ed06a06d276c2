"""The value of a target compared with that of its reference."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.backends.flat import EPS, HALF_EPS
from gradcheck.compare import conditioning, method_pairs
from gradcheck.compare.judge import make_sides
from gradcheck.compare.noise_floor import bound_terms
from gradcheck.compare.table_row import compute_resolution, make_comparison
from gradcheck.results import Comparison, Reason, Verdict
from gradcheck.verdict.interval import CLAIM_ROUNDING_ULPS

if TYPE_CHECKING:
    from gradcheck.backends.flat import Leaf
    from gradcheck.backends.program import Program
    from gradcheck.compare.trial import MeasuredTrial
    from gradcheck.evidence.line import F64

# The value itself counts as the derivative of this order.
VALUE_ORDER = 0
METHOD = "primal"


def compare_values(trial: MeasuredTrial, reference: Program) -> list[Comparison]:
    """Compare the target's value, in its own dtype, with the reference's: one row per output.

    In half precision the value of the twin is compared, since the accuracy in that dtype is judged separately. A target in
    half precision without a twin is left to that check, unless its reference runs in lower precision than float64.
    """
    program = trial.program
    evaluate_native = program.capabilities.evaluate_native
    is_half = compute_coarsest_eps(program) in HALF_EPS.values()
    if evaluate_native is None and is_half and reference.eps <= EPS["float64"]:
        return []
    value = evaluate_native(program.point) if evaluate_native and not program.half else program.value
    errors = _bound_value_error(trial, program, value), _bound_value_error(trial, reference, reference.value)
    return [_compare_output(trial, leaf, value, reference.value, errors) for leaf in program.outputs if leaf.entries]


def compute_coarsest_eps(program: Program) -> float:
    """Return the relative spacing of floats in the coarsest dtype among a target's inputs and outputs."""
    return max(EPS[leaf.dtype] for leaf in (*program.leaves, *program.outputs))


def _bound_value_error(trial: MeasuredTrial, program: Program, value: F64) -> F64:
    """Bound the rounding error of a value, (M,).

    It is a few units in the last place of the value and its leaf, the measured noise, and the change that one such unit of the
    inputs makes.

    Args:
        trial: the target, whose noise was measured.
        program: the target or its reference.
        value: of the program, (M,).
    """
    native = trial.program is program and not program.half and program.capabilities.evaluate_native
    evaluate, eps = (native, compute_coarsest_eps(program)) if native else (program.evaluate, program.eps)
    leaf_size = np.concatenate(
        [np.full(leaf.entries * leaf.width, np.max(np.abs(value[leaf.span]), initial=0.0)) for leaf in program.outputs]
    )
    movement = conditioning.measure_shift(evaluate, value, conditioning.jitter_points(program.point, eps, "value"))
    noise = trial.setting.slack * trial.setting.total_noise * (eps / trial.program.eps)
    return np.asarray(CLAIM_ROUNDING_ULPS * (eps * (np.abs(value) + leaf_size) + movement) + noise)


def _compare_output(trial: MeasuredTrial, leaf: Leaf, value: F64, trusted: F64, errors: tuple[F64, F64]) -> Comparison:
    """Make the row of one output.

    Args:
        trial: the target.
        leaf: the output.
        value: value of the target, (M,).
        trusted: value of the reference, (M,).
        errors: bounds of the errors of both, (M,) each.
    """
    program = trial.program
    rtol = trial.rtol_of(EPS["float32"] if program.half else compute_coarsest_eps(program))
    claim, estimate, claim_error, bound = (array[leaf.span][None] for array in (value, trusted, *errors))
    size = np.fmax(np.abs(claim), np.abs(estimate))
    sides = make_sides(claim, estimate, bound, claim_error, size, bound_terms(program)[leaf.span][None])
    judged = method_pairs.judge_pair(leaf, sides, rtol, demanded=False)  # the user's rtol is a demand on derivatives
    row = make_comparison(
        judged,
        program,
        (METHOD, "reference"),
        rtol,
        channels=None,
        resolution=compute_resolution(judged),
        trial_number=trial.number,
    )
    is_wrong = row.verdict is Verdict.FAIL and row.reason is Reason.DISAGREES
    where = row.where and replace(row.where, entries=tuple(replace(wrong, output="") for wrong in row.where.entries))
    reason = Reason.VALUE_DIFFERS if is_wrong else row.reason
    return replace(row, output=leaf.path, order=VALUE_ORDER, where=where, reason=reason)

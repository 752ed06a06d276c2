"""The derivative of a vjp with respect to its cotangent: differentiating J^T v with respect to v must give J again.

A backward that saves its cotangent, or detaches it, has right second derivatives on its own and wrong ones in a network.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gradcheck.backends.flat import EPS
from gradcheck.compare import claimed_jacobians, conditioning, internal_precision
from gradcheck.compare.identity import SHIFTS_OF_SUM, bound_round_off, explain_by_precision, explain_by_shift, find_unexplained
from gradcheck.compare.noise_floor import draw_gaussian_tangent
from gradcheck.glossary.contracts import CONTRACTS
from gradcheck.results import Contract, Verdict
from gradcheck.seeds import make_generator
from gradcheck.tracebacks import summarise_error

if TYPE_CHECKING:
    from gradcheck.backends.program import Program
    from gradcheck.compare.trial import Trial
    from gradcheck.evidence.line import F64

NAME = "double-adjoint"
BROKEN = (
    "differentiated with respect to its cotangent, a vjp must give the Jacobian: along random directions it gives {:.6g}, the"
    " first derivatives {:.6g}; look at what the backward's own backward returns for the incoming gradient"
)


def check_double_adjoint(trial: Trial, gradient_program: Program, cotangent: F64) -> Contract:
    """Compare v·(Ju), with Ju from differentiating the vjp twice, with (J^T v)·u for a random u; no differences are taken.

    Args:
        trial: the target with its options.
        gradient_program: the program of the target's vjp.
        cotangent: v, (M,).
    """
    assert gradient_program.capabilities.cotangent_jvp is not None
    program = trial.program
    tangent = draw_gaussian_tangent(program, make_generator(0, NAME, trial.label))
    claim = next(claim for claim in program.claims if claim.method == "reverse")
    try:
        twice_terms = cotangent * gradient_program.capabilities.cotangent_jvp(program.point, tangent)
    except Exception as error:
        return Contract(NAME, Verdict.PASS, f"not tried: {summarise_error(error)}", is_untried=True)
    rows = claimed_jacobians.evaluate_rows(claim, program.point, cotangent[None])
    jacobian = claimed_jacobians.jacobian_of_claim(claim, rows, program)
    first_terms, eps = jacobian.values[0] * tangent, max(claim.eps, *(EPS[leaf.dtype] for leaf in program.outputs))
    size = float(np.sum(np.abs(first_terms)) + np.sum(np.abs(twice_terms)))
    unexplained = find_unexplained(
        np.abs(np.sum(twice_terms) - np.sum(first_terms)),
        trial.rtol_of(eps) * size + bound_round_off(eps, np.sum(np.abs(cotangent * program.value))),
        explain_by_shift(
            lambda: np.abs(tangent) @ conditioning.measure_movement(jacobian, program, cotangent[None])[0], times=SHIFTS_OF_SUM
        ),
        explain_by_precision(lambda: internal_precision.measure_internal_tolerance(trial), size),
    )
    if unexplained is None:
        return Contract(NAME, Verdict.PASS, CONTRACTS[NAME])
    return Contract(NAME, Verdict.FAIL, BROKEN.format(np.sum(twice_terms), np.sum(first_terms)))

"""The symmetry of second derivatives: a Hessian is symmetric, but what a backward returns need not be a gradient at all."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.compare import claimed_jacobians, conditioning, internal_precision
from gradcheck.compare.identity import SHIFTS_OF_SUM, bound_round_off, explain_by_precision, explain_by_shift, find_unexplained
from gradcheck.compare.noise_floor import draw_gaussian_tangent
from gradcheck.glossary.contracts import CONTRACTS
from gradcheck.results import Contract, Verdict
from gradcheck.seeds import make_generator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from gradcheck.backends.program import Claim, Program
    from gradcheck.compare.trial import Trial
    from gradcheck.evidence.line import F64

NAME = "symmetric-hessian"
# Symmetry is also looked at this far from the primal, in the scales of the inputs, so that a kink there is left behind.
SYMMETRY_DISTANCE = 2.0**-10
# Symmetry is looked at at this many points near the primal.
SYMMETRY_POINTS = 3
BROKEN = (
    "along random directions u and w, u·Hw is {:.6g} and w·Hu is {:.6g}, where H is the derivative of a vjp: the backward is"
    " not the gradient of a function, or its own derivative lacks a term"
)


def check_hessian_symmetry(trial: Trial, movable: NDArray[np.bool_]) -> Contract:
    """Compare u·Hw with w·Hu for random u and w over all leaves; H is the derivative of a vjp as reverse mode claims it.

    No differences are taken. H need not be symmetric where the gradient has a kink or jumps, so the contract is broken only if
    H is not symmetric at points near the primal either.

    Args:
        trial: the program of the vjp for one cotangent.
        movable: the numbers that u and w move, (N,).
    """
    program, label = trial.program, trial.label
    claim = next(claim for claim in program.claims if claim.vjp is not None)
    pair = np.stack([movable * draw_gaussian_tangent(program, make_generator(0, "symmetric", label, i)) for i in range(2)])
    tolerance = cache(lambda: internal_precision.measure_internal_tolerance(trial))
    messages = list[str]()
    for point in _choose_points(program, label):
        try:
            message = _describe_asymmetry(replace(program, point=point), claim, pair, trial.rtol_of(claim.eps), tolerance)
        except Exception:  # near the primal the derivative need not exist
            message = ""
        if not message:
            return Contract(NAME, Verdict.PASS, CONTRACTS[NAME])
        messages.append(message)
    return Contract(NAME, Verdict.FAIL, messages[0])


def _choose_points(program: Program, label: str) -> Iterator[F64]:
    yield program.point
    for k in range(SYMMETRY_POINTS):
        rng = make_generator(0, "symmetric", label, "beside", k)
        yield program.point + SYMMETRY_DISTANCE * draw_gaussian_tangent(program, rng)


def _describe_asymmetry(program: Program, claim: Claim, pair: F64, rtol: float, tolerance: Callable[[], float]) -> str:
    """Describe how both products differ by more than rounding and `rtol`; '' if they do not.

    Args:
        tolerance: () -> what lower precision inside the function explains, relative to the size of the terms.
    """
    precise_claim = claimed_jacobians.make_twin(claim) or claim
    rows = claimed_jacobians.evaluate_rows(precise_claim, program.point, pair)
    jacobian, swapped = claimed_jacobians.jacobian_of_claim(precise_claim, rows, program), pair[::-1]
    products, size = np.sum(rows * swapped, axis=1), float(np.sum(np.abs(rows * swapped)))
    unexplained = find_unexplained(
        np.abs(products[0] - products[1]),
        rtol * size + bound_round_off(precise_claim.eps, np.sum(np.abs(program.value) * np.abs(pair))),
        explain_by_shift(
            lambda: np.sum(conditioning.measure_movement(jacobian, program, pair) * np.abs(swapped)), times=SHIFTS_OF_SUM
        ),
        explain_by_precision(tolerance, size),
    )
    return "" if unexplained is None else BROKEN.format(*products)

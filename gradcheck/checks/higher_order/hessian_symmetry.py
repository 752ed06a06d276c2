"""The symmetry of second derivatives: a Hessian is symmetric, but what a backward returns need not be a gradient at all."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.compare import claimed_jacobians, conditioning, internal_precision
from gradcheck.compare.method_pairs import CANCELLATION_ULPS
from gradcheck.compare.noise_floor import draw_gaussian_tangent
from gradcheck.glossary.contracts import CONTRACTS
from gradcheck.results import Contract, Verdict
from gradcheck.seeds import make_generator
from gradcheck.verdict.interval import default_rtol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from gradcheck.backends.program import Claim, Program
    from gradcheck.compare.evaluator import Evaluator
    from gradcheck.evidence.line import F64
    from gradcheck.options import Options

NAME = "symmetric-hessian"
# Symmetry is also looked at this far from the primal, in the scales of the inputs, so that a kink there is left behind.
SYMMETRY_DISTANCE = 2.0**-10
# Symmetry is looked at at this many points near the primal.
SYMMETRY_POINTS = 3
BROKEN = (
    "along random directions u and w, u·Hw is {:.6g} and w·Hu is {:.6g}, where H is the derivative of a vjp: the backward is"
    " not the gradient of a function, or its own derivative lacks a term"
)


def check_hessian_symmetry(evaluator: Evaluator, options: Options, label: str, movable: NDArray[np.bool_]) -> Contract:
    """Compare u·Hw with w·Hu for random u and w over all leaves; H is the derivative of a vjp as reverse mode claims it.

    No differences are taken. H need not be symmetric where the gradient has a kink or jumps, so the contract is broken only if
    H is not symmetric at points near the primal either.

    Args:
        evaluator: evaluates the vjp for one cotangent.
        options: how to check.
        label: names the random streams.
        movable: the numbers that u and w move, (N,).
    """
    program = evaluator.program
    claim = next(claim for claim in program.claims if claim.vjp is not None)
    pair = np.stack([movable * draw_gaussian_tangent(program, make_generator(0, "symmetric", label, i)) for i in range(2)])
    rtol, tolerance, message = options.rtol or default_rtol(claim.eps), 0.0, ""
    for point in _choose_points(program, label):
        try:
            (u_hw, w_hu), asymmetry = _measure_asymmetry(replace(program, point=point), claim, pair, rtol)
        except Exception:  # near the primal the derivative need not exist
            asymmetry = 0.0
        if asymmetry > 0 and not message:
            tolerance = internal_precision.measure_internal_tolerance(evaluator, options, label)
        if not asymmetry > tolerance:
            return Contract(NAME, Verdict.PASS, CONTRACTS[NAME])
        message = message or BROKEN.format(u_hw, w_hu)
    return Contract(NAME, Verdict.FAIL, message)


def _choose_points(program: Program, label: str) -> Iterator[F64]:
    yield program.point
    for k in range(SYMMETRY_POINTS):
        rng = make_generator(0, "symmetric", label, "beside", k)
        yield program.point + SYMMETRY_DISTANCE * draw_gaussian_tangent(program, rng)


def _measure_asymmetry(program: Program, claim: Claim, pair: F64, rtol: float) -> tuple[F64, float]:
    """Compute both products, and how much they differ beyond rounding and `rtol`, relative to the size of their terms."""
    precise_claim = claimed_jacobians.make_twin(claim) or claim
    rows = claimed_jacobians.evaluate_rows(precise_claim, program.point, pair)
    jacobian, swapped = claimed_jacobians.jacobian_of_claim(precise_claim, rows, program), pair[::-1]
    products, size = np.sum(jacobian.values * swapped, axis=1), float(np.sum(np.abs(jacobian.values * swapped)))
    cancellation = CANCELLATION_ULPS * precise_claim.eps * float(np.sum(np.abs(program.value) * np.abs(pair)))
    excess = abs(products[0] - products[1]) - cancellation - rtol * size
    if excess > 0:
        error_bound = conditioning.with_conditioning(jacobian, program, pair).error
        excess -= float(np.sum(error_bound * np.abs(swapped)))
    return products, excess / size if excess > 0 else 0.0

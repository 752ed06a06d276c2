"""Is the second derivative symmetric? That of a gradient is; what a backward returns may be the gradient of nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.compare import conditioning, internal_precision, jacobians
from gradcheck.compare.noise_floor import every_entry
from gradcheck.compare.pairs import UNITS
from gradcheck.glossary.contracts import CONTRACTS
from gradcheck.results import Contract, Verdict
from gradcheck.seeds import generator
from gradcheck.verdict.interval import default_rtol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from gradcheck.backends.program import Claim, Program
    from gradcheck.compare.evaluator import Evaluator
    from gradcheck.evidence.line import F64
    from gradcheck.options import Options

NAME = "symmetric-hessian"
AWAY, POINTS = 2.0**-10, 3  # of the scales of the inputs, and how many: there a kink at the primal is left behind
BROKEN = (
    "along random directions u and w, u·Hw is {:.6g} and w·Hu is {:.6g}, H the derivative of a vjp: the backward is the"
    " gradient of no function, or forgets a term when it is differentiated itself"
)


def examine(evaluator: Evaluator, options: Options, label: str, kept: NDArray[np.bool_]) -> Contract:
    """Hold u·Hw against w·Hu for random u and w over all leaves, H the derivative of a vjp as reverse mode claims it.

    No differences are taken. Where the gradient has a kink or jumps H need not be symmetric, so that it is looked at beside the
    primal too.

    Args:
        evaluator: of the vjp of one cotangent.
        kept: the numbers that u and w move, (N,).
    """
    claim = next(claim for claim in evaluator.program.claims if claim.vjp is not None)
    pair = np.stack([kept * every_entry(evaluator.program, generator(0, "symmetric", label, i)) for i in range(2)])
    rtol, inside, told = options.rtol or default_rtol(claim.eps), 0.0, ""
    for at in _points(evaluator.program, label):
        try:
            (one, other), excess = _asymmetry(replace(evaluator.program, point=at), claim, pair, rtol)
        except Exception:  # beside the primal it need not exist
            excess = 0.0
        if excess > 0 and not told:
            inside = internal_precision.inside(evaluator, options, label)
        if not excess > inside:
            return Contract(NAME, Verdict.PASS, CONTRACTS[NAME])
        told = told or BROKEN.format(one, other)
    return Contract(NAME, Verdict.FAIL, told)


def _points(program: Program, label: str) -> Iterator[F64]:
    yield program.point
    for k in range(POINTS):
        yield program.point + AWAY * every_entry(program, generator(0, "symmetric", label, "beside", k))


def _asymmetry(program: Program, claim: Claim, pair: F64, rtol: float) -> tuple[F64, float]:
    """Both products, and by how much they differ beyond rounding and the relative error that matters, over their size."""
    used = jacobians.twin_of(claim) or claim
    rows, crossed = jacobians.of_claim(used, jacobians.rows_of(used, program.point, pair), program), pair[::-1]
    products, size = np.sum(rows.rows * crossed, axis=1), float(np.sum(np.abs(rows.rows * crossed)))
    cancelled = UNITS * used.eps * float(np.sum(np.abs(program.value) * np.abs(pair)))
    excess = abs(products[0] - products[1]) - cancelled - rtol * size
    if excess > 0:
        excess -= float(np.sum(conditioning.jittered(rows, program, pair).own * np.abs(crossed)))
    return products, excess / size if excess > 0 else 0.0

"""What a backward's own backward says of the cotangent: the derivative of J^T v with respect to v is J again.

A backward that saves its cotangent, or cuts it off, has the right second derivatives by itself and wrong ones in a network.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gradcheck.backends.flat import EPS
from gradcheck.compare import conditioning, internal_precision, jacobians
from gradcheck.compare.noise_floor import every_entry
from gradcheck.compare.pairs import UNITS
from gradcheck.glossary.contracts import CONTRACTS
from gradcheck.results import Contract, Verdict
from gradcheck.seeds import generator
from gradcheck.tracebacks import one_line
from gradcheck.verdict.interval import default_rtol

if TYPE_CHECKING:
    from gradcheck.backends.program import Program
    from gradcheck.compare.evaluator import Evaluator
    from gradcheck.evidence.line import F64
    from gradcheck.options import Options

NAME = "double-adjoint"
BROKEN = (
    "differentiated with respect to its cotangent a vjp must give the Jacobian: along random directions it gives {:.6g}, the"
    " first derivatives {:.6g}; look at what the backward's own backward returns for the gradient that it is given"
)


def examine(evaluator: Evaluator, second: Program, options: Options, label: str, cotangent: F64) -> Contract:
    """Hold v·(Ju), where differentiating the vjp twice gives Ju, against (J^T v)·u, u random: no differences are taken.

    Args:
        evaluator: of the target; `second` is the program of its vjp.
        cotangent: v, (M,).
    """
    assert second.by_cotangent is not None
    first, tangent = evaluator.program, every_entry(evaluator.program, generator(0, NAME, label))
    claim = next(claim for claim in first.claims if claim.method == "reverse")
    try:
        twice = cotangent * second.by_cotangent(first.point, tangent)
    except Exception as error:
        return Contract(NAME, Verdict.PASS, f"not tried: {one_line(error)}")
    rows = jacobians.of_claim(claim, jacobians.rows_of(claim, first.point, cotangent[None]), first)
    terms, eps = rows.rows[0] * tangent, max(claim.eps, *(EPS[leaf.dtype] for leaf in first.outputs))
    size = float(np.sum(np.abs(terms)) + np.sum(np.abs(twice)))
    cancelled = UNITS * eps * float(np.sum(np.abs(cotangent * first.value)))
    excess = abs(np.sum(twice) - np.sum(terms)) - cancelled - (options.rtol or default_rtol(eps)) * size
    if excess > 0:
        excess -= float(np.sum(conditioning.jittered(rows, first, cotangent[None]).own[0] * np.abs(tangent)))
    if excess > 0:
        excess -= internal_precision.inside(evaluator, options, label) * size
    if not excess > 0:
        return Contract(NAME, Verdict.PASS, CONTRACTS[NAME])
    return Contract(NAME, Verdict.FAIL, BROKEN.format(np.sum(twice), np.sum(terms)))

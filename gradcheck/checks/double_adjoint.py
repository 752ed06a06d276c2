"""What a backward's own backward says of the cotangent: the derivative of J^T v with respect to v is J again.

A backward that saves its cotangent, or cuts it off, has the right second derivatives by itself and wrong ones in a network.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gradcheck.checks import claims
from gradcheck.checks.own_dtype import UNITS
from gradcheck.options import CONTRACTS
from gradcheck.results import Contract, Verdict
from gradcheck.verdict.compare import default_rtol

if TYPE_CHECKING:
    from gradcheck.backends.program import Program
    from gradcheck.evidence.line import F64

NAME = "double-adjoint"
BROKEN = (
    "differentiated with respect to its cotangent a vjp must give the Jacobian: along random directions it gives {:.6g}, the"
    " first derivatives {:.6g}; look at what the backward's own backward returns for the gradient that it is given"
)


def examine(first: Program, second: Program, tangent: F64, cotangent: F64, rtol: float | None) -> Contract:
    """Hold v·(Ju), where differentiating the vjp twice gives Ju, against (J^T v)·u: no differences are taken.

    Args:
        tangent: u, (N,); cotangent: v, (M,).
        rtol: the user's.
    """
    assert second.by_cotangent is not None
    claim = next(claim for claim in first.claims if claim.method == "reverse")
    rows = claims.of_claim(claim, claims.rows_of(claim, first.point, cotangent[None]), first)
    terms, twice = rows.rows[0] * tangent, cotangent * second.by_cotangent(first.point, tangent)
    size = float(np.sum(np.abs(terms)) + np.sum(np.abs(twice)))
    cancelled = UNITS * claim.eps * float(np.sum(np.abs(cotangent * first.value)))
    excess = abs(np.sum(twice) - np.sum(terms)) - cancelled - (rtol or default_rtol(claim.eps)) * size
    if excess > 0:
        excess -= float(np.sum(claims.jittered(rows, first, cotangent[None]).own[0] * np.abs(tangent)))
    if not excess > 0:
        return Contract(NAME, Verdict.PASS, CONTRACTS[NAME])
    return Contract(NAME, Verdict.FAIL, BROKEN.format(np.sum(twice), np.sum(terms)))

"""Inputs or outputs without an entry: no derivative is to be proved, but the claim must run, and be zero for what is shared."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gradcheck.glossary.contracts import CONTRACTS
from gradcheck.results import Contract, Verdict

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gradcheck.backends.flat import F64
    from gradcheck.backends.program import Program

NAME = "empty-batch"


def examine(program: Program) -> list[Contract]:
    """Ask every claim for the vjp: of no output at all each gradient is a sum over nothing.

    Raises:
        DerivativeError: where a derivative of the user's own raises.
        ClaimError: where it returns another shape.
    """
    size = program.value.size
    if not np.all(np.isfinite(program.value)):
        return []
    asked = [claim.vjp for claim in program.claims if claim.vjp is not None and not (claim.derived or claim.optional)]
    for vjp in asked:
        (row,) = vjp(program.point, np.ones((1, size)))
        if size:
            continue  # it runs, which is all
        wrong = _wrong(row)
        if len(wrong) and not np.any(np.abs(row) > 0):  # NaN alone may come of large inputs, in an output that is not there
            (row,) = vjp(np.sign(program.point), np.ones((1, size)))
            wrong = _wrong(row)
        if len(wrong):
            leaf = next(leaf for leaf in program.leaves if wrong[0] < leaf.span.stop)
            told = f"without an output the gradient at {leaf.entry(int(wrong[0]))} is {row[wrong[0]]:.6g} in place of 0"
            return [Contract(NAME, Verdict.FAIL, f"{told}; look for a mean over the rows or a division by their number")]
    return [Contract(NAME, Verdict.PASS, CONTRACTS[NAME])] if asked else []


def _wrong(row: F64) -> NDArray[np.intp]:
    """Where a gradient is not zero."""
    return np.flatnonzero(~(np.abs(row) <= 0))

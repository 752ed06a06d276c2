"""Contract `empty-batch` for inputs or outputs without entries: the claim must run, and be zero for what they share."""

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


def check_empty_inputs(program: Program) -> list[Contract]:
    """Evaluate the vjp of every claim: without outputs, each gradient is a sum over nothing, which is zero.

    Raises:
        DerivativeError: if a derivative of the user raises.
        ClaimError: if it returns another shape.
    """
    size = program.value.size
    if not np.all(np.isfinite(program.value)):
        return []
    vjps = [claim.vjp for claim in program.claims if claim.vjp is not None and not (claim.derived or claim.optional)]
    for vjp in vjps:
        (row,) = vjp(program.point, np.ones((1, size)))
        if size:
            continue  # with outputs, the claim only has to run
        wrong = _find_nonzero(row)
        if len(wrong) and not np.any(np.abs(row) > 0):  # NaN alone may stem from large inputs, through an output that is empty
            (row,) = vjp(np.sign(program.point), np.ones((1, size)))
            wrong = _find_nonzero(row)
        if len(wrong):
            leaf = next(leaf for leaf in program.leaves if wrong[0] < leaf.span.stop)
            entry, value = leaf.entry(int(wrong[0])), row[wrong[0]]
            message = (
                f"without an output the gradient at {entry} is {value:.6g} instead of 0; look for a mean over the rows or a"
                " division by their number"
            )
            return [Contract(NAME, Verdict.FAIL, message)]
    return [Contract(NAME, Verdict.PASS, CONTRACTS[NAME])] if vjps else []


def _find_nonzero(row: F64) -> NDArray[np.intp]:
    """Return the positions at which a gradient is not zero; NaN is not."""
    return np.flatnonzero(~(np.abs(row) <= 0))

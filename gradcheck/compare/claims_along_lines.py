"""A claim along lines: those that move a single entry each, and tangents that move many."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gradcheck.backends.flat import Leaf
from gradcheck.backends.program import Program
from gradcheck.compare.claimed_jacobians import Jacobian
from gradcheck.compare.estimates import LineEstimates, estimate_lines
from gradcheck.compare.evaluator import Evaluator
from gradcheck.compare.judge import ClaimAlongLines
from gradcheck.evidence import directions
from gradcheck.evidence.line import F64, Setting

# A sum of terms with random signs hardly ever exceeds this many times the root of their sum of squares.
MAX_RANDOM_SUM = 6.0


def compute_displacements(program: Program, leaf: Leaf) -> F64:
    """Compute how far the line of each entry of a leaf moves it per unit of t, (n,)."""
    return directions.entry_displacements(program.point[leaf.span], program.eps)


def estimate_entries(evaluator: Evaluator, setting: Setting, leaf: Leaf, places: NDArray[np.intp]) -> LineEstimates:
    """Estimate the derivatives along the lines of some entries of a leaf, given by their positions in it."""
    units = compute_displacements(evaluator.program, leaf)[places]
    phis = [evaluator.line_of_entry(leaf.start + int(i), float(unit)) for i, unit in zip(places, units, strict=True)]
    return estimate_lines(leaf, phis, [setting] * len(phis), evaluator.program.eps, units)


def claim_along_entries(
    estimates: LineEstimates, claimed: Jacobian, places: slice | NDArray[np.intp] = slice(None)
) -> ClaimAlongLines:
    """Compute a claim along lines that move one entry of a leaf each: all entries, or those at some positions in it."""
    value, error, rounding = (
        array[:, estimates.leaf.span][:, places] for array in (claimed.values, claimed.error, claimed.rounding)
    )
    value, size = value * estimates.units, np.abs(estimates.units)
    return ClaimAlongLines(value, error * size, rounding * size, np.abs(value), is_combination=False)


def embed_tangent(program: Program, leaf: Leaf, u: F64) -> F64:
    """Extend a tangent of a leaf, (n,), to one of the whole input, (N,), that moves nothing else."""
    tangent = np.zeros(program.point.size)
    tangent[leaf.span] = u
    return tangent


def claim_along_tangents(jacobian: Jacobian, span: slice, tangents: F64) -> ClaimAlongLines:
    """Compute a claim of a single channel along tangents, (P, n).

    The scale of a sum is MAX_RANDOM_SUM times its root sum of squares. The signs of a tangent are independent of the errors of
    a claim. Errors within rtol of each entry therefore add up to more with a probability of at most
    2 exp(-MAX_RANDOM_SUM^2 / 2) (Hoeffding).

    Args:
        jacobian: the claim, with a single row; or one row for each tangent.
        span: the columns that the tangents move.
    """
    terms = jacobian.values[:, span] * tangents
    size = np.sum(np.abs(terms), axis=1)
    scale = np.minimum(size, MAX_RANDOM_SUM * np.linalg.norm(terms, axis=1))
    # All terms may share one unit in the last place; their random rounding adds up to less.
    rounding = jacobian.eps * size
    error = np.sqrt(np.sum((jacobian.error[:, span] * tangents) ** 2, axis=1)) + rounding
    return ClaimAlongLines(np.sum(terms, axis=1)[None], error[None], rounding[None], scale[None], is_combination=True)

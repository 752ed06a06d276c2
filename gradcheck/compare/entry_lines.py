"""Full mode: every partial derivative, by every method."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gradcheck.backends.flat import Leaf
from gradcheck.backends.program import Program
from gradcheck.compare.jacobians import Rows
from gradcheck.compare.judge import Along
from gradcheck.evidence import directions
from gradcheck.evidence.line import F64

if TYPE_CHECKING:
    pass

SUM = 6.0  # times the root sum of squares of its terms: what a sum of random signs hardly ever exceeds


def displacements(program: Program, leaf: Leaf) -> F64:
    """How far each entry of a leaf moves per unit of t, (n,)."""
    return directions.one_hot(program.point[leaf.span], program.eps)


def along_entries(program: Program, leaf: Leaf, claimed: Rows) -> Along:
    """A claim along the lines that move one entry of a leaf each."""
    part, units = (slice(None), leaf.span), displacements(program, leaf)
    value, size = claimed.rows[part] * units, np.abs(units)
    return Along(value, claimed.own[part] * size, claimed.slip[part] * size, np.abs(value), many=False)


def embedded(program: Program, leaf: Leaf, u: F64) -> F64:
    """A leaf's tangent as one of the whole input."""
    tangent = np.zeros(program.point.size)
    tangent[leaf.span] = u
    return tangent


def along_tangents(rows: Rows, span: slice, tangents: F64) -> Along:
    """A claim's numbers in a span, one row per tangent, along tangents (P, n).

    What matters of a sum is relative to SUM times its root sum of squares: a tangent's signs are independent of the errors of
    a claim, so errors within rtol of each entry add up to more with a probability of 2 exp(-SUM^2 / 2) (Hoeffding).
    """
    terms = rows.rows[:, span] * tangents
    size = np.sum(np.abs(terms), axis=1)
    scale = np.minimum(size, SUM * np.linalg.norm(terms, axis=1))
    slip = rows.eps * size  # one unit in the last place that all terms may share; their random rounding adds up to less
    own = np.sqrt(np.sum((rows.own[:, span] * tangents) ** 2, axis=1)) + slip
    return Along(np.sum(terms, axis=1)[None], own[None], slip[None], scale[None], many=True)

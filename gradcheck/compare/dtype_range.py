"""Derivatives beyond the range of their dtype: a claim of one can only be infinite, or NaN where it meets a zero."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gradcheck.backends.flat import EPS
from gradcheck.evidence.directions import SMALLEST_NORMAL
from gradcheck.number_format import BY_EPS, FLOAT64
from gradcheck.verdict.interval import Code

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gradcheck.compare.judge import JudgedLeaf
    from gradcheck.evidence.line import F64
    from gradcheck.verdict.facts import Fact


def mark_out_of_range(derivatives: F64, dtype: str) -> NDArray[np.bool_]:
    """Mark every input and every output that has a derivative beyond the range of a dtype.

    Args:
        derivatives: exact derivatives of the inputs (columns) and outputs (rows), (C, n).
        dtype: name of the dtype that they are claimed in.
    """
    overflow = BY_EPS[EPS.get(dtype, FLOAT64.eps)].overflow
    beyond = np.abs(derivatives) >= overflow
    return np.asarray(np.any(beyond, axis=0, keepdims=True) | np.any(beyond, axis=1, keepdims=True))


def mark_out_of_range_slopes(x: F64, slopes: F64, displacements: F64, dtype: str) -> NDArray[np.bool_]:
    """Mark derivatives out of range by the slopes along lines that move one entry each; those of subnormal inputs may be too.

    Args:
        x: the entries, (n,).
        slopes: estimates along the lines, (C, n).
        displacements: how far each line moves its entry per unit of t, (n,).
        dtype: name of the dtype of the leaf.
    """
    with np.errstate(all="ignore"):
        beyond = mark_out_of_range(slopes / displacements, dtype)
    return np.asarray(beyond | ((x != 0) & (np.abs(x) < SMALLEST_NORMAL)))


def mark_non_finite(judged: JudgedLeaf, out_of_range: NDArray[np.bool_], fact: Fact) -> JudgedLeaf:
    """Add a fact about the wrong claims that are not finite because derivatives are out of range.

    An infinite claim may spread as NaN to all entries of its output, so those are excused with it.

    Args:
        out_of_range: marks the derivatives that are out of range, (C, n).
        fact: what is known of these claims.
    """
    non_finite = ~np.isfinite(judged.sides.claim)
    spread = np.any(non_finite & out_of_range, axis=1, keepdims=True)
    excused = (judged.code == Code.FAIL) & non_finite & (out_of_range | spread)
    return judged.with_fact(fact, excused)

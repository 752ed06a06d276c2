"""Derivatives that are no numbers of their dtype: of them a claim can only be infinite, or NaN where it meets a zero."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.evidence.directions import LEAST_NORMAL

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gradcheck.compare.judge import Compared
    from gradcheck.evidence.line import F64
    from gradcheck.results import Reason

LARGEST = {"float16": 65504.0, "float32": 2.0**128, "bfloat16": 2.0**128, "complex64": 2.0**128}


def of_dtype(derivatives: F64, dtype: str) -> NDArray[np.bool_]:
    """Derivatives, (C, n), of inputs or outputs one of whose derivatives is beyond the numbers of a dtype."""
    beyond = np.abs(derivatives) >= LARGEST.get(dtype, np.inf)
    return np.asarray(np.any(beyond, axis=0, keepdims=True) | np.any(beyond, axis=1, keepdims=True))


def of_evidence(x: F64, along: F64, units: F64, dtype: str) -> NDArray[np.bool_]:
    """The same by slopes along lines that move an entry by `units` each; denormal inputs may have any."""
    with np.errstate(all="ignore"):
        beyond = of_dtype(along / units, dtype)
    return np.asarray(beyond | ((x != 0) & (np.abs(x) < LEAST_NORMAL)))


def excused(c: Compared, beyond: NDArray[np.bool_], reason: Reason) -> Compared:
    """Let claims that are not finite decide nothing where derivatives are `beyond`; nor elsewhere of the same output."""
    infinite = ~np.isfinite(c.sides.claim)
    lost = (c.code == 2) & infinite & (beyond | np.any(infinite & beyond, axis=1, keepdims=True))
    seen = c.seen.copy()
    seen[lost] = reason
    return replace(c, code=np.where(lost, 1, c.code).astype(np.int8), seen=seen)

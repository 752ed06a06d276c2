"""The float64 twin of a target in lower precision: whether it is the same function, and its value."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from gradcheck.backends.flat import F64

# The value of a twin may be off by this share of the largest output, or by this many units in the last place of the target's
# dtype. If it is further off, it is another function (a branch on dtype, another random draw).
MAX_TWIN_DIFFERENCE = 1e-3
MAX_TWIN_DIFFERENCE_ULPS = 8


def is_same_function(value: F64, twin: F64, eps: float) -> bool:
    """Whether a float64 twin computes the same function as the target, as far as the target's precision shows.

    Args:
        value: value of the target, (M,).
        twin: value of the twin, (M,).
        eps: relative spacing of floats in the target's dtype.
    """
    if twin.shape != value.shape:
        return False
    finite = np.isfinite(value) & np.isfinite(twin)
    scale = np.max(np.abs(value), initial=0.0, where=finite)
    return not np.any(np.abs(twin[finite] - value[finite]) > max(MAX_TWIN_DIFFERENCE, MAX_TWIN_DIFFERENCE_ULPS * eps) * scale)


def prefer_twin_value(value: F64, twin: F64 | None) -> F64:
    """Return the value of the float64 twin, if there is one; an output that overflows in the native dtype stays infinite."""
    return value if twin is None else np.where(np.isfinite(value), twin, value)

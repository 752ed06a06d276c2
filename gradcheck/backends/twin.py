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
# It may also be off by this many units in the last place of the largest input, or of 1 if that is larger, up to the share
# above. The value may be what rounding leaves of such terms, as in a loss that is nearly zero, or of exp(x) - 1.
MAX_CANCELLED_ULPS = 64


def is_same_function(point: F64, value: F64, twin: F64, eps: float) -> bool:
    """Whether a float64 twin computes the same function as the target, as far as the target's precision shows.

    Args:
        point: values of the inputs, (N,).
        value: value of the target, (M,).
        twin: value of the twin, (M,).
        eps: relative spacing of floats in the target's dtype.
    """
    if twin.shape != value.shape:
        return False
    finite = np.isfinite(value) & np.isfinite(twin)
    scale = np.max(np.abs(value), initial=0.0, where=finite)
    terms = np.max(np.abs(point), initial=1.0, where=np.isfinite(point))
    allowed = max(MAX_TWIN_DIFFERENCE, MAX_TWIN_DIFFERENCE_ULPS * eps) * scale
    allowed_cancellation = min(MAX_TWIN_DIFFERENCE, MAX_CANCELLED_ULPS * eps) * terms
    return not np.any(np.abs(twin[finite] - value[finite]) > max(allowed, allowed_cancellation))


def prefer_twin_value(value: F64, twin: F64 | None) -> F64:
    """Return the value of the float64 twin, if there is one; an output that overflows in the native dtype stays infinite."""
    return value if twin is None else np.where(np.isfinite(value), twin, value)

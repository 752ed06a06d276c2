"""The float64 twin of a target in lower precision: whether it is the same function, and its value."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gradcheck.backends.flat import EPS

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradcheck.backends.flat import F64

# The value of a twin may be off by this share of the largest output, or by this many units in the last place of the target's
# dtype. If it is further off, it is another function (a branch on dtype, another random draw).
MAX_TWIN_DIFFERENCE = 1e-3
MAX_TWIN_DIFFERENCE_ULPS = 8
# It may also be off by this many units in the last place of the largest input, or of 1 if that is larger, up to the share
# above. The value may be what rounding leaves of such terms, as in a loss that is nearly zero, or of exp(x) - 1. Then the two
# must agree at points this far away, in the inputs' sizes, to within the share above of how far the value moves there; or it
# must not move by more than this many units in the last place of float64. The first number also says, in other checks, up to
# which size an output may be nothing but the rounding of such terms.
MAX_CANCELLED_ULPS = 64
DISTANCES = (0.25, -0.25, 0.125, -0.125)
MAX_CONSTANT_ULPS = 1024


def is_same_function(
    point: F64, value: F64, twin: F64, eps: float, evaluate_both: Callable[[F64], tuple[F64, F64]] | None = None
) -> bool:
    """Whether a float64 twin computes the same function as the target, as far as the target's precision shows.

    Args:
        point: values of the inputs, (N,).
        value: value of the target, (M,).
        twin: value of the twin, (M,).
        eps: relative spacing of floats in the target's dtype.
        evaluate_both: point (N,) -> value of the target and of the twin there. Without it, they must agree at the primal.
    """
    if twin.shape != value.shape:
        return False
    finite = np.isfinite(value) & np.isfinite(twin)
    scale = np.max(np.abs(value), initial=0.0, where=finite)
    terms = np.max(np.abs(point), initial=1.0, where=np.isfinite(point))
    allowed = max(MAX_TWIN_DIFFERENCE, MAX_TWIN_DIFFERENCE_ULPS * eps) * scale
    allowed_cancellation = min(MAX_TWIN_DIFFERENCE, MAX_CANCELLED_ULPS * eps) * terms
    difference = np.max(np.abs(twin[finite] - value[finite]), initial=0.0)
    if difference <= allowed or evaluate_both is None or difference > allowed_cancellation:
        return bool(difference <= allowed)
    return _agree_around(point, twin, MAX_CONSTANT_ULPS * EPS["float64"] * terms, evaluate_both)


def _agree_around(point: F64, twin: F64, constant: float, evaluate_both: Callable[[F64], tuple[F64, F64]]) -> bool:
    """Whether the two functions agree around a point, compared with how far the twin moves there.

    Args:
        constant: a twin that moves by no more than this is constant.
    """
    finite = np.where(np.isfinite(point), point, 0.0)
    scale = max(1.0, float(np.sqrt(np.mean(finite**2)))) if finite.size else 1.0
    signs = np.where(np.arange(point.size) % 2, 1.0, -1.0) * (1 + np.arange(point.size) % 3)
    difference, change = 0.0, 0.0
    for distance in DISTANCES:
        try:
            value_there, twin_there = evaluate_both(point + distance * scale * signs / 3)
        except Exception:
            continue  # the function need not exist there
        if value_there.shape == twin_there.shape == twin.shape:
            known = np.isfinite(value_there) & np.isfinite(twin_there) & np.isfinite(twin)
            difference = max(difference, np.max(np.abs(value_there - twin_there)[known], initial=0.0))
            change = max(change, np.max(np.abs(twin_there - twin)[known], initial=0.0))
    return bool(change <= constant or difference <= MAX_TWIN_DIFFERENCE * change)


def prefer_twin_value(value: F64, twin: F64 | None) -> F64:
    """Return the value of the float64 twin, if there is one; an output that overflows in the native dtype stays infinite."""
    return value if twin is None else np.where(np.isfinite(value), twin, value)

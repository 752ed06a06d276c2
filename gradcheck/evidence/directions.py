"""Directions to look along: tangents that displace the primal exactly."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.number_format import FLOAT32, FLOAT64

if TYPE_CHECKING:
    from gradcheck.evidence.line import F64

# No number between this and its inverse overflows or underflows when it is squared.
MIN_SQUARABLE = 1e-100
# No output counts as smaller than this, since its reciprocal must be a number in float32 too.
MIN_OUTPUT_SIZE = 1e-30
# An even tangent moves every entry by at least this fraction of its scale.
MIN_EVEN_STEP = 0.5
# At most this many entries are worked on at a time, so that they stay in the cache.
PIECE_SIZE = 2**16
# Numbers smaller than this have no small part, so such an entry moves as if it were zero.
SMALLEST_NORMAL = FLOAT64.smallest_normal
# An entry smaller than this share of the leaf's root mean square moves by its own size.
SMALL_ENTRY_RATIO = 1e-3
# The finest step is eps to this power, to the nearest power of two. Exact steps then leave a tangent 12 bits in float64, 5 in
# float32.
FINEST_STEP_POWER = 0.77


def compute_leaf_scale(x: F64) -> float:
    """Compute the root mean square of a leaf, 1 if it is all zero or subnormal; safe against overflow."""
    largest = max(float(x.max(initial=0.0)), -float(x.min(initial=0.0)))
    if largest < SMALLEST_NORMAL or not math.isfinite(largest):
        return 1.0
    if MIN_SQUARABLE < largest < 1 / MIN_SQUARABLE:  # without a copy
        return math.sqrt(float(np.vdot(x, x)) / x.size)
    return largest * float(np.sqrt(np.mean((x / largest) ** 2)))


def compute_entry_scales(x: F64) -> F64:
    """Compute the displacement that suits each entry, (n,): the leaf's RMS, or the entry's own size if it is far smaller.

    A step of the leaf's scale would carry a small entry over its own poles and kinks.
    """
    leaf_scale = compute_leaf_scale(x)
    size = np.abs(x)
    return np.asarray(np.where((size >= SMALLEST_NORMAL) & (size < SMALL_ENTRY_RATIO * leaf_scale), size, leaf_scale))


def smallest_subnormal(eps: float) -> float:
    """Return the spacing of the smallest numbers in a dtype of relative spacing `eps`; that of float32 for coarser dtypes."""
    return (FLOAT64 if eps <= FLOAT64.eps else FLOAT32).smallest_subnormal


def finest_step(eps: float) -> float:
    """Return the smallest step for a function computed to relative precision `eps`: 2^-40 in float64, 2^-18 in float32."""
    return 2.0 ** round(FINEST_STEP_POWER * math.log2(eps))


def round_tangent(u: F64, x: F64, eps: float) -> F64:
    """Round a tangent so that x + t u has no rounding error for t <= 1/4 that are multiples of the finest step.

    Each entry becomes a multiple of (the spacing of floats around |x| + |u|) / (the finest step), a relative change of about
    2^-12 in float64 and 2^-5 in float32. That is nothing to a random direction, and the derivative is then measured along
    exactly this tangent. If an entry crosses a power of two on its way, its last bit may be lost all the same; the
    measured noise allows for that.
    """
    _, exponent = np.frexp(np.abs(x) / 2 + np.abs(u) / 2)
    unit = np.ldexp(eps / finest_step(eps), exponent + 1)
    rounded = np.round(u / unit) * unit
    return np.asarray(np.where((rounded == 0) & (u != 0), np.copysign(unit, u), rounded))


def draw_dense(rng: np.random.Generator, x: F64, eps: float) -> F64:
    """Draw a Gaussian tangent of the leaf's scale: signed, since positive directions only see totals and miss shuffles."""
    return round_tangent(rng.standard_normal(x.shape) * compute_entry_scales(x), x, eps)


def draw_sparse(rng: np.random.Generator, x: F64, eps: float) -> F64:
    """Draw a Gaussian tangent on about the square root of the entries, so that few entries need not outweigh all others."""
    chosen = rng.permutation(x.size)[: max(1, math.isqrt(x.size))]
    u = np.zeros(x.shape)
    u[chosen] = rng.standard_normal(chosen.size) * compute_entry_scales(x)[chosen]
    return round_tangent(u, x, eps)


def split_for_cache(size: int) -> list[slice]:
    """Split a long vector into consecutive parts that stay in the cache."""
    return [slice(low, min(low + PIECE_SIZE, size)) for low in range(0, size, PIECE_SIZE)]


def fill_even(rng: np.random.Generator, x: F64, out: F64) -> None:
    """Fill `out` with a tangent on which every entry counts: random signs, magnitudes of 1/2 to 3/2 of each entry's scale.

    A single wrong entry changes the slope along every such tangent by at least MIN_EVEN_STEP of its error, whereas a Gaussian
    tangent may all but leave it out. The errors of several entries cancel only by rare chance, as with a Gaussian tangent.
    The tangent is made piece by piece, as it may be large.
    """
    leaf_scale, longest = compute_leaf_scale(x), min(x.size, PIECE_SIZE)
    shifts, signs = np.empty((2, longest), dtype=np.float32)  # made once: new memory costs more than the arithmetic
    sizes, is_small = np.empty(longest), np.empty(longest, dtype=bool)
    for piece in split_for_cache(x.size):
        length = out[piece].size
        u, sign, size, small = shifts[:length], signs[:length], sizes[:length], is_small[:length]
        rng.random(out=u, dtype=np.float32)
        u -= np.float32(0.5)
        np.copysign(np.float32(MIN_EVEN_STEP), u, out=sign)
        u *= np.float32(2)
        u += sign
        np.multiply(u, leaf_scale, out=out[piece])
        np.abs(x[piece], out=size)
        if np.less(size, SMALL_ENTRY_RATIO * leaf_scale, out=small).any():
            entries = np.flatnonzero(small & (size >= SMALLEST_NORMAL))
            out[piece][entries] = u[entries] * size[entries]


def entry_displacements(x: F64, eps: float) -> F64:
    """Compute how far each entry of a leaf moves alone per unit of t, (n,)."""
    return round_tangent(compute_entry_scales(x), x, eps)

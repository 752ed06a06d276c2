"""Directions to look along: tangents that displace the primal exactly."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from gradcheck.evidence.line import F64

MODERATE = 1e-100  # nothing between this and its inverse over- or underflows when squared
TINY = 1e-30  # no output counts as smaller: its reciprocal must be a number in float32 too
LEAST = 0.5  # of its scale: how far an even tangent moves each entry, at least
PIECE = 2**16  # numbers that are worked on at a time: they stay in the cache
LEAST_NORMAL = 2.0**-1022  # of smaller numbers there is no small part: such an entry moves as if it were zero
SMALL = 1e-3  # of the leaf's RMS: below that an entry has a scale of its own


def scale_of(x: F64) -> float:
    """Root mean square of a leaf, 1 where it is all zero or next to it; safe against overflow."""
    largest = max(float(np.max(x, initial=0.0)), -float(np.min(x, initial=0.0)))
    if largest < LEAST_NORMAL or not math.isfinite(largest):
        return 1.0
    if x.size > PIECE and MODERATE < largest < 1 / MODERATE:  # without a copy
        return math.sqrt(float(np.dot(x, x)) / x.size)
    return largest * float(np.sqrt(np.mean((x / largest) ** 2)))


def scales_of(x: F64) -> F64:
    """The displacement that suits each entry, (n,): the leaf's RMS, but an entry far smaller than that gets its own size.

    A step of the leaf's scale would carry such an entry over its own poles and kinks.
    """
    leaf = scale_of(x)
    size = np.abs(x)
    return np.asarray(np.where((size >= LEAST_NORMAL) & (size < SMALL * leaf), size, leaf))


def smallest(eps: float) -> float:
    """The spacing of the smallest numbers in a dtype of relative spacing `eps`; of float32 for those that are coarser."""
    return float(np.finfo(np.float64 if eps <= 2.0**-52 else np.float32).smallest_subnormal)


def finest_step(eps: float) -> float:
    """The smallest step for a function computed to relative precision `eps`: 2^-40 in float64, 2^-15 in float32."""
    return 2.0 ** round(0.77 * math.log2(eps))


def exact(u: F64, x: F64, eps: float) -> F64:
    """Round a tangent so that x + t u has no rounding error for t <= 1/4 that are multiples of the finest step.

    Each entry becomes a multiple of (the spacing of floats around |x| + |u|) / (the finest step), a relative change of about
    2^-12 in float64 and 2^-8 in float32: nothing to a random direction. What is measured is then the derivative along
    exactly this tangent. Where an entry crosses a power of two on its way, its last bit may be lost all the same; the
    measured noise allows for that.
    """
    _, exponent = np.frexp(np.abs(x) / 2 + np.abs(u) / 2)
    unit = np.ldexp(eps / finest_step(eps), exponent + 1)
    rounded = np.round(u / unit) * unit
    return np.asarray(np.where((rounded == 0) & (u != 0), np.copysign(unit, u), rounded))


def dense(rng: np.random.Generator, x: F64, eps: float) -> F64:
    """A Gaussian tangent of the leaf's scale: signed, since positive directions only see totals and miss shuffles."""
    return exact(rng.standard_normal(x.shape) * scales_of(x), x, eps)


def sparse(rng: np.random.Generator, x: F64, eps: float) -> F64:
    """A Gaussian tangent on about the square root of the entries, so that few entries need not outweigh all others."""
    chosen = rng.permutation(x.size)[: max(1, math.isqrt(x.size))]
    u = np.zeros(x.shape)
    u[chosen] = rng.standard_normal(chosen.size) * scales_of(x)[chosen]
    return exact(u, x, eps)


def pieces(size: int) -> list[slice]:
    """Consecutive parts of a long vector that stay in the cache."""
    return [slice(low, min(low + PIECE, size)) for low in range(0, size, PIECE)]


def even(rng: np.random.Generator, x: F64, out: F64) -> None:
    """A tangent on which every entry counts: random signs, magnitudes between LEAST and 3/2 of its scale; written to `out`.

    A single wrong entry moves every such probe by at least LEAST of its error, where a Gaussian one may all but leave it out;
    and as there, errors of several entries do not cancel but by rare chance. Made piece by piece, as it may be large.
    """
    leaf = scale_of(x)
    for piece in pieces(x.size):
        u = rng.random(out[piece].size, dtype=np.float32)
        u -= np.float32(0.5)
        signs = np.copysign(np.float32(LEAST), u)
        u *= np.float32(2)
        u += signs
        np.multiply(u, leaf, out=out[piece])
        size = np.abs(x[piece])
        small = np.flatnonzero(size < SMALL * leaf)
        small = small[size[small] >= LEAST_NORMAL]
        out[piece][small] = u[small] * size[small]


def one_hot(x: F64, eps: float) -> F64:
    """How far each entry of a leaf moves by itself per unit of t, (n,)."""
    return exact(scales_of(x), x, eps)

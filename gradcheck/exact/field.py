"""Arithmetic on arrays of residues modulo a prime, and the chains of primes in which exponentials have a meaning.

A chain is p_0, p_1, ... with p_k = 2 p_(k+1) + 1. The squares modulo p_k form a group of the prime order p_(k+1). So exp is a
homomorphism from the residues modulo p_(k+1) to the squares modulo p_k (Mirage, Wu et al., OSDI 2025, uses one such pair), a
square has exactly one b-th root among the squares. Small positive integers are squares in all fields but the last two.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Residues = NDArray[np.int64]  # from 0 to p - 1, which is below 2^31: a product fits in 63 bits

# The largest primes of Cunningham chains of the first kind, six primes each.
CHAIN_HEADS = (1969558079, 1839942719, 1766862719, 1540472639)
CHAIN_LENGTH = 6
# Products are summed exactly in float64: 16 bits times 16 bits, and up to 2^21 terms.
LIMB_BITS = 16
MAX_TERMS = 2**21


@dataclass(frozen=True)
class PrimeField:
    """The residues modulo a prime p with p = 2 q + 1, q prime."""

    p: int

    @cached_property
    def q(self) -> int:
        """The order of the group of the squares."""
        return (self.p - 1) // 2

    def of_fraction(self, x: Fraction) -> int:
        """Return the residue of a rational number.

        Raises:
            ZeroDivisionError: if p divides its denominator.
        """
        if x.denominator % self.p == 0:
            raise ZeroDivisionError
        return x.numerator * pow(x.denominator, -1, self.p) % self.p

    def power(self, x: Residues, exponent: int) -> Residues:
        """Raise to a power, with the exponent taken modulo p - 1; 0 to the power 0 is 1."""
        bits, square = exponent % (self.p - 1), x
        result = np.ones_like(x)
        while bits:
            if bits & 1:
                result = result * square % self.p
            bits >>= 1
            if bits:
                square = square * square % self.p
        return result

    def power_by_array(self, x: Residues, exponents: Residues) -> Residues:
        """Raise squares to exponents that are residues modulo q, entry by entry."""
        x, bits = np.broadcast_arrays(x, exponents)
        bits, square = bits.copy(), x.copy()
        result = np.ones_like(square)
        while bits.any():
            result = np.where(bits & 1, result * square % self.p, result)
            bits >>= 1
            square = square * square % self.p
        return result

    def is_square(self, x: Residues) -> NDArray[np.bool_]:
        """Mark the squares; 0 is none."""
        return np.asarray(self.power(x, self.q) == 1)

    def root_exponent(self, exponent: Fraction) -> int | None:
        """Return the integer that a rational power of a square is the power of; None if there is none."""
        if exponent.denominator % self.q == 0:
            return None
        return exponent.numerator * pow(exponent.denominator, -1, self.q) % self.q

    def hash(self, name: str, seed: int, *arguments: Residues) -> Residues:
        """Return pseudo-random residues that depend on the arguments, entry by entry, on the name and on the seed."""
        state = np.asarray(np.uint64(zlib.crc32(f"{name}/{seed}".encode()) | 1 << 40))
        with np.errstate(over="ignore"):
            for argument in arguments:
                state = _mix(argument.astype(np.uint64) ^ _mix(state))
        return np.asarray(state % np.uint64(self.p), dtype=np.int64)


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Scramble the bits of 64-bit integers (SplitMix64; Steele, Lea and Flood, 2014)."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(x ^ (x >> np.uint64(31)))


def make_chain(head: int) -> tuple[PrimeField, ...]:
    """Return the fields of the chain of primes that begins with `head`."""
    primes = [head]
    while len(primes) < CHAIN_LENGTH:
        primes.append((primes[-1] - 1) // 2)
    return tuple(map(PrimeField, primes))

"""Constants as their author meant them: 0.044715 is 44715/1000000, and 0.7071067811865476 is the square root of one half."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np

# A number that is written with at most this many digits is the decimal that it shows.
MAX_DECIMAL_DIGITS = {"float64": 13, "float32": 6}
EPS = {"float64": 2.0**-53, "float32": 2.0**-24}
# Quotients are recognised if numerator times denominator is at most this, quotients under a root and beside powers of pi up to
# the smaller one. By chance, one in 10^6 numbers is one of them.
MAX_PRODUCT = {"float64": 10**8, "float32": 16}
MAX_SMALL_PRODUCT = {"float64": 10**4, "float32": 16}
# Digits of a difference from one, and its least size: its rounding is then below 1e-12 of it.
DIGITS_OF_DIFFERENCE, LEAST_DIFFERENCE = 6, 2e-4
LOGARITHMS = (2, 3, 5, 6, 7, 10)


@dataclass(frozen=True)
class Constant:
    """The number `rational * sqrt(radicand) * pi^(half_powers_of_pi / 2) * log(logarithm)`; without logarithm the last is 1."""

    rational: Fraction
    radicand: Fraction = Fraction(1)
    half_powers_of_pi: int = 0
    logarithm: int = 0

    @property
    def is_rational(self) -> bool:
        """Whether it is a quotient of integers."""
        return self.radicand == 1 and not self.half_powers_of_pi and not self.logarithm


def read_decimal(value: float, dtype: str = "float64") -> Constant:
    """Read a floating-point number as the shortest decimal that stands for it."""
    return Constant(Fraction(repr(value) if dtype == "float64" else str(np.float32(value))))


@lru_cache(maxsize=4096)
def read_constant(value: float, dtype: str = "float64") -> Constant:
    """Read a floating-point number as the number that was meant.

    Args:
        value: a finite number.
        dtype: that it was written in, 'float64' or 'float32'.
    """
    shortest = repr(float(value)) if dtype == "float64" else str(np.float32(value))
    decimal = Fraction(shortest)
    digits = len(shortest.lower().split("e")[0].replace(".", "").replace("-", "").strip("0"))
    if digits <= MAX_DECIMAL_DIGITS[dtype] or value == int(value):
        return Constant(decimal)
    return _recognise_difference(float(value)) or _recognise(float(value), dtype) or Constant(decimal)


def _recognise_difference(value: float) -> Constant | None:
    """Recognise a difference from one, such as `1 - 0.999`, whose rounding is that of a number near one."""
    short = f"{value:.{DIGITS_OF_DIFFERENCE}g}"
    near = LEAST_DIFFERENCE <= abs(value) < 1 and abs(value - float(short)) <= EPS["float64"]
    return Constant(Fraction(short)) if near else None


def _recognise(value: float, dtype: str) -> Constant | None:
    """Recognise small quotients, their square roots, multiples of powers of pi, and quotients of logarithms."""
    sign, size, tolerance = (1 if value > 0 else -1), abs(value), 4 * EPS[dtype]
    rational = _near_fraction(size, tolerance, MAX_PRODUCT[dtype])
    if rational is not None:
        return Constant(sign * rational)
    most = MAX_SMALL_PRODUCT[dtype]
    for power in (0, 1, -1, 2, -2):
        scaled = size / math.pi ** (power / 2)
        rational = _near_fraction(scaled, tolerance, most) if power else None
        if rational is not None:
            return Constant(sign * rational, half_powers_of_pi=power)
        square = _near_fraction(scaled * scaled, 2 * tolerance, most)
        if square is not None:
            return Constant(Fraction(sign), square, power)
    for base in LOGARITHMS:
        for inverse in (False, True):
            rational = _near_fraction(size * math.log(base) if inverse else size / math.log(base), tolerance, most)
            if rational is not None:
                return Constant(sign * rational, logarithm=-base if inverse else base)
    return None


def _near_fraction(size: float, tolerance: float, most: int) -> Fraction | None:
    """Return the quotient next to a number, if it is one to within rounding and numerator times denominator is small enough."""
    for limit in (math.isqrt(most), most):
        fraction = Fraction(size).limit_denominator(limit)
        is_small = 0 < fraction.numerator * fraction.denominator <= most
        if is_small and abs(float(fraction) - size) <= tolerance * size:
            return fraction
    return None

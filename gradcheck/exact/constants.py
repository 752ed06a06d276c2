"""Constants as their author meant them: 0.044715 is 44715/1000000, and 0.7071067811865476 is the square root of one half.

A number with more digits than people type, such as a random one, is the binary number that it is: twice that float is twice the
number, in real numbers as in the code.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np

# A number that is written with at most this many digits is the decimal that it shows. One with more may be a well-known number.
MAX_DECIMAL_DIGITS = {"float64": 13, "float32": 6}
# If it is not, it is a decimal up to this many digits, and a binary number beyond.
MAX_TYPED_DIGITS = {"float64": 15, "float32": 7}
# Among random numbers, less than one in a million has so few digits by chance.
MAX_DIGITS_AMONG_RANDOM = {"float64": 9, "float32": 1}
# Among more different constants than this, well-known ones such as square roots are not looked for.
MAX_RECOGNISED = 200
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


def read_constant(value: float, dtype: str = "float64") -> Constant:
    """Read a floating-point number as the number that was meant.

    Args:
        value: a finite number.
        dtype: that it was written in, 'float64' or 'float32'.
    """
    return read_array([value], dtype)[0]


def read_array(values: Sequence[float], dtype: str = "float64") -> list[Constant]:
    """Read the different numbers of an array as the numbers that were meant. If most look random, few are decimals.

    Args:
        values: finite numbers.
        dtype: that they were written in, 'float64' or 'float32'.
    """
    numbers = [float(value) for value in values]
    known = [_find_known(x, dtype) if len(numbers) <= MAX_RECOGNISED else None for x in numbers]
    digits = [_count_digits(x, dtype) for x in numbers]
    long = [x is None and n > MAX_TYPED_DIGITS[dtype] for x, n in zip(known, digits, strict=True)]
    most = (MAX_DIGITS_AMONG_RANDOM if sum(long) > len(long) / 2 else MAX_TYPED_DIGITS)[dtype]
    read = [Fraction(_write(x, dtype)) if n <= most else Fraction(x) for x, n in zip(numbers, digits, strict=True)]
    return [constant or Constant(number) for constant, number in zip(known, read, strict=True)]


def _write(value: float, dtype: str) -> str:
    """Write the shortest decimal that stands for a number."""
    return repr(value) if dtype == "float64" else str(np.float32(value))


def _count_digits(value: float, dtype: str) -> int:
    return len(_write(value, dtype).lower().partition("e")[0].replace(".", "").replace("-", "").strip("0"))


@lru_cache(maxsize=4096)
def _find_known(value: float, dtype: str) -> Constant | None:
    """Find the well-known number that a number with many digits stands for."""
    digits = _count_digits(value, dtype)
    if value.is_integer() or digits <= MAX_DECIMAL_DIGITS[dtype]:
        return None
    return (_recognise_difference(value) if digits > MAX_TYPED_DIGITS[dtype] else None) or _recognise(value, dtype)


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

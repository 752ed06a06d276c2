"""Names of the constant factor by which a claim is off: a simple number, the size of an axis, or a fraction."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

SIZE = ", where "  # separates a factor from the size that it is made of
# A fitted factor counts as a number that has a name if their relative difference is at most this.
MAX_MISMATCH = 1e-4
SIMPLE_FACTORS = {2.0: "2", 0.5: "1/2", 3.0: "3", 1 / 3: "1/3", 4.0: "4", 0.25: "1/4", 10.0: "10", 0.1: "1/10"}
LARGEST_IN_FRACTION = 12  # the largest numerator and denominator of a factor that is named as a fraction
FRACTIONS = {
    p / q: f"{p}/{q}" if q > 1 else f"{p}"
    for p in range(1, LARGEST_IN_FRACTION + 1)
    for q in range(1, LARGEST_IN_FRACTION + 1)
    if math.gcd(p, q) == 1 and p != q
}
# Sizes from which on a factor that contains them is hardly a coincidence: n itself, and what is made of n and of other numbers.
MIN_SIZE_IN_FACTOR, MIN_SIZE_IN_PRODUCT = 5, 7
FACTOR_HINTS = {"2": "should the loss have the factor 1/(2N)?", "1/2": "is the 2 of a square missing?"}


def describe_factor_name(factor: float, name: str) -> str:
    """Say what a factor is made of; '' if that is its number alone."""
    product, where, size = name.partition(SIZE)
    return ("" if product == format_factor(factor) else f": {product}") + where + size


def format_factor(factor: float) -> str:
    """Format a factor with at least four digits, and with two more than those in which it equals 1 or -1."""
    difference = abs(abs(factor) - 1)
    digits = math.ceil(-math.log10(difference)) + 2 if 0 < difference < 1 else 0
    return f"{factor:.{min(max(digits, 4), 17)}g}"


def hint_at_cause(factor: float, name: str) -> str:
    """Say what usually causes a factor; '' if the factor suggests nothing."""
    if SIZE not in name:
        return FACTOR_HINTS.get(name, "")
    return "is the 1/N of a mean missing?" if abs(factor) > 1 else "is a mean taken where the loss has a sum, or taken twice?"


def name_factor(factor: float, size_names: Mapping[int, str]) -> tuple[float, str]:
    """Round a factor to a simple number, to one made of the size of an axis, or to a fraction; '' if it is none of these."""
    sign = -1.0 if factor < 0 else 1.0
    minus = "-" if factor < 0 else ""
    for value, text in (*SIMPLE_FACTORS.items(), *_size_factors(size_names), *FRACTIONS.items()):
        if abs(abs(factor) / value - 1) < MAX_MISMATCH:
            return sign * value, minus + text
    return factor, ""


def _size_factors(size_names: Mapping[int, str]) -> Iterator[tuple[float, str]]:
    """Yield factors made of the size of an axis, with their names; small sizes are in too many numbers to mean anything."""
    for factors_of, smallest in (
        (_mean_factors, MIN_SIZE_IN_FACTOR),
        (_doubled_mean_factors, MIN_SIZE_IN_PRODUCT),
        (_deviation_factors, MIN_SIZE_IN_PRODUCT),
    ):
        for n, size_name in size_names.items():
            if n >= smallest:
                yield from ((value, f"{text}{SIZE}{n} is {size_name}") for value, text in factors_of(n))


def _mean_factors(n: int) -> Sequence[tuple[float, str]]:
    """A sum where a mean belongs, or a mean where a sum belongs."""
    return ((float(n), f"{n}"), (1 / n, f"1/{n}"))


def _doubled_mean_factors(n: int) -> Sequence[tuple[float, str]]:
    """A sum for a mean, or the opposite, together with the 2 of a square."""
    return ((2.0 * n, f"2·{n}"), (n / 2, f"{n}/2"), (2 / n, f"2/{n}"), (1 / (2 * n), f"1/(2·{n})"))


def _deviation_factors(n: int) -> Sequence[tuple[float, str]]:
    """A standard deviation for a variance, or a biased one for an unbiased one."""
    return ((n**0.5, f"√{n}"), (n**-0.5, f"1/√{n}"), (n / (n - 1), f"{n}/{n - 1}"), ((n - 1) / n, f"{n - 1}/{n}"))

"""Floating-point formats by name, with what the engine needs to know about each."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class NumberFormat:
    """A binary floating-point format.

    Attributes:
        eps: relative spacing of its numbers, the distance from 1 to the next one.
        smallest_normal: the smallest positive number with all its digits.
        overflow: magnitude from which on a number counts as out of range.
        default_rtol: relative error from which on a derivative claimed in this format is wrong, unless the user sets `rtol`.
    """

    name: str
    eps: float
    smallest_normal: float
    overflow: float
    default_rtol: float

    @property
    def smallest_subnormal(self) -> float:
        """The spacing of the smallest numbers."""
        return self.smallest_normal * self.eps


FLOAT64 = NumberFormat("float64", 2.0**-52, 2.0**-1022, float("inf"), 1e-7)  # what overflows float64 is infinite already
FLOAT32 = NumberFormat("float32", 2.0**-23, 2.0**-126, 2.0**128, 1e-4)
FLOAT16 = NumberFormat("float16", 2.0**-10, 2.0**-14, 65504.0, 2e-2)
BFLOAT16 = NumberFormat("bfloat16", 2.0**-7, 2.0**-126, 2.0**128, 1e-1)
BY_EPS = {number_format.eps: number_format for number_format in (FLOAT64, FLOAT32, FLOAT16, BFLOAT16)}

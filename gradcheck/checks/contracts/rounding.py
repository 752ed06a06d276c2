"""The rounding that is allowed for when two numbers must be equal by an identity."""

from __future__ import annotations

# How many units in the last place of the largest term the two sides of an identity may differ by, and how many times the
# shift that rounding of the inputs causes. It bounds rounding that adds up over a function's operations.
ROUNDING_UNITS = 64.0

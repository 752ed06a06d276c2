"""The rounding that is allowed for when two numbers must be equal by an identity."""

from __future__ import annotations

# The two sides of an identity may differ by this many units in the last place of the largest term, and by this many times the
# shift that rounding of the inputs causes. This allows for rounding that adds up over a function's operations.
ROUNDING_UNITS = 64.0

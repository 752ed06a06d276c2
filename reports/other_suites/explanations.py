"""Why a call that passes a project's own checker does not pass gradcheck."""

from __future__ import annotations

from typing import Any

SOFT_ARGMAX = (
    "right: `eps` in the denominator makes the value depend on the maximum that the code detaches; the error is 1e-7 to 5e-7,"
    " above the `rtol` of 1e-7 and below the tolerance of 1e-3 of PyTorch's checker"
)
# By a part of the test's name.
WHY = {
    "test_odeint": (
        "right: the vjp integrates a second equation at the solver's default tolerance, 1.5e-8, and is off by up to 5e-3; with"
        " `rtol=1e-12, atol=1e-12` for the solver the same function passes"
    ),
    "TestConvSoftArgmax": SOFT_ARGMAX,
    "TestCam2Pixel": (
        "a false alarm: the derivatives of 1e-12 are what is left where terms of about 1 cancel. Those of autograd are off by"
        " their rounding, as a computation with 50 digits shows, and their rounding is underestimated"
    ),
    "zvec_zeros": "the point is on a jump: the function divides by z only where |z| exceeds `eps`, and z is 0",
    "TestInRange": "the output is a mask of zeros and ones, without a gradient",
}


def explain(call: dict[str, Any]) -> str:
    """Return the explanation of a call's outcome."""
    return next((why for name, why in WHY.items() if name in call["test"]), "not explained")

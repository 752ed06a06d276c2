"""Why the two checkers differ on a call of a suite, as found by looking into it."""

from __future__ import annotations

SOFT_ARGMAX = (
    "right: `eps` in the denominator makes the value depend on the maximum that the code detaches; the relative error is 1e-7"
    " to 1e-6, below the tolerance of 1e-3 of PyTorch's checker"
)
# By suite and a part of the test's name.
WHY = {
    ("kornia", "TestConvSoftArgmax"): SOFT_ARGMAX,
    ("kornia", "zvec_zeros"): "the point is on a jump: the function divides by z only where |z| exceeds `eps`, and z is 0",
    ("kornia", "TestFindHomographyDLTIter"): (
        "an iteration of decompositions, nearly 2,000 evaluations; without a budget it passes (`reports/other_suites.md`)"
    ),
    ("autograd", "test_odeint"): (
        "a solver inside, 0.1 s an evaluation of all derivatives; with a larger budget it is a FAIL, since the vjp integrates"
        " at the solver's default tolerance and is off by up to 5e-3"
    ),
    ("autograd", "not_implemented"): "the test expects the derivative to raise, and it does",
    ("autograd", "raises_error"): "the test expects the function to raise, and it does",
    ("scipy", "test_check_grad"): "the test expects an unknown `direction` to be refused, and it is",
}


def explain(suite: str, test: str) -> str:
    """Return the explanation of a call; '' if there is none."""
    return next((why for (name, part), why in WHY.items() if name == suite and part in test), "")

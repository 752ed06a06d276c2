"""The columns of the tables, the remarks behind a verdict, and the methods, each explained in a sentence."""

from __future__ import annotations

COLUMNS = {
    "verdict": "PASS: right to within the resolution. FAIL: wrong beyond doubt. INCONCLUSIVE: the evidence cannot decide."
    " ERROR: the target could not be checked.",
    "reason": "why this verdict was reached; `gradcheck explain REASON` says more",
    "wrt": "the input or parameter with respect to which the derivative is taken",
    "methods": "the claim, which is checked ~ the evidence that it is compared with",
    "rel err": "the difference between claim and evidence at the worst entry, divided by the larger of the two",
    "bound": "the relative difference that the evidence's own error and the claim's rounding can explain",
    "right to": "for a PASS, the resolution: a single entry that is wrong by more than this would have been caught",
    "evaluations": "how many times the function was evaluated",
    "entry": "the index of a number in the input or parameter",
    "±": "how far the number before it may be off",
    "of": "the output whose derivative is shown",
    "step": "how far the input was moved to each side for a central difference",
    "difference": "the central difference with this step, which approximates the derivative",
    "± noise": "how far rounding and other noise of the function may move the difference",
    "off by": "how far the difference is from the estimate that was chosen",
}
REMARKS = {
    "proved": "claim and derivative are the same function",
    "zero": "the derivative is zero here, and so is the claim",
    "kink": "the claim lies between the one-sided slopes at a kink",
    "tie": "several inputs are tied, as in max, and the claim is right around this point",
    "declared": "a straight-through estimator that you declared",
    "3 small": "3 entries are too small, compared with the largest, to be judged by their own size",
    "ratio 1.2": "in half precision: the error divided by that of a plain implementation in the same dtype",
}
METHODS = {
    "analytic": "the derivative written by hand",
    "reverse": "reverse-mode automatic differentiation, as in `backward()`",
    "forward": "forward-mode automatic differentiation",
    "numeric": "central differences of the function's values",
    "complex-step": "the imaginary part of the function's value after a tiny imaginary step",
    "exact": "the derivative of the code's operators, compared with the claim in prime fields, without rounding",
    "high-precision": "the derivative of the code's operators at the inputs, computed with sixty digits or more",
    "reference": "the derivative of a second implementation",
}

"""The verdicts and their reasons: codes for programs, messages and advice for people."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum


class Verdict(Enum):
    """The answer to "is this derivative right?"."""

    PASS = "PASS"
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"
    ERROR = "ERROR"


class Reason(Enum):
    """The reason of a verdict: a code for programs, a message and advice for people.

    Codes are stable. A few of them, and the members that are named after them, use older words: `dull` (low resolution) and
    `beside-kink` (near a kink).
    """

    AGREES = ("agrees", "claim and evidence agree", "")
    BOTH_ZERO = ("both-zero", "the derivative is zero here, and so is the claim", "")
    SMALL_DIFFERENCE = (
        "small-difference",
        "the claim differs from the evidence by more than its error, but by less than rtol",
        "Look for a constant in single precision, a solver's tolerance, or an added eps. A smaller --rtol makes it a failure.",
    )
    IDENTITY_PROVED = (
        "identity-proved",
        "the claim is the derivative: both are the same function, decided exactly in prime fields",
        "This concerns real numbers and the branch taken at these inputs, and not the rounding of the code.",
    )
    HIGH_PRECISION_AGREES = (
        "high-precision-agrees",
        "the claim is the derivative at these inputs, to thirty digits and more: rounding hides it from other evidence",
        "Both are computed from the code's operators, with bounds of the error. The rounding of the code is not judged.",
    )
    KINK_SUBGRADIENT = (
        "kink-subgradient",
        "the function has a kink here and the claim lies between its one-sided slopes",
        "The claim is a valid subgradient. To check only where the function is smooth, move the inputs off the kink.",
    )
    DISAGREES = ("disagrees", "wrong by more than rtol and the evidence's own error", "")
    IDENTITY_REFUTED = (
        "identity-refuted",
        "the claim is another function than the derivative, decided exactly in prime fields",
        "Compare the formula of the backward with the derivative of the forward, term by term.",
    )
    HIGH_PRECISION_DIFFERS = (
        "high-precision-differs",
        "the claim differs from the derivative by more than rtol at these inputs, computed with many digits",
        "Compare the formula of the backward with the derivative of the forward at the entry that is shown.",
    )
    VALUE_DIFFERS = (
        "value-differs",
        "the function itself returns a different value from its reference",
        "Fix the forward or the reference first: each derivative is that of the function as it is written.",
    )
    REFERENCE_DIFFERS = (
        "reference-differs",
        "the claim is the derivative of the function, but the reference has a different one: the reference stands alone",
        "If the values agree, look in the reference for detach(), rounding, or a different convention at a kink.",
    )
    INACCURATE = (
        "inaccurate",
        "further from float64 than a plain implementation in the same dtype",
        "Accumulate in float32: cast to it before exponentials, divisions and products that are summed, and back at the end.",
    )
    OVERFLOW = (
        "overflow",
        "infinite or NaN, although the true number fits its dtype: an intermediate result exceeds the dtype's largest",
        "Compute in float32 inside: float16 ends at 65504, 256 squared overflows. In training, use a smaller loss scale.",
    )
    UNDERFLOW = (
        "underflow",
        "zero, although the true number fits its dtype: an intermediate result is below the dtype's smallest, or 1/infinity",
        "Compute in float32 inside: float16 ends at 6e-08 and loses digits below 6e-05. In training, use a larger loss scale.",
    )
    OUT_OF_RANGE = (
        "out-of-range",
        "right, but outside the range of its dtype: it is infinite, or zero throughout",
        "In training with float16, scale the loss: less if gradients overflow, more if they underflow.",
    )
    DETACHED = (
        "detached",
        "no output carries a gradient, although the function depends on its inputs",
        "Look for .detach(), .item(), no_grad(), stop_gradient or float(); if it is meant, tolerates={'detached': 'why'}.",
    )
    CLAIM_NOT_FINITE = (
        "claim-not-finite",
        "the claim is NaN or infinite where the function is smooth and finite",
        "Look for 0/0, log(0) or sqrt(0) in the backward; torch.where does not stop a NaN from the unused branch.",
    )
    OUTSIDE_KINK = (
        "outside-kink",
        "the function has a kink here and the claim lies outside its one-sided slopes",
        "At a tie the gradient may be split between the inputs, but the parts must add up to one slope.",
    )
    BESIDE_KINK = (
        "beside-kink",
        "at the kink the claim lies between the one-sided slopes, but near it, where the function is smooth, it is wrong",
        "The claim and the estimate shown are those near the kink. To check the code there, move the inputs off the kink.",
    )
    TIE = (
        "tie",
        "the function is differentiable along each input, but not jointly; the claim is right near this point",
        "Break the ties between the inputs: at a tie, every convention is equally valid.",
    )
    STRAIGHT_THROUGH = (
        "straight-through",
        "the function is constant around the inputs, like rounding or a sign, but the claim is not zero",
        "If a straight-through estimator is intended, declare it: straight_through=True, or --straight-through.",
    )
    UNBIASED = (
        "unbiased",
        "the mean of the claims over random draws is the derivative of the mean",
        "The last column says how well the mean is known; a smaller --rtol asks for more draws.",
    )
    BIASED = (
        "biased",
        "the mean of the claims over random draws is not the derivative of the mean",
        "Return the sampled value and not a surrogate of it; look for a missing score, a baseline that depends on the draw, or"
        " rounding that is passed straight through.",
    )
    FEW_DRAWS = (
        "few-draws",
        "too few random draws to say whether the gradient is unbiased",
        "Raise --budget, average over more samples inside the function, or give a coarser --rtol.",
    )
    EXPECTED_FAIL_PASSED = (
        "expected-fail-passed",
        "declared with expect='fail', but nothing wrong was found",
        "Remove expect='fail' if the derivative has been fixed.",
    )
    NOTHING_STRAIGHT_THROUGH = (
        "nothing-straight-through",
        "declared with expect='straight-through', but the claim is the true derivative",
        "If the backward has lost its estimator, restore it; if none is intended any more, remove expect=.",
    )
    STALE_BASELINE = (
        "stale-baseline",
        "the baseline lists a failure that no longer occurs",
        "Remove the entry from the baseline, for example with --update-baseline.",
    )
    DULL = (
        "dull",
        "the function is too noisy, at every step tried, to decide at the requested resolution",
        "Raise rtol, evaluate in float64, or tighten the tolerance of a solver inside the function.",
    )
    QUANTISED = (
        "quantised",
        "the function's values change in coarse steps: its slope is zero within a step, but not across many",
        "Check the function without its rounding: with it, both zero and the smooth slope can be called right.",
    )
    JUMP = ("jump", "the function jumps here: it has no derivative", "Move the inputs away from the discontinuity.")
    SINGULAR = (
        "singular",
        "the slope grows without bound here, or the function is defined on one side only",
        "Move the inputs inside the domain, for instance with positive(...) or uniform(low, high).",
    )
    NON_FINITE = (
        "non-finite",
        "the function's value is NaN or infinite at the inputs",
        "Keep the inputs inside the function's domain, for instance with positive(...) or uniform(low, high).",
    )
    NOT_FINITE_NEARBY = (
        "not-finite-nearby",
        "the function is NaN or infinite, or raises, as soon as the inputs move",
        "Move the inputs inside the domain, or make the function accept floating-point inputs near them.",
    )
    NONDETERMINISTIC = (
        "nondeterministic",
        "the function returns a different value on every call, and replaying the random state did not help",
        "Draw random numbers outside the function and pass them in, or seed a generator inside it.",
    )
    DTYPE_DEPENDENT = (
        "dtype-dependent",
        "the claim in its native dtype differs from that in float64, and so does the function: each may be right for its dtype",
        "Look for constants that depend on the dtype, or inputs closer to a kink than the dtype resolves; check in float64.",
    )
    DRAWN_BY_REJECTION = (
        "drawn-by-rejection",
        "a Gamma, Beta or Dirichlet sample depends on this input: its derivative is implicit, and differences do not show it",
        "Check the rest with the sample as an input. To check the draw, compare the gradient of a mean over many samples.",
    )
    METHODS_DISAGREE = (
        "methods-disagree",
        "the sources of evidence contradict each other",
        "Run with -v and look at the partial derivatives; a noisy function can cause this.",
    )
    BLIND = (
        "blind",
        "a fault planted in the claim on purpose passed too: the evidence cannot detect this kind of fault here",
        "Change the inputs, or use more of them, so that the fault makes a difference; another --seed draws others.",
    )
    NOTHING_CLAIMED = (
        "nothing-claimed",
        "no output carries a derivative: every output is detached, or no method could compute one",
        "Pass a hand-written gradient=, or look for .detach(), .item(), no_grad() or float() in the function.",
    )
    LAW_BROKEN = (
        "law-broken",
        "the claims contradict a rule of differentiation",
        "A backward must use the gradient it receives, and keep nothing between calls outside its context.",
    )
    UPHILL = (
        "uphill",
        "the optimiser's step raises the value, however small the learning rate",
        "A step must go against the gradient: look for a wrong sign, or a state that does not belong to these parameters.",
    )
    NO_FIRST_ORDER = (
        "no-first-order",
        "the optimiser's step does not shrink with the learning rate, so the gradient predicts nothing",
        "The step must tend to zero with the learning rate; look for a fixed step, or clipping by a constant.",
    )
    NOT_SCALAR = (
        "not-scalar",
        "descent needs a single real number as output, and this target returns something else",
        "Return a loss, such as the mean or the sum of the outputs.",
    )
    ONCE_DIFFERENTIABLE = (
        "once-differentiable",
        "higher derivatives were requested, but the code of the lower ones cannot be differentiated again",
        "Check fewer orders, as with order=1. Write the backward with differentiable operations, without"
        " @once_differentiable; for fused attention, use `with torch.nn.attention.sdpa_kernel(SDPBackend.MATH):`.",
    )
    EMPTY = ("empty", "the inputs or outputs have no entries, so there is no derivative to check", "Use sizes of at least 1.")
    LAYER_WRONG = (
        "layer-wrong",
        "a layer inside is wrong for its inputs; the whole model was not checked",
        "Fix the layer that is named, then check the whole model again.",
    )
    CONTRACT_BROKEN = (
        "contract-broken",
        "the target breaks a contract that every differentiable function must honour",
        "The line of the contract says what is broken and what to change.",
    )
    STEP_BROKEN = (
        "step-broken",
        "the training step breaks a law that its pieces must obey together",
        "The line of the law names the parameter and the likely cause.",
    )
    BAD_INPUT = ("bad-input", "the inputs or options do not fit the target", "")
    TARGET_RAISED = ("target-raised", "the target itself raised", "")
    DERIVATIVE_RAISED = (
        "derivative-raised",
        "the function runs, but its derivative raises",
        "A backward must accept whatever the forward accepts: look for omitted shapes, layouts or inputs without a gradient.",
    )
    OUT_OF_MEMORY = (
        "out-of-memory",
        "there is not enough memory for the target, even along random directions",
        "Use smaller inputs, or another --device; --memory bounds what a check holds in addition to the target.",
    )
    TIMEOUT = (
        "timeout",
        "the case took longer than its time limit",
        "Raise --timeout (for several ranks --budget), or use smaller inputs.",
    )
    WORKER_DIED = (
        "worker-died",
        "the process that checked this case died",
        "Run the case alone, without -j, to see its output; use smaller inputs, or fewer ranks, if memory ran out.",
    )
    OVER_BUDGET = (
        "over-budget",
        "the check takes longer than the budget allows",
        "Raise --budget, or use smaller inputs.",
    )
    BAD_CLAIM = (
        "bad-claim",
        "the hand-written derivative has the wrong form",
        "Return one array per differentiable input, each with the shape of that input.",
    )
    BAD_REFERENCE = (
        "bad-reference",
        "the reference cannot be compared with the target",
        "The reference must take the same inputs and return arrays of the same shapes, in the same tree structure.",
    )
    INTERNAL = ("internal", "there is an error in gradcheck itself", "Please report this with the traceback.")

    def __new__(cls, code: str, message: str, advice: str) -> Reason:
        """Make the code the member's value."""
        member = object.__new__(cls)
        member._value_ = code
        return member

    def __init__(self, code: str, message: str, advice: str) -> None:
        self.code = code
        self.message = message
        self.advice = advice


# Worst first: a certain FAIL outweighs everything else.
SEVERITY = (Verdict.FAIL, Verdict.ERROR, Verdict.INCONCLUSIVE, Verdict.PASS)


def worst_verdict(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the most severe verdict; PASS if there are none."""
    return min(verdicts, key=SEVERITY.index, default=Verdict.PASS)

"""The verdicts, and why they come out as they do: codes for machines, messages and advice for people."""

from __future__ import annotations

from enum import Enum
from typing import Any


class Verdict(Enum):
    """The answer to "is this derivative right?"."""

    PASS = "PASS"
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"
    ERROR = "ERROR"


class Reason(Enum):
    """Why a verdict came out as it did: a code for machines, a message and advice for people."""

    AGREES = ("agrees", "claim and evidence agree", "")
    BOTH_ZERO = ("both-zero", "the derivative is zero here, and so is the claim", "")
    KINK_SUBGRADIENT = (
        "kink-subgradient",
        "the function has a kink here and the claim lies between its one-sided slopes",
        "A valid subgradient. To check the smooth part alone, move the inputs off the kink.",
    )
    DISAGREES = ("disagrees", "wrong by more than rtol and the evidence's own error", "")
    VALUE_DIFFERS = (
        "value-differs",
        "the function itself returns another value than its reference",
        "Mend the forward first, or the reference; a derivative is that of the function as it is.",
    )
    REFERENCE_DIFFERS = (
        "reference-differs",
        "the claim is the derivative of the function as it is, and the reference's is another: the reference stands alone",
        "Where the values agree, look in the reference for detach(), rounding, or another convention at a kink.",
    )
    INACCURATE = (
        "inaccurate",
        "further from float64 than a plain implementation in the same dtype is",
        "Add up in float32, and cast to it before exponentials, products that are summed, and divisions; cast back at the end.",
    )
    OVERFLOW = (
        "overflow",
        "infinite or NaN in its dtype, which could hold the true number: something inside is beyond its largest",
        "Compute in float32 inside; float16 ends at 65504, and a square at 256. In training, scale the loss by less.",
    )
    UNDERFLOW = (
        "underflow",
        "zero in its dtype, which could hold the true number: something inside is below its smallest, or one over infinity",
        "Compute in float32 inside; float16 ends at 6e-08, and loses digits below 6e-05. In training, scale the loss by more.",
    )
    OUT_OF_RANGE = (
        "out-of-range",
        "right, but no number of its dtype can hold it: it is infinite, or zero throughout",
        "In training with float16, scale the loss: by less where gradients overflow, by more where they underflow.",
    )
    CLAIM_NOT_FINITE = (
        "claim-not-finite",
        "the claim is NaN or infinite where the function is smooth and finite",
        "Look for 0/0, log(0) or sqrt(0) in the backward; torch.where does not stop a NaN from the unused branch.",
    )
    OUTSIDE_KINK = (
        "outside-kink",
        "the function has a kink here and the claim lies outside its one-sided slopes",
        "At a tie the gradient may be shared out, but its parts must add up to one slope.",
    )
    BESIDE_KINK = (
        "beside-kink",
        "at the kink the claim lies between the one-sided slopes, but beside it, where the function is smooth, it is wrong",
        "The claim and the estimate shown are those beside the kink. Check the code there: move the inputs off the kink.",
    )
    TIE = (
        "tie",
        "the function is not differentiable here, though along each input it is; the claim is right beside this point",
        "Break the ties between the inputs: at them every convention is as good as the next.",
    )
    STRAIGHT_THROUGH = (
        "straight-through",
        "the function is constant around the inputs, as rounding or a sign is, but the claim is not zero",
        "If a straight-through estimator is meant, declare it: straight_through=True, or --straight-through.",
    )
    EXPECTED_FAIL_PASSED = (
        "expected-fail-passed",
        "declared with expect='fail', but nothing wrong was found",
        "Remove expect='fail' if the derivative has been mended.",
    )
    NOTHING_STRAIGHT_THROUGH = (
        "nothing-straight-through",
        "declared with expect='straight-through', but the claim is the derivative",
        "Where the backward has lost its estimator, put it back; where none is meant any more, remove expect=.",
    )
    STALE_BASELINE = (
        "stale-baseline",
        "the baseline lists a failure that is not there any more",
        "Remove the entry from the baseline; --update-baseline does.",
    )
    DULL = (
        "dull",
        "the function is too noisy, at every step tried, to decide at the asked sharpness",
        "Raise rtol, evaluate in float64, or tighten a solver's tolerance inside the function.",
    )
    QUANTISED = (
        "quantised",
        "the function's values come in coarse steps: between two of them its slope is zero, across many it is not",
        "Check the function without its rounding; a zero and the smooth slope are each right in their own way.",
    )
    JUMP = ("jump", "the function jumps here: it has no derivative", "Move the inputs away from the discontinuity.")
    SINGULAR = (
        "singular",
        "the slope grows without bound here, or the function exists on one side only",
        "Move the inputs inside the domain, for instance with positive(...) or uniform(low, high).",
    )
    NON_FINITE = (
        "non-finite",
        "the function's value is NaN or infinite at the inputs",
        "Keep the inputs inside the function's domain, for instance with positive(...) or uniform(low, high).",
    )
    NOT_FINITE_NEARBY = (
        "not-finite-nearby",
        "the function is NaN, infinite or raises as soon as the inputs move",
        "Move the inputs inside the domain, or make the function accept floating-point inputs near them.",
    )
    NONDETERMINISTIC = (
        "nondeterministic",
        "the function returns another value on every call, and replaying the random state did not help",
        "Draw random numbers outside the function and pass them in, or seed a generator inside it.",
    )
    DTYPE_DEPENDENT = (
        "dtype-dependent",
        "the claim in its own dtype and in float64 differ, and so does the function: each may be right about its own",
        "Look for constants that depend on the dtype, or inputs closer to a kink than the dtype can tell; check in float64.",
    )
    METHODS_DISAGREE = (
        "methods-disagree",
        "the sources of evidence contradict each other",
        "Run with -v and look at the partial derivatives; a noisy function can cause this.",
    )
    BLIND = (
        "blind",
        "a claim spoilt on purpose passed as well: the evidence cannot see this kind of fault here",
        "Move the inputs, or give more of them, so that the fault makes a difference; --seed draws others.",
    )
    NOTHING_CLAIMED = (
        "nothing-claimed",
        "no output carries a derivative: every one is detached, or no method could compute one",
        "Give a hand-written gradient=, or look for .detach(), .item(), no_grad() or float() in the function.",
    )
    LAW_BROKEN = (
        "law-broken",
        "the claims contradict a rule of differentiation",
        "A backward must use the gradient it is given, and keep nothing from one call to the next outside its context.",
    )
    UPHILL = (
        "uphill",
        "the optimiser's step raises the value, however small the learning rate",
        "A step must go against the gradient: look for a sign, or a state that does not belong to these parameters.",
    )
    NO_FIRST_ORDER = (
        "no-first-order",
        "the optimiser's step does not shrink with the learning rate, so that the gradient predicts nothing",
        "The step must tend to zero with the learning rate; look for a fixed step, or clipping by a constant.",
    )
    NOT_SCALAR = (
        "not-scalar",
        "descent is of one real number, and the output is another thing",
        "Return a loss: the mean or the sum of the outputs.",
    )
    ONCE_DIFFERENTIABLE = (
        "once-differentiable",
        "second derivatives were asked for, but what computes the first cannot be differentiated, and says so",
        "Check first derivatives alone (order=1). Write a backward of differentiable operations, without @once_differentiable; "
        "of fused attention choose the plain form: with torch.nn.attention.sdpa_kernel(SDPBackend.MATH).",
    )
    EMPTY = ("empty", "the inputs hold no entry: there is no derivative to check", "Use sizes of at least 1.")
    LAYER_WRONG = (
        "layer-wrong",
        "a layer inside is wrong given its inputs; the whole was not looked at",
        "Mend the layer that is named, then look at the whole again.",
    )
    CONTRACT_BROKEN = (
        "contract-broken",
        "the target breaks a contract every differentiable function must honour",
        "The contracts' own messages say which.",
    )
    BAD_INPUT = ("bad-input", "the inputs or options do not fit the target", "")
    TARGET_RAISED = ("target-raised", "the target itself raised", "")
    DERIVATIVE_RAISED = (
        "derivative-raised",
        "the function runs, but its derivative raises",
        "A backward must take whatever the forward takes: look for shapes, layouts or inputs without a gradient left out.",
    )
    OUT_OF_MEMORY = (
        "out-of-memory",
        "there is too little memory for the target, even along random directions",
        "Give smaller inputs, or another --device; --memory bounds what a check holds besides the target.",
    )
    TIMEOUT = ("timeout", "the case took longer than it may", "Raise --timeout, or give it smaller inputs.")
    WORKER_DIED = (
        "worker-died",
        "the process that checked this case died",
        "Run the case alone, without -j, to see what it writes; give it smaller inputs if memory ran out.",
    )
    OVER_BUDGET = (
        "over-budget",
        "the budget does not allow even for a few random directions",
        "Raise --budget, or give smaller inputs.",
    )
    BAD_CLAIM = (
        "bad-claim",
        "the hand-written derivative has the wrong form",
        "Return one array per differentiable input, each of that input's shape.",
    )
    BAD_REFERENCE = (
        "bad-reference",
        "the reference cannot be held beside the target",
        "It must take the same inputs and return arrays of the same shapes, in the same tree.",
    )
    INTERNAL = ("internal", "gradcheck itself broke", "Please report this with the traceback.")

    def __new__(cls, code: str, message: str, advice: str) -> Reason:
        """Make the code the member's value."""
        member = object.__new__(cls)
        member._value_ = code
        return member

    def __init__(self, code: str, message: str, advice: str) -> None:
        self.code = code
        self.message = message
        self.advice = advice


SEVERITY = (Verdict.FAIL, Verdict.ERROR, Verdict.INCONCLUSIVE, Verdict.PASS)


def worst(verdicts: Any) -> Verdict:
    """The worst of some verdicts; PASS where there is none."""
    return min(verdicts, key=SEVERITY.index, default=Verdict.PASS)

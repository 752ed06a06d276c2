"""What a check found: plain data, written to JSON and read back without loss."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

SCHEMA_VERSION = 1


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
    EMPTY = ("empty", "the inputs hold no entry: there is no derivative to check", "Use sizes of at least 1.")
    CONTRACT_BROKEN = (
        "contract-broken",
        "the target breaks a contract every differentiable function must honour",
        "The contracts' own messages say which.",
    )
    BAD_INPUT = ("bad-input", "the inputs or options do not fit the target", "")
    TARGET_RAISED = ("target-raised", "the target itself raised", "")
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


@dataclass(frozen=True)
class Partial:
    """One partial derivative as each method sees it: d output[output_entry] / d wrt[entry]."""

    wrt: str
    entry: tuple[int, ...]
    output: str
    output_entry: tuple[int, ...]
    values: dict[str, float]
    bound: float
    rel_err: float


@dataclass(frozen=True)
class Estimate:
    """How a numerical derivative was found: what was seen at every step, and what was made of it.

    Attributes:
        value, bound: the derivative and what its error is at most; infinite where the evidence does not tell.
        noise: of a difference of the function's values, as the bounds allow for it.
        smoothness: 'smooth', 'kink', 'jump', 'singular' or 'one-sided'; '' where too little was seen.
        kink_distance: of the nearest kink along the line, in units of the input; 0 at one, NaN where none was seen.
        one_sided: the lowest and highest slope at a kink, NaN elsewhere.
        steps: tried, from coarse to fine, in units of the input (along a random direction: in units of its length).
        differences: central differences at these steps, one-sided ones at the border of the domain; NaN outside it.
        bounds: what noise may do to each of them.
        plateau: the coarsest and finest of the steps that the value rests on; None where no step would do.
    """

    value: float
    bound: float
    noise: float
    smoothness: str
    kink_distance: float
    one_sided: tuple[float, float]
    steps: tuple[float, ...]
    differences: tuple[float, ...]
    bounds: tuple[float, ...]
    plateau: tuple[float, float] | None

    def per(self, unit: float) -> Estimate:
        """The same where one unit of t is a displacement `unit` of the input."""
        length = abs(unit)
        low, high = sorted(slope / unit for slope in self.one_sided)
        return Estimate(
            value=self.value / unit,
            bound=self.bound / length,
            noise=self.noise,
            smoothness=self.smoothness,
            kink_distance=self.kink_distance * length,
            one_sided=(low, high),
            steps=tuple(h * length for h in self.steps),
            differences=tuple(d / unit for d in self.differences),
            bounds=tuple(b / length for b in self.bounds),
            plateau=self.plateau and (self.plateau[0] * length, self.plateau[1] * length),
        )


@dataclass(frozen=True)
class SelfTest:
    """Claims spoilt on purpose and held against the same evidence: none may pass.

    Attributes:
        tried: the kinds of fault that make a difference here.
        slipped: those of them that passed.
    """

    tried: tuple[str, ...]
    slipped: tuple[str, ...] = ()


@dataclass(frozen=True)
class WrongEntry:
    """A wrong entry of a leaf, confirmed by an estimate of its own; of complex entries the wrong part."""

    entry: tuple[int, ...]
    claimed: float
    estimate: float
    bound: float


@dataclass(frozen=True)
class Whereabouts:
    """Where in a leaf a claim is wrong.

    Attributes:
        entries: wrong ones, at most 8, those that are off by most first.
        count: how many there are; None where that is not known.
        examined: share of the leaf's entries that this rests on.
        sampled: how many entries taken at random were looked at, and how many of them are wrong.
    """

    entries: tuple[WrongEntry, ...]
    count: int | None
    examined: float
    sampled: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Comparison:
    """One leaf, one pair of methods: the claim held against an independent estimate, at its worst entry.

    Attributes:
        wrt: path of the leaf the derivative is taken with respect to.
        output: path of the output, with its entry where one is meant; 'combination' for a random combination of outputs.
        claimed, estimate: derivatives by `method` and by `against` at the worst entry (or along the worst probe).
        bound: error bound of both together; the true difference lies within abs_err ± bound.
        rel_err: abs_err over the larger of claim and estimate.
        rtol: the relative error from which on a claim is a FAIL.
        resolution: for a PASS, the smallest relative error of a single entry that would have been caught.
        certainty: the probability with which it would have been: 1 where every entry was looked at.
        worst_entry: index in the leaf; None where a probe could not be narrowed down to an entry.
        unresolved: entries too small beside the leaf's others to be judged by their own size.
        self_test: of a PASS against numerical evidence, what became of faults planted in the claim.
        where: of a FAIL, which entries are wrong.
        story: how the estimate at the worst entry was found, where steps were tried one by one.
    """

    wrt: str
    output: str
    method: str
    against: str
    verdict: Verdict
    reason: Reason
    claimed: float
    estimate: float
    bound: float
    abs_err: float
    rel_err: float
    rtol: float
    resolution: float
    worst_entry: tuple[int, ...] | None = None
    diagnosis: str | None = None
    shape: tuple[int, ...] = ()
    dtype: str = "float64"
    entries: int = 1
    unresolved: int = 0
    trial: int = 0
    mode: str = "full"
    certainty: float = 1.0
    self_test: SelfTest | None = None
    story: Estimate | None = None
    where: Whereabouts | None = None


@dataclass(frozen=True)
class Contract:
    """One thing a differentiable function must honour besides its values."""

    name: str
    verdict: Verdict
    message: str


@dataclass(frozen=True)
class Row:
    """One line of a further check's table: a label, the numbers under the columns' names, and a remark."""

    label: str
    values: tuple[float, ...]
    remark: str = ""


@dataclass(frozen=True)
class CheckTable:
    """What a further check found: a table, and the conclusion in words.

    Attributes:
        check: 'differential', 'descent', 'laws' or 'sensitivity'.
        method: of the claim that was looked at.
        columns: the label's name, and one for each number of a row.
        bars: whether the last column is a share, to be drawn as bars.
    """

    check: str
    method: str
    verdict: Verdict
    reason: Reason
    conclusion: str
    columns: tuple[str, ...] = ()
    rows: tuple[Row, ...] = ()
    bars: bool = False
    trial: int = 0


@dataclass(frozen=True)
class CheckResult:
    """Everything found out about one case."""

    case: str
    target: str
    verdict: Verdict
    reason: Reason
    comparisons: tuple[Comparison, ...] = ()
    contracts: tuple[Contract, ...] = ()
    checks: tuple[CheckTable, ...] = ()
    partials: tuple[Partial, ...] = ()
    notes: tuple[str, ...] = ()
    message: str = ""
    traceback: str = ""
    expect: str = "pass"
    because: str = ""
    framework: str = ""
    mode: str = ""
    seed: int = 0
    trials: int = 1
    evaluations: int = 0
    seconds: float = 0.0
    file: str | None = None
    line: int | None = None
    replay: str = ""

    @property
    def outcome(self) -> Verdict:
        """The verdict a run counts: an expected FAIL counts as PASS, a PASS in its place as FAIL."""
        if self.expect != "fail" or self.verdict in (Verdict.ERROR, Verdict.INCONCLUSIVE):
            return self.verdict
        return Verdict.PASS if self.verdict is Verdict.FAIL else Verdict.FAIL

    @property
    def ok(self) -> bool:
        """Whether the outcome is PASS."""
        return self.outcome is Verdict.PASS

    @property
    def resolution(self) -> float:
        """The dullest resolution of any passed comparison; NaN where nothing passed."""
        return max((c.resolution for c in self.comparisons if c.verdict is Verdict.PASS), default=math.nan)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        data: dict[str, Any] = _to_plain(self)
        return data

    def __str__(self) -> str:
        """Return the table, without colour."""
        from gradcheck.report import terminal  # results are data; only their printed form needs a report

        return terminal.to_text(self)


@dataclass(frozen=True)
class RunResult:
    """Everything one run found out: the argument of every report."""

    gradcheck_version: str
    environment: dict[str, str]
    seed: int
    config: dict[str, Any]
    results: tuple[CheckResult, ...]
    seconds: float = 0.0
    interrupted: bool = False
    schema_version: int = SCHEMA_VERSION
    planned: int = field(default=0)

    @property
    def verdict(self) -> Verdict:
        """The worst outcome, in the order FAIL, ERROR, INCONCLUSIVE, PASS."""
        return worst(r.outcome for r in self.results)

    @property
    def counts(self) -> dict[str, int]:
        """How many cases had which outcome; 'expected_fail' are among the passed."""
        tally = Counter(r.outcome.value for r in self.results)
        counts = {v.value.lower(): tally[v.value] for v in Verdict}
        counts["expected_fail"] = sum(r.expect == "fail" and r.ok for r in self.results)
        return counts

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, with `verdict` and `counts`."""
        data = _to_plain(self)
        return {**data, "verdict": self.verdict.value, "counts": self.counts}

    def to_json(self) -> str:
        """Return the JSON text; non-finite numbers are written as the strings 'nan', 'inf' and '-inf'."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> RunResult:
        """Read the JSON form back."""
        own = {k: v for k, v in data.items() if k not in ("verdict", "counts")}
        result: RunResult = _converter().structure(own, cls)
        return result


SEVERITY = (Verdict.FAIL, Verdict.ERROR, Verdict.INCONCLUSIVE, Verdict.PASS)


def worst(verdicts: Any) -> Verdict:
    """The worst of some verdicts; PASS where there is none."""
    return min(verdicts, key=SEVERITY.index, default=Verdict.PASS)


def _to_plain(value: Any) -> Any:
    return _converter().unstructure(value)


def _converter() -> Any:
    from cattrs.preconf.json import make_converter

    converter = make_converter()
    converter.register_unstructure_hook(float, lambda x: x if math.isfinite(x) else str(x))
    converter.register_structure_hook(float, lambda x, _: float(x))
    return converter

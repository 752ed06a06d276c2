"""What a check found: plain data, written to JSON and read back without loss."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from gradcheck.reasons import Reason as Reason
from gradcheck.reasons import Verdict as Verdict

SCHEMA_VERSION = 1


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
    """A wrong entry of a leaf, confirmed by an estimate of its own; of complex entries the wrong part.

    Attributes:
        claimed, estimate: its derivatives by the two methods, of the `output`; bound: of both together.
        output: path of the output, with its entry; 'combination' for a random combination of outputs.
    """

    entry: tuple[int, ...]
    claimed: float
    estimate: float
    bound: float
    output: str = ""


@dataclass(frozen=True)
class Whereabouts:
    """Where in a leaf a claim is wrong.

    Attributes:
        entries: wrong ones, at most 8, those that are off by most first.
        count: how many there are; None where that is not known.
        examined: share of the leaf's entries that this rests on.
        sampled: how many entries taken at random were looked at, and how many of them are wrong.
        slice: what exactly the wrong entries fill, such as 'w[:, 3]' or 'the diagonal of w'; '' where that is no simple part
            of the leaf, or not known.
    """

    entries: tuple[WrongEntry, ...]
    count: int | None
    examined: float
    sampled: tuple[int, int] = (0, 0)
    slice: str = ""


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
class Intent:
    """What is declared to be meant so, and why.

    Attributes:
        kind: 'fail', 'straight-through', 'detached', 'tolerates' or 'nondeterministic'.
        subject: the leaf that is detached, the contract or reason that is tolerated; else ''.
    """

    kind: str
    subject: str
    because: str


@dataclass(frozen=True)
class Contract:
    """One thing a differentiable function must honour besides its values.

    Attributes:
        tolerated: why it decides nothing here, as declared; '' where it does.
    """

    name: str
    verdict: Verdict
    message: str
    tolerated: str = ""


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
class LayerResult:
    """A submodule of a model, or a Function that one applies, checked by itself on the inputs that it has in the model.

    Attributes:
        path: 'blocks.3.norm'; '' for the model itself.
        kind: its class; 'autograd.Function' for one of the user's own that a module applies.
        calls: how often the model called it.
        verdict: None where it has no derivative of its own to check: it only holds others, or was not called.
        comparisons, contracts: of the call that came out worst.
        evaluations: over all calls.
    """

    path: str
    kind: str
    calls: int
    verdict: Verdict | None = None
    reason: Reason | None = None
    resolution: float = math.nan
    message: str = ""
    traceback: str = ""
    comparisons: tuple[Comparison, ...] = ()
    contracts: tuple[Contract, ...] = ()
    evaluations: int = 0


@dataclass(frozen=True)
class CheckResult:
    """Everything found out about one case.

    Attributes:
        expect: 'pass', 'fail' or 'straight-through', and `because` why; `intents`: all that is declared to be meant so.
        layers: with `by_layer`, every submodule in the order of the tree; `culprit`: which of them is wrong, in a sentence.
    """

    case: str
    target: str
    verdict: Verdict
    reason: Reason
    comparisons: tuple[Comparison, ...] = ()
    contracts: tuple[Contract, ...] = ()
    checks: tuple[CheckTable, ...] = ()
    partials: tuple[Partial, ...] = ()
    layers: tuple[LayerResult, ...] = ()
    culprit: str = ""
    notes: tuple[str, ...] = ()
    details: tuple[str, ...] = ()
    message: str = ""
    traceback: str = ""
    expect: str = "pass"
    because: str = ""
    intents: tuple[Intent, ...] = ()
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
        """The verdict a run counts: what was declared counts as PASS, a PASS in its place as FAIL."""
        if self.verdict is Verdict.INCONCLUSIVE and self.tolerates(self.reason.code):
            return Verdict.PASS
        if self.expect == "fail" and self.verdict in (Verdict.PASS, Verdict.FAIL):
            return Verdict.PASS if self.verdict is Verdict.FAIL else Verdict.FAIL
        missed = self.expect == "straight-through" and self.verdict is Verdict.PASS
        return Verdict.FAIL if missed and self.reason is not Reason.STRAIGHT_THROUGH else self.verdict

    def tolerates(self, name: str) -> bool:
        """Whether a contract or reason is declared to decide nothing."""
        return any(intent.kind == "tolerates" and intent.subject == name for intent in self.intents)

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

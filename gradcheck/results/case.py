"""TODO: describe."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from gradcheck import printing
from gradcheck.glossary.verdicts import Reason, Verdict
from gradcheck.results.comparison import Comparison, Partial
from gradcheck.results.serialise import _to_plain


@dataclass(frozen=True)
class Intent:
    """What is declared to be meant so, and why.

    Attributes:
        kind: 'fail', 'straight-through', 'detached', 'tolerates' or 'nondeterministic'; 'known' of what a baseline lists.
        subject: the leaf that is detached, the contract or reason that is tolerated, the failure that is known; else ''.
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
        file, line: where its derivative is written.
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
    file: str | None = None
    line: int | None = None


@dataclass(frozen=True)
class Search:
    """What a search for the input that breaks a derivative tried.

    Attributes:
        examples: different inputs that were tried, those of shrinking included.
        passed, inconclusive, failed, rejected: how many of them came out so; the function itself raised on the rejected.
        before: examples up to the first that failed; 0 where none did.
        regions: what inputs it rejects, in words.
        inputs: of the smallest that fails, each argument and how it is written; with what else differs from a plain call.
        stopped: why it ended early: 'budget', 'interrupted', or ''.
    """

    examples: int = 0
    passed: int = 0
    inconclusive: int = 0
    failed: int = 0
    rejected: int = 0
    before: int = 0
    regions: tuple[str, ...] = ()
    inputs: tuple[tuple[str, str], ...] = ()
    stopped: str = ""


@dataclass(frozen=True)
class CheckResult:
    """Everything found out about one case.

    Attributes:
        expect: 'pass', 'fail' or 'straight-through', and `because` why; `intents`: all that is declared to be meant so.
        search: of `fuzz`, what was tried; `example`: the smallest input that fails, as a test that can be pasted.
        layers: with `by_layer`, every submodule in the order of the tree; `culprit`: which of them is wrong, in a sentence.
        file, line: of the target; `claim_file`, `claim_line`: where the derivative that is checked is written: a function by
            hand, the backward of an autograd.Function, that of the wrong layer; else the target's.
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
    search: Search | None = None
    example: str = ""
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
    claim_file: str | None = None
    claim_line: int | None = None
    replay: str = ""

    @property
    def outcome(self) -> Verdict:
        """The verdict a run counts: what was declared or is known counts as PASS, a PASS in its place as FAIL."""
        if self.known is None:
            return self.as_declared
        if self.as_declared is Verdict.PASS:
            return Verdict.FAIL
        return Verdict.PASS if self.known.subject == self.failure else self.as_declared

    @property
    def as_declared(self) -> Verdict:
        """The outcome by what is declared alone, whatever a baseline knows."""
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
    def known(self) -> Intent | None:
        """What a baseline lists for this case."""
        return next((intent for intent in self.intents if intent.kind == "known"), None)

    @property
    def failure(self) -> str:
        """Verdict, reason, and what is not right by name, in a line: the same where the same fails again."""
        names = ", ".join(self.failing)
        return f"{self.verdict.value} {self.reason.code}" + (f": {names}" if names else "")

    @property
    def failing(self) -> tuple[str, ...]:
        """The leaves, contracts, layers and checks that have the case's verdict, by name; none of a PASS."""
        broken = [c for c in self.contracts if c.verdict is Verdict.FAIL and not c.tolerated]
        found: list[Comparison | Contract | LayerResult | CheckTable] = [*self.comparisons, *broken, *self.layers, *self.checks]
        if self.verdict is Verdict.PASS:
            return ()
        return tuple(dict.fromkeys(_named(one) for one in found if one.verdict is self.verdict))

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
        """Return the table of this result, without colour."""
        return printing.text_of(self)


def _named(one: Comparison | Contract | LayerResult | CheckTable) -> str:
    match one:
        case Comparison():
            return one.wrt
        case Contract():
            return f"contract {one.name}"
        case LayerResult():
            return f"layer {one.path}"
    return f"check {one.check}"

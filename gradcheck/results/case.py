"""The result of one case: its comparisons, contracts, further checks and layers, and the verdict on the whole."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from gradcheck import result_text
from gradcheck.glossary.verdicts import Reason, Verdict
from gradcheck.results.comparison import Comparison, Partial
from gradcheck.results.serialise import to_json_data


@dataclass(frozen=True)
class Intent:
    """A declaration that a finding is intended, and why.

    Attributes:
        kind: 'fail', 'straight-through', 'unbiased', 'detached', 'tolerates' or 'nondeterministic'; 'known' if a
            baseline lists it.
        subject: the leaf that is detached, the contract or reason that is tolerated, the failure that is known; else ''.
        because: the stated reason.
    """

    kind: str
    subject: str
    because: str


@dataclass(frozen=True)
class Contract:
    """The result of a contract: a property that a differentiable function must have in addition to right values.

    Attributes:
        name: a key of `gradcheck.glossary.contracts.CONTRACTS`.
        message: what was found.
        tolerated: the declared reason why the contract does not affect the verdict; '' if it does.
        is_untried: whether it passed only because it could not be tried, at least not in every way; the message says why.
    """

    name: str
    verdict: Verdict
    message: str
    tolerated: str = ""
    is_untried: bool = False


@dataclass(frozen=True)
class Row:
    """A row in the table of a further check: a label, one number for each numeric column, and a remark."""

    label: str
    values: tuple[float, ...]
    remark: str = ""


@dataclass(frozen=True)
class CheckTable:
    """The result of a further check: a table, and the conclusion in words.

    Attributes:
        check: 'differential', 'descent', 'laws' or 'sensitivity'.
        method: the method that made the claim.
        conclusion: the result in a sentence.
        columns: the heading of the labels, then one heading for each number of a row.
        rows: the rows of the table.
        bars: whether the last column is a share, to be drawn as bars.
        trial: the number of the draw of the inputs, from 0.
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
class Law:
    """The result of a law of a training step.

    Attributes:
        name: a key of `gradcheck.glossary.laws.LAWS`.
        verdict: None if the law does not apply, or only reports.
        message: what was found, or why the law does not apply.
        difference: the largest difference, relative to the gradient of its parameter; NaN if there is none to measure.
        bound: how large the difference may be by rounding, as measured.
        worst: the parameter or module that is worst; '' if there is none.
        rows: the worst parameters with difference and bound; of 'norms' the layers, with the size per number and the norm.
        seconds: wall-clock time.
    """

    name: str
    verdict: Verdict | None
    message: str
    difference: float = math.nan
    bound: float = math.nan
    worst: str = ""
    rows: tuple[Row, ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True)
class LayerResult:
    """The result of a layer, checked alone on the inputs that it has in the model.

    A layer is a submodule, a `Function` applied by one, a JAX rule, an object with `forward` and `backward`, or a function with
    its backward.

    Attributes:
        path: path in the model, such as 'blocks.3.norm'; '' for the model itself; for a custom rule of JAX its name, for a
            function the name of its backward.
        kind: name of its class; 'autograd.Function' for a user's own Function that a module applies; 'custom_vjp' or
            'custom_jvp' for a rule of JAX; 'function' or 'method' for one with its backward.
        calls: how often the model called it.
        verdict: None if it has no derivative of its own to check: it only holds other modules, or was not called.
        resolution: for a PASS, the smallest relative error of a single entry that would have been caught.
        comparisons: the comparisons of the call with the worst verdict.
        contracts: the contracts of the call with the worst verdict.
        evaluations: the number of evaluations over all calls.
        file: the file in which its derivative is written.
        line: the line of that file, from 1.
        derivative: a hand-written backward with the calls that fail, as a reader calls it: 'layers[3].backward',
            'affine_backward (call 2)'; '' if none was written.
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
    derivative: str = ""


@dataclass(frozen=True)
class Search:
    """Statistics of a search for an input with a wrong derivative.

    Attributes:
        examples: the number of different inputs tried, including those of shrinking.
        passed: the number of inputs with a right derivative.
        inconclusive: the number of inputs on which the evidence could not decide.
        failed: the number of inputs with a wrong derivative.
        rejected: the number of inputs on which the function itself raised.
        before: the number of inputs up to and including the first that failed; 0 if none did.
        regions: descriptions of the inputs that the function rejects.
        inputs: the smallest input that fails: each argument with its text, and whatever else differs from a plain call.
        stopped: why the search ended early: 'budget', 'interrupted', or '' if it did not.
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
    """The result of one case, with everything that a report needs.

    Attributes:
        case: name of the case, such as 'module:function[2]'.
        target: the target, such as 'module:function'.
        verdict: the verdict by the evidence alone; see `outcome` for what a run counts.
        reason: the reason of the verdict.
        comparisons: for each leaf and pair of methods, the comparison of the worst trial.
        contracts: the contracts that were tried.
        checks: the further checks that were requested.
        laws: of a training step, the laws that were tried.
        partials: partial derivatives by each method in the first trial, for the verbose listing.
        layers: with `by_layer`, every submodule in the order of the tree, or every custom rule of a JAX function.
        culprit: with `by_layer`, a sentence that names the wrong layer.
        search: with `fuzz`, the statistics of the search.
        example: with `fuzz`, the smallest input that fails, as a test to paste.
        notes: remarks for every report.
        details: remarks for the verbose report.
        message: why the case could not be checked; '' otherwise.
        traceback: the frames of the user's code, if it raised.
        expect: 'pass', 'fail', 'straight-through' or 'unbiased', as declared.
        because: the declared reason of `expect`.
        intents: everything that is declared to be intended.
        device: where the target computes, such as 'cuda:0'; '' for NumPy, and if nothing was checked.
        mode: 'full', 'probe', or 'draws' for means over random draws; '' if nothing was checked.
        seed: the seed of all random numbers.
        trials: the number of draws of the inputs.
        evaluations: the number of times the function was evaluated.
        seconds: wall-clock time.
        file: the file of the target; for a cell of a notebook, its path and the cell's number, as in 'fit.ipynb cell 3'.
        line: the line of the target, from 1, in the file or the cell.
        claim_file: the file in which the checked derivative is written (a function written by hand, the backward of an
            autograd.Function or that of the wrong layer), else the target's.
        claim_line: the line of that file, from 1.
        replay: a command that repeats the check.
        sweep: for a cell of a grid, the value of each axis: 'dtype', 'seed' or a named size.
    """

    case: str
    target: str
    verdict: Verdict
    reason: Reason
    comparisons: tuple[Comparison, ...] = ()
    contracts: tuple[Contract, ...] = ()
    checks: tuple[CheckTable, ...] = ()
    laws: tuple[Law, ...] = ()
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
    device: str = ""
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
    sweep: dict[str, int | str] = field(default_factory=dict)

    @property
    def outcome(self) -> Verdict:
        """The verdict that a run counts: a declared or known failure counts as PASS, and an unexpected PASS as FAIL."""
        if self.known is None:
            return self.as_declared
        if self.as_declared is Verdict.PASS:
            return Verdict.FAIL
        return Verdict.PASS if self.known.subject == self.failure else self.as_declared

    @property
    def as_declared(self) -> Verdict:
        """The outcome by the declarations alone, without regard to a baseline."""
        is_tolerable = self.verdict is Verdict.INCONCLUSIVE or self.reason is Reason.DETACHED
        if is_tolerable and self.tolerates(self.reason.code):
            return Verdict.PASS
        if self.expect == "fail" and self.verdict in (Verdict.PASS, Verdict.FAIL):
            return Verdict.PASS if self.verdict is Verdict.FAIL else Verdict.FAIL
        unmet = self.expect == "straight-through" and self.verdict is Verdict.PASS
        return Verdict.FAIL if unmet and self.reason is not Reason.STRAIGHT_THROUGH else self.verdict

    def tolerates(self, name: str) -> bool:
        """Whether a contract or reason is declared not to affect the verdict."""
        return any(intent.kind == "tolerates" and intent.subject == name for intent in self.intents)

    @property
    def known(self) -> Intent | None:
        """The entry of a baseline for this case; None if it has none."""
        return next((intent for intent in self.intents if intent.kind == "known"), None)

    @property
    def failure(self) -> str:
        """Verdict, reason and the names of what fails, in one line: equal for two runs if the same parts fail."""
        names = ", ".join(self.failing)
        return f"{self.verdict.value} {self.reason.code}" + (f": {names}" if names else "")

    @property
    def failing(self) -> tuple[str, ...]:
        """The names of the leaves, contracts, layers and checks with the verdict of the case; empty for a PASS."""
        broken = [contract for contract in self.contracts if contract.verdict is Verdict.FAIL and not contract.tolerated]
        parts: list[Part] = [*self.comparisons, *broken, *self.layers, *self.checks, *self.laws]
        if self.verdict is Verdict.PASS:
            return ()
        return tuple(dict.fromkeys(_part_name(part) for part in parts if part.verdict is self.verdict))

    @property
    def ok(self) -> bool:
        """Whether the outcome is PASS."""
        return self.outcome is Verdict.PASS

    def __bool__(self) -> bool:
        """Return `ok`, so that `assert gradcheck.check(...)` fails unless the outcome is PASS."""
        return self.ok

    @property
    def unchecked(self) -> str:
        """Which derivative of the user was not compared, in a sentence; '' if none is known, or it is tolerated."""
        contracts = [c for c in self.contracts if c.name == "own-derivative" and c.verdict is not Verdict.PASS]
        return next((contract.message for contract in contracts if not contract.tolerated), "")

    @property
    def resolution(self) -> float:
        """The coarsest resolution of any passed comparison; NaN if nothing passed."""
        passed = [comparison.resolution for comparison in self.comparisons if comparison.verdict is Verdict.PASS]
        return max(passed, default=math.nan)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        data: dict[str, Any] = to_json_data(self)
        return data

    @property
    def summary(self) -> str:
        """The outcome in one line, such as 'FAIL ∂output / ∂x[2]: reverse -0.055, numeric 0.477 ...'."""
        return result_text.summarise_result(self)

    def __str__(self) -> str:
        """Return the table of this result, without colour."""
        return result_text.format_result(self)

    def _repr_pretty_(self, printer: Any, _cycle: bool) -> None:
        """Show the table in IPython."""
        printer.text(str(self))

    def _repr_html_(self) -> str:
        """Show the table in a notebook."""
        return result_text.format_html(self)


Part = Comparison | Contract | LayerResult | CheckTable | Law


def _part_name(part: Part) -> str:
    match part:
        case Comparison():
            return part.wrt
        case Contract():
            return f"contract {part.name}"
        case LayerResult():
            return f"layer {part.path}"
        case Law():
            return f"law {part.name}"
    return f"check {part.check}"

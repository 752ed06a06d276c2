"""The records of a takeover: one frozen record for each call of a checker, and the run as a whole."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from gradcheck.glossary.verdicts import Verdict
from gradcheck.results.serialise import json_converter, to_json_data

MODES = ("report", "enforce", "predict")
DEFAULT_BUDGET = 5.0  # seconds of gradcheck for each call
MIN_LOOSENESS = 100.0  # factor from which on a tolerance is reported as looser than needed
TOLERATED = "tolerated"  # the reason of a call that fails by no more than its tolerances
NOT_SAMPLED = "not in the sample"  # why `predict` leaves out most calls
_PARAMETERS = re.compile(r"\[.*\]$", re.DOTALL)


class Outcome(Enum):
    """The judgement of the suite's own checker."""

    PASSED = "passed"
    FAILED = "failed"
    UNKNOWN = "unknown"  # it returns a number, and only the caller knows which is small enough


class Category(Enum):
    """The comparison of the two checkers; a reader looks at the first ones first."""

    FINDING = "finding"
    THEIRS_FAILED = "theirs-failed"
    INCONCLUSIVE = "inconclusive"
    NOT_COMPARED = "not-compared"
    OURS_ALONE = "ours-alone"
    AGREE_FAIL = "agree-fail"
    AGREE_PASS = "agree-pass"


@dataclass(frozen=True)
class TakeoverCall:
    """A call of a checker, with what it said and what gradcheck said.

    Attributes:
        checker: name of the checker, such as 'torch.autograd.gradcheck'.
        test: id of the test that made the call; '' outside pytest.
        file: path of the file of the call; '' if unknown.
        line: line of the call, from 1; 0 if unknown.
        source: that line as text.
        function: name of the function that is checked.
        theirs: what the checker said.
        error_share: the error that the checker returned, as a part of the largest derivative; None if it returned none.
        theirs_message: first line of the exception that it raised; '' if it returned.
        verdict: the verdict of gradcheck; None if the call was not compared.
        reason: code of gradcheck's reason; 'tolerated' if it fails by no more than the tolerances of the call.
        summary: gradcheck's outcome in one line.
        not_compared: why the call was not compared; '' if it was.
        cause: why the checker failed where gradcheck passes: 'float32', 'kink', 'step size' ...; else ''.
        tolerances: tolerances of the call by name.
        passes_zero_gradient: whether the checker also passes a derivative of zero, where the right one is not zero. None if
            this was not tried.
        looseness: factor by which the tolerances can be divided at least; 1 if it is below 100, NaN if it was not measured.
        theirs_seconds: time of the checker.
        ours_seconds: time of gradcheck.
        extra_seconds: time of the further runs of the checker.
    """

    checker: str
    test: str = ""
    file: str = ""
    line: int = 0
    source: str = ""
    function: str = ""
    theirs: Outcome = Outcome.UNKNOWN
    error_share: float | None = None
    theirs_message: str = ""
    verdict: Verdict | None = None
    reason: str = ""
    summary: str = ""
    not_compared: str = ""
    cause: str = ""
    tolerances: dict[str, float] = field(default_factory=dict)
    passes_zero_gradient: bool | None = None
    looseness: float = math.nan
    theirs_seconds: float = 0.0
    ours_seconds: float = 0.0
    extra_seconds: float = 0.0

    @property
    def category(self) -> Category:
        """The comparison of the two checkers."""
        if self.not_compared or self.verdict is None or self.verdict is Verdict.ERROR:
            return Category.NOT_COMPARED
        if self.verdict is Verdict.INCONCLUSIVE:
            return Category.INCONCLUSIVE
        passes = self.verdict is Verdict.PASS
        match self.theirs:
            case Outcome.PASSED:
                return Category.AGREE_PASS if passes else Category.FINDING
            case Outcome.FAILED:
                return Category.THEIRS_FAILED if passes else Category.AGREE_FAIL
        return Category.OURS_ALONE

    @property
    def test_function(self) -> str:
        """The id of the test without its parameters; '' outside pytest."""
        return _PARAMETERS.sub("", self.test)


@dataclass(frozen=True)
class TakeoverRun:
    """All calls of a takeover.

    Attributes:
        mode: 'report', 'enforce' or 'predict'.
        budget: seconds of gradcheck that a call may take.
        calls: the calls, in the order of the tests.
        checkers: for each checker, 'intercepted', 'not imported', 'not installed', or why it could not be intercepted.
        seconds: wall-clock time of the suite or the script.
        processes: number of processes that made calls.
        root: the folder in which it was started.
        test_root: the folder to which the ids of tests are relative; '' outside pytest.
        command: the command that started it.
        rerun: the command that runs a script again, with the answers of gradcheck; '' under pytest.
        started: its start, in ISO format.
        gradcheck_version: version of gradcheck.
        environment: versions of the packages.
        schema_version: version of the JSON form.
    """

    mode: str
    budget: float
    calls: tuple[TakeoverCall, ...] = ()
    checkers: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    processes: int = 1
    root: str = ""
    test_root: str = ""
    command: str = ""
    rerun: str = ""
    started: str = ""
    gradcheck_version: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    schema_version: int = 1

    @property
    def counts(self) -> dict[Category, int]:
        """The number of calls in each category."""
        counter = Counter(call.category for call in self.calls)
        return {category: counter[category] for category in Category}

    @property
    def theirs_seconds(self) -> float:
        """The time that the suite's own checkers take without gradcheck."""
        return sum(call.theirs_seconds for call in self.calls)

    @property
    def ours_seconds(self) -> float:
        """The time that gradcheck takes."""
        return sum(call.ours_seconds for call in self.calls)

    @property
    def extra_seconds(self) -> float:
        """The time of the further runs of the suite's checkers."""
        return sum(call.extra_seconds for call in self.calls)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form: the fields, the category of each call, and the totals."""
        data: dict[str, Any] = to_json_data(self)
        for entry, call in zip(data["calls"], self.calls, strict=True):
            entry["category"] = call.category.value
        totals = {
            "calls": len(self.calls),
            **{category.value: count for category, count in self.counts.items()},
            "passes_zero_gradient": sum(bool(call.passes_zero_gradient) for call in self.calls),
            "theirs_seconds": self.theirs_seconds,
            "ours_seconds": self.ours_seconds,
            "extra_seconds": self.extra_seconds,
        }
        return {"kind": "takeover", "totals": totals, **data}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> TakeoverRun:
        """Read the JSON form."""
        run: TakeoverRun = json_converter().structure(data, cls)
        return run


def call_from_dict(data: dict[str, Any]) -> TakeoverCall:
    """Read the JSON form of a call."""
    call: TakeoverCall = json_converter().structure(data, TakeoverCall)
    return call

"""The search itself: Hypothesis draws examples, is guided towards larger errors, saves a failure and shrinks it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, Phase, Verbosity, given, reject, settings, target
from hypothesis import seed as with_seed
from hypothesis.database import ExampleDatabase
from hypothesis.errors import Flaky, Unsatisfiable

from gradcheck.fuzzing.space import REJECTION_REASONS, Example
from gradcheck.glossary.verdicts import Verdict
from gradcheck.results import CheckResult

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy


CheckExample = Callable[[Example], "CheckResult"]
ShrinkExample = Callable[[Example, Callable[[Example], bool]], Example]
MIN_SHRINK_SECONDS = 10.0  # A failure may be shrunk for this long even if the budget is spent.
DRAWS_PER_EXAMPLE = 3  # Hypothesis may draw the same example again; it stops after this many draws per requested example
# An error of less than this share of its bound is chance, and following it would waste half of the examples.
SUSPICIOUS_RATIO = 0.5
MAX_RATIO = 1e9  # Larger ratios of an error to its bound count as this one.


@dataclass(frozen=True)
class CheckedExample:
    """An example and the result of its check."""

    example: Example
    result: CheckResult

    @property
    def rejected(self) -> bool:
        """Whether the function itself refuses the example."""
        return self.result.verdict is Verdict.ERROR and self.result.reason in REJECTION_REASONS

    @property
    def failed(self) -> bool:
        """Whether a derivative or a contract is wrong, or a derivative raises although the function runs."""
        return self.result.verdict in (Verdict.FAIL, Verdict.ERROR) and not self.rejected


@dataclass
class SearchTrace:
    """The state of a search.

    Attributes:
        deadline: when the budget is spent, on the clock of `time.perf_counter`.
        first_failure: when the first example failed, on the same clock; infinity: none has failed.
        checked: the checked examples, in order, by their `repr`.
        stopped: why the search ended early: 'budget', 'interrupted' or ''.
        smallest: the failing example that shrinking ended with.
    """

    deadline: float
    first_failure: float = math.inf
    checked: dict[str, CheckedExample] = field(default_factory=dict)
    stopped: str = ""
    smallest: Example | None = None

    @property
    def failures(self) -> list[CheckedExample]:
        """The examples that failed, in order."""
        return [checked for checked in self.checked.values() if checked.failed]

    @property
    def has_time(self) -> bool:
        """Whether there is time for another example; shrinking a failure may take MIN_SHRINK_SECONDS in any case."""
        shrink_deadline = 0.0 if math.isinf(self.first_failure) else self.first_failure + MIN_SHRINK_SECONDS
        return time.perf_counter() <= max(self.deadline, shrink_deadline)

    def check(self, example: Example, check: CheckExample) -> CheckedExample:
        """Check an example, or return the earlier result of an equal one."""
        key = repr(example)
        if key not in self.checked:
            self.checked[key] = CheckedExample(example, check(example))
        return self.checked[key]


class _FailingExample(Exception):  # noqa: N818 - raised to tell Hypothesis what to shrink, not an error
    """An example failed."""


class _EnoughExamples(KeyboardInterrupt):
    """The requested number of examples is reached. It is an interrupt because Hypothesis ends at once on one."""


class _BudgetSpent(_EnoughExamples):
    """The budget is spent."""


def run_search(
    strategy: SearchStrategy[Example],
    check: CheckExample,
    shrink: ShrinkExample,
    *,
    examples: int,
    budget: float,
    seed: int,
    key: str,
    on_progress: Callable[[int], None],
) -> SearchTrace:
    """Search until an example fails, and shrink it. Failures of earlier searches with the same key are tried first.

    Args:
        strategy: draws examples.
        check: checks an example.
        shrink: shrinks further what Hypothesis shrank: `shrink(example, fails)` returns an example that fails.
        examples: maximum number of examples to check before one fails.
        budget: seconds for the search; shrinking may take what is left, and at least MIN_SHRINK_SECONDS.
        seed: seed of Hypothesis.
        key: the name under which failures are saved.
        on_progress: called with the number of checked examples.
    """
    trace = SearchTrace(time.perf_counter() + budget)

    def fails(example: Example) -> bool:
        if repr(example) not in trace.checked and _is_over(trace, examples):
            return False
        on_progress(len(trace.checked))
        return _guide_hypothesis(trace, trace.check(example, check))

    @_hypothesis_settings(examples, key)
    @with_seed(seed)
    @given(strategy)
    def search(example: Example) -> None:
        if fails(example):
            trace.smallest = example
            raise _FailingExample

    try:
        search()
    except _FailingExample:
        return _shrink_further(trace, check, shrink)
    except _BudgetSpent:
        trace.stopped = "budget"
    except (Unsatisfiable, Flaky, _EnoughExamples):
        pass
    except KeyboardInterrupt:
        trace.stopped, trace.smallest = "interrupted", None
    return trace


class NamespacedDatabase(ExampleDatabase):
    """A part of the user's Hypothesis database, by default `.hypothesis`, with keys of its own."""

    def __init__(self, parent: ExampleDatabase, name: str) -> None:
        super().__init__()
        self._parent, self._name = parent, name.encode()

    def save(self, key: bytes, value: bytes) -> None:
        """Save a value."""
        self._parent.save(self._parent_key(key), value)

    def fetch(self, key: bytes) -> Iterable[bytes]:
        """Return all values of a key."""
        return self._parent.fetch(self._parent_key(key))

    def delete(self, key: bytes, value: bytes) -> None:
        """Delete a value."""
        self._parent.delete(self._parent_key(key), value)

    def _parent_key(self, key: bytes) -> bytes:
        return b"\0".join((b"gradcheck", self._name, key))


def _hypothesis_settings(examples: int, key: str) -> settings:
    database = settings().database
    return settings(
        max_examples=DRAWS_PER_EXAMPLE * examples,
        database=None if database is None else NamespacedDatabase(database, key),
        deadline=None,
        derandomize=False,
        print_blob=False,
        report_multiple_bugs=False,
        verbosity=Verbosity.quiet,
        phases=[Phase.reuse, Phase.generate, Phase.target, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )


def _shrink_further(trace: SearchTrace, check: CheckExample, shrink: ShrinkExample) -> SearchTrace:
    """Shrink the example that Hypothesis ended with."""
    assert trace.smallest is not None
    try:
        trace.smallest = shrink(trace.smallest, lambda example: trace.has_time and trace.check(example, check).failed)
    except KeyboardInterrupt:
        trace.stopped = "interrupted"
    return trace


def _is_over(trace: SearchTrace, examples: int) -> bool:
    """Return whether new examples are refused; if nothing has failed yet, end the search instead.

    If time runs out while a failure is shrunk, new examples count as passing, so that Hypothesis soon ends.
    """
    is_searching = math.isinf(trace.first_failure)
    if is_searching and not trace.has_time:
        raise _BudgetSpent
    if is_searching and len(trace.checked) >= examples:
        raise _EnoughExamples
    return not trace.has_time


def _guide_hypothesis(trace: SearchTrace, checked: CheckedExample) -> bool:
    """Report the result of an example to Hypothesis; return whether it failed."""
    if checked.rejected:
        reject()
    for label, ratio in _error_ratios(checked.result).items():
        target(ratio, label=label)
    if checked.failed:
        trace.first_failure = min(trace.first_failure, time.perf_counter())
    return checked.failed


def _error_ratios(result: CheckResult) -> dict[str, float]:
    """Return the largest ratio of error to bound for each leaf, if it is suspicious."""
    ratios: dict[str, float] = {}
    for comparison in result.comparisons:
        if comparison.bound > 0 and math.isfinite(ratio := comparison.abs_err / comparison.bound):
            ratios[comparison.wrt] = max(ratios.get(comparison.wrt, 0.0), min(ratio, MAX_RATIO))
    return {wrt: ratio for wrt, ratio in ratios.items() if ratio >= SUSPICIOUS_RATIO}

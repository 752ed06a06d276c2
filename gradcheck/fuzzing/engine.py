"""Hypothesis at work: draws examples, is led towards the larger errors, keeps what fails and shrinks it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, Phase, Verbosity, given, reject, settings, target
from hypothesis import seed as with_seed
from hypothesis.errors import Flaky, Unsatisfiable

from gradcheck.fuzzing.database import Apart
from gradcheck.fuzzing.space import REJECTED, Example
from gradcheck.glossary.verdicts import Verdict

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

    from gradcheck.results import CheckResult

Examine = Callable[[Example], "CheckResult"]
Reduce = Callable[[Example, Callable[[Example], bool]], Example]
SHRINKING = 10.0  # seconds that a failure may be shrunk for, where the budget is used up by then
REPEATS = 3  # how often an input is drawn again, at most, on average
SUSPICIOUS = 0.5  # of its bound: an error from which on Hypothesis is led to larger ones; below, it is chance
SCORE = 1e9  # an error so many times its bound is as bad as any


@dataclass(frozen=True)
class Tried:
    """One example and what became of it."""

    example: Example
    result: CheckResult

    @property
    def rejected(self) -> bool:
        """Whether the function itself did not take it."""
        return self.result.verdict is Verdict.ERROR and self.result.reason in REJECTED

    @property
    def failed(self) -> bool:
        """Whether a derivative or a contract is wrong; a derivative that raises where the function runs is."""
        return self.result.verdict in (Verdict.FAIL, Verdict.ERROR) and not self.rejected


@dataclass
class Trace:
    """All that was tried, in order, and why it ended early: 'budget', 'interrupted' or ''.

    Attributes:
        ends: when the budget is spent, on the clock of `time.perf_counter`.
        found: when the first example failed.
    """

    ends: float
    found: float = math.inf
    tried: dict[str, Tried] = field(default_factory=dict)
    stopped: str = ""
    smallest: Example | None = None

    @property
    def failures(self) -> list[Tried]:
        """Those that failed, in order."""
        return [t for t in self.tried.values() if t.failed]

    @property
    def open(self) -> bool:
        """Whether there is time for another example; a failure is shrunk for SHRINKING at least."""
        return time.perf_counter() <= max(self.ends, 0.0 if math.isinf(self.found) else self.found + SHRINKING)

    def look(self, example: Example, examine: Examine) -> Tried:
        """What becomes of an example; of one that was tried before, what became of it."""
        name = repr(example)
        if name not in self.tried:
            self.tried[name] = Tried(example, examine(example))
        return self.tried[name]


class _Found(Exception):  # noqa: N818 - what Hypothesis is asked to shrink
    """An example failed."""


class _Done(KeyboardInterrupt):
    """As many different inputs as were asked for: Hypothesis lets an interrupt through at once."""


class _Spent(_Done):
    """The budget is spent."""


def hunt(
    strategy: SearchStrategy[Example],
    examine: Examine,
    reduce: Reduce,
    *,
    examples: int,
    budget: float,
    seed: int,
    key: str,
    heard: Callable[[int], None],
) -> Trace:
    """Search until an example fails, and shrink it; what failed in an earlier hunt of the same key is tried first.

    Args:
        key: names what the failures are kept under.
        reduce: shrinks what Hypothesis shrank: (example, whether one fails) -> an example.
        examples: to draw, at most.
        budget: seconds, of which a failure is shrunk for as long as is left.
        heard: told how many examples were tried.
    """
    trace = Trace(time.perf_counter() + budget)

    def fails(example: Example) -> bool:
        if repr(example) not in trace.tried and _ended(trace, examples):
            return False
        heard(len(trace.tried))
        return _judged(trace, trace.look(example, examine))

    @_settings(examples, key)
    @with_seed(seed)
    @given(strategy)
    def hunted(example: Example) -> None:
        if fails(example):
            trace.smallest = example
            raise _Found

    try:
        hunted()
    except _Found:
        return _cut(trace, examine, reduce)
    except _Spent:
        trace.stopped = "budget"
    except (Unsatisfiable, Flaky, _Done):
        pass
    except KeyboardInterrupt:
        trace.stopped, trace.smallest = "interrupted", None
    return trace


def _settings(examples: int, key: str) -> settings:
    whole = settings().database
    return settings(
        max_examples=REPEATS * examples,
        database=None if whole is None else Apart(whole, key),
        deadline=None,
        derandomize=False,
        print_blob=False,
        report_multiple_bugs=False,
        verbosity=Verbosity.quiet,
        phases=[Phase.reuse, Phase.generate, Phase.target, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )


def _cut(trace: Trace, examine: Examine, reduce: Reduce) -> Trace:
    """Shrink what Hypothesis shrank."""
    assert trace.smallest is not None
    try:
        trace.smallest = reduce(trace.smallest, lambda example: trace.open and trace.look(example, examine).failed)
    except KeyboardInterrupt:
        trace.stopped = "interrupted"
    return trace


def _ended(trace: Trace, examples: int) -> bool:
    """Whether no new example is to be looked at; ends the search, where nothing has failed yet.

    While a failure is shrunk, what is new does not count from then on, so that Hypothesis is soon through.
    """
    searching = math.isinf(trace.found)
    if searching and not trace.open:
        raise _Spent
    if searching and len(trace.tried) >= examples:
        raise _Done
    return not trace.open


def _judged(trace: Trace, known: Tried) -> bool:
    """Tell Hypothesis what became of an example."""
    if known.rejected:
        reject()
    for label, score in _scores(known.result).items():
        target(score, label=label)
    if known.failed:
        trace.found = min(trace.found, time.perf_counter())
    return known.failed


def _scores(result: CheckResult) -> dict[str, float]:
    """How many times its bound each leaf's error is, where that is suspicious: half of the examples would go into chance."""
    ratios: dict[str, float] = {}
    for c in result.comparisons:
        if c.bound > 0 and math.isfinite(c.abs_err / c.bound):
            ratios[c.wrt] = max(ratios.get(c.wrt, 0.0), min(c.abs_err / c.bound, SCORE))
    return {wrt: ratio for wrt, ratio in ratios.items() if ratio >= SUSPICIOUS}

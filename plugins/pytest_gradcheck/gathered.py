"""Results on their way from the tests, which may run on xdist's workers, to one `RunResult`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest

from pytest_gradcheck import settings

if TYPE_CHECKING:
    from gradcheck.results import CheckResult, RunResult

PREFIX = "gradcheck"  # of an item's properties, and the name of a report's attribute
OF_ITEM = pytest.StashKey[dict[str, "CheckResult"]]()


@dataclass
class Gathered:
    """What came in so far.

    Attributes:
        results: as JSON, by test.
        order: place of each test, as collected.
        environment: versions, of this process or of the workers.
    """

    results: dict[str, list[str]] = field(default_factory=dict)
    order: dict[str, int] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)


KEY = pytest.StashKey[Gathered]()


class Listener:
    """Hears the reports of all tests, of this process and of xdist's workers."""

    def __init__(self, gathered: Gathered) -> None:
        self._gathered = gathered

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take the results that a report brings; those of an earlier run of the same test are forgotten."""
        if report.when == "setup":
            self._gathered.results.pop(report.nodeid, None)
        results = getattr(report, PREFIX, None)
        if results:
            self._gathered.results[report.nodeid] = results


def begin(item: pytest.Item) -> None:
    """Forget what an earlier run of the same test left, where a plugin runs it again."""
    item.stash[OF_ITEM] = {}
    item.user_properties[:] = [pair for pair in item.user_properties if not pair[0].startswith(PREFIX)]


def record(item: pytest.Item, result: CheckResult, *, drawn: bool = False) -> CheckResult:
    """Keep a result with its test; one of the same name gets a number, or joins it in a test of many examples.

    Args:
        drawn: whether examples that are INCONCLUSIVE do not count beside others.
    """
    known = item.stash[OF_ITEM]
    if result.case in known and getattr(getattr(item, "obj", None), "is_hypothesis_test", False):
        known[result.case] = _joined(known[result.case], result, drawn=drawn)
        return result
    number = sum(name.partition(" #")[0] == result.case for name in known)
    result = replace(result, case=f"{result.case} #{number + 1}" if number else result.case)
    known[result.case] = result
    return result


def _joined(before: CheckResult, now: CheckResult, *, drawn: bool) -> CheckResult:
    """The worse of two results of the same check; of two that fail the later, which is the smaller example."""
    from gradcheck.glossary.verdicts import SEVERITY
    from gradcheck.results import Verdict

    order = (*(v for v in SEVERITY if v is not Verdict.INCONCLUSIVE), Verdict.INCONCLUSIVE) if drawn else SEVERITY
    places = order.index(before.outcome), order.index(now.outcome)
    duller = now.outcome is not Verdict.PASS or not before.resolution >= now.resolution
    worse = now if places[1] < places[0] or (places[0] == places[1] and duller) else before
    return replace(worse, evaluations=before.evaluations + now.evaluations, seconds=before.seconds + now.seconds)


def properties(result: CheckResult) -> Iterator[tuple[str, str]]:
    """What JUnit's file says about a check."""
    yield PREFIX, result.case
    facts = {
        "verdict": result.verdict.value,
        "reason": result.reason.code,
        "resolution": f"{result.resolution:.1e}",
        "evaluations": result.evaluations,
        "seed": result.seed,
    }
    yield from ((f"{PREFIX}.{name}", str(value)) for name, value in facts.items())


def finish(item: pytest.Item) -> list[str]:
    """Put a test's results among its properties, and return them as JSON, which any worker can send."""
    results = item.stash.get(OF_ITEM, {}).values()
    item.user_properties.extend(pair for result in results for pair in properties(result))
    return [json.dumps(result.to_dict()) for result in results]


def versions() -> dict[str, str]:
    """The environment of this process."""
    from gradcheck.run.runner import environment

    return environment()


def run_of(config: pytest.Config, *, interrupted: bool) -> RunResult:
    """Everything that came in, in the order of collection, as one run."""
    from gradcheck.options import Options, overridden
    from gradcheck.results import SCHEMA_VERSION, RunResult
    from gradcheck.run.runner import root, version

    known, chosen = config.stash[KEY], config.stash[settings.KEY]
    tests = sorted(known.results, key=lambda nodeid: known.order.get(nodeid, len(known.order)))
    results = [json.loads(text) for nodeid in tests for text in known.results[nodeid]]
    options = overridden(Options(), chosen.chosen)
    return RunResult.from_dict(
        {
            "gradcheck_version": version(),
            "environment": {**versions(), **known.environment, "pytest": pytest.__version__},
            "seed": options.seed,
            "config": {"targets": [*chosen.targets, *chosen.usual], "strict": chosen.strict, **_plain(asdict(options))},
            "results": results,
            "seconds": sum(result["seconds"] for result in results),
            "interrupted": interrupted,
            "schema_version": SCHEMA_VERSION,
            "planned": len(results),
            "root": root(),
        }
    )


def _plain(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in options.items()}

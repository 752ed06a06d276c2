"""Aggregation of the results of all tests, which may run on xdist's workers, into one `RunResult`."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING

import pytest

from pytest_gradcheck import settings, targets

if TYPE_CHECKING:
    from gradcheck.results import CheckResult, RunResult

PREFIX = "gradcheck"  # of an item's properties, and the name of a report's attribute
ITEM_RESULTS = pytest.StashKey[dict[str, "CheckResult"]]()


@dataclass
class SessionResults:
    """The results of the session so far.

    Attributes:
        results: the results of each test as JSON, by node id.
        order: the position of each test in the collection, by node id.
        environment: versions of the packages, on the workers.
        start_time: the start of the session, in seconds since the epoch.
    """

    results: dict[str, list[str]] = field(default_factory=dict)
    order: dict[str, int] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    start_time: float = field(default_factory=time.time)


SESSION_RESULTS = pytest.StashKey[SessionResults]()


class Listener:
    """Collects the results from the reports of all tests, in this process and on xdist's workers."""

    def __init__(self, session_results: SessionResults) -> None:
        self._session_results = session_results

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Store the results of a report; discard those of an earlier run of the same test."""
        if report.when == "setup":
            self._session_results.results.pop(report.nodeid, None)
        results = getattr(report, PREFIX, None)
        if results:
            self._session_results.results[report.nodeid] = results


def start_item(item: pytest.Item) -> None:
    """Discard the results of an earlier run of the same test, in case a plugin runs it again."""
    item.stash[ITEM_RESULTS] = {}
    item.user_properties[:] = [pair for pair in item.user_properties if not pair[0].startswith(PREFIX)]


def record_result(item: pytest.Item, result: CheckResult, *, drawn: bool = False) -> CheckResult:
    """Store a result with its test, and return it with its final name.

    A second result of the same name gets a number; in a Hypothesis test, it is merged with the first.

    Args:
        drawn: whether INCONCLUSIVE examples do not count if there are others.
    """
    results = item.stash[ITEM_RESULTS]
    if result.case in results and getattr(getattr(item, "obj", None), "is_hypothesis_test", False):
        results[result.case] = _merge_examples(results[result.case], result, drawn=drawn)
        return result
    number = sum(name.partition(" #")[0] == result.case for name in results)
    result = replace(result, case=f"{result.case} #{number + 1}" if number else result.case)
    results[result.case] = result
    return result


def _merge_examples(before: CheckResult, now: CheckResult, *, drawn: bool) -> CheckResult:
    """Return the worse of two results of the same check; if both fail, the later one, which is the smaller example."""
    from gradcheck.glossary.verdicts import SEVERITY
    from gradcheck.results import Verdict

    decided = tuple(verdict for verdict in SEVERITY if verdict is not Verdict.INCONCLUSIVE)
    severity = (*decided, Verdict.INCONCLUSIVE) if drawn else SEVERITY
    rank_before, rank_now = severity.index(before.outcome), severity.index(now.outcome)
    prefer_later = now.outcome is not Verdict.PASS or not before.resolution >= now.resolution
    worse = now if rank_now < rank_before or (rank_now == rank_before and prefer_later) else before
    return replace(worse, evaluations=before.evaluations + now.evaluations, seconds=before.seconds + now.seconds)


def junit_properties(result: CheckResult) -> Iterator[tuple[str, str]]:
    """Yield the properties of a check for JUnit's file."""
    yield PREFIX, result.case
    facts = {
        "verdict": result.verdict.value,
        "reason": result.reason.code,
        "resolution": f"{result.resolution:.1e}",
        "evaluations": result.evaluations,
        "seed": result.seed,
    }
    yield from ((f"{PREFIX}.{name}", str(value)) for name, value in facts.items())


def finish_item(item: pytest.Item) -> list[str]:
    """Add the results of a test to its properties, and return them as JSON, which a worker can send."""
    results = item.stash.get(ITEM_RESULTS, {}).values()
    item.user_properties.extend(pair for result in results for pair in junit_properties(result))
    return [json.dumps(result.to_dict()) for result in results]


def read_versions() -> dict[str, str]:
    """Return the versions of Python and the packages in this process."""
    from gradcheck.run.runner import describe_environment

    return describe_environment()


def build_run(config: pytest.Config, *, interrupted: bool) -> RunResult:
    """Build one run from all results, in the order of collection."""
    from gradcheck import sweeps
    from gradcheck.options import Options, override_options
    from gradcheck.results import SCHEMA_VERSION, RunResult
    from gradcheck.run import provenance
    from gradcheck.run.runner import find_repository_root
    from gradcheck.run.workers.worker import installed_version

    session_results, chosen = config.stash[SESSION_RESULTS], config.stash[settings.SETTINGS]
    order = session_results.order
    tests = sorted(session_results.results, key=lambda nodeid: order.get(nodeid, len(order)))
    results = [json.loads(text) for nodeid in tests for text in session_results.results[nodeid]]
    section = targets.read_section(config) if targets.collects_section(config) else targets.Section()
    options = override_options(Options(), sweeps.choose_common({**section.options, **chosen.options}))
    root = find_repository_root()
    return RunResult.from_dict(
        {
            "gradcheck_version": installed_version(),
            "environment": {**read_versions(), **session_results.environment, "pytest": pytest.__version__},
            "seed": options.seed,
            "config": {
                "targets": list(dict.fromkeys([*section.targets, *chosen.targets, *chosen.ini_targets])),
                "strict": chosen.strict or section.strict,
                "report_only": chosen.report_only or section.report_only,
                **{name: list(value) if isinstance(value, tuple) else value for name, value in asdict(options).items()},
            },
            "results": results,
            "seconds": sum(result["seconds"] for result in results),
            "interrupted": interrupted,
            "schema_version": SCHEMA_VERSION,
            "planned": len(results),
            "root": root,
            **provenance.describe_start(root, session_results.start_time),
        }
    )

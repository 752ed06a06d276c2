"""A baseline: a file in the repository that lists the known failures, each with its reason.

A listed case passes while it fails as listed. If it fails in another way, passes or is gone, that is a failure.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from gradcheck.errors import UsageError
from gradcheck.results import CheckResult, Intent, Reason, RunResult, Verdict

VERSION = 1
FORMAT_KEY = "gradcheck_baseline"
ENTRY_KEYS = {"case", "failure", "because"}
# Errors of a single run or of the command line. They say nothing about the target, so no baseline lists them.
TRANSIENT_REASONS = (
    Reason.WORKER_DIED,
    Reason.TIMEOUT,
    Reason.INTERNAL,
    Reason.BAD_INPUT,
)

KnownFailures = Mapping[str, Intent]  # by the name of the case


def read(path: Path) -> dict[str, Intent]:
    """Read a baseline.

    Raises:
        UsageError: if the file cannot be read, has another version, or an entry is incomplete.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read the baseline {path}: {error.strerror or error}; --update-baseline writes one") from None
    except ValueError as error:
        raise UsageError(f"the baseline {path} is not valid JSON: {error}") from None
    version = data.get(FORMAT_KEY) if isinstance(data, dict) else None
    if version != VERSION or type(version) is not int:
        problem = f"has version {version!r}" if version is not None else "is not a baseline"
        raise UsageError(
            f"{path} {problem}: expected {FORMAT_KEY!r}: {VERSION}; move it away, and --update-baseline writes one"
        )
    if {*data} != {FORMAT_KEY, "known"} or not isinstance(data["known"], list):
        raise UsageError(f"the baseline {path}: expected {FORMAT_KEY!r} and a list 'known', got {', '.join(map(repr, data))}")
    return _parse_entries(path, data["known"])


def _parse_entries(path: Path, entries: list[Any]) -> dict[str, Intent]:
    """Return the known failures by the name of their case.

    Raises:
        UsageError: if an entry is incomplete or there twice.
    """
    known: dict[str, Intent] = {}
    for entry in entries:
        has_all_keys = isinstance(entry, dict) and {*entry} == ENTRY_KEYS
        if not has_all_keys or not all(isinstance(value, str) and value.strip() for value in entry.values()):
            raise UsageError(
                f"the baseline {path}: {entry!r}: expected case, failure and because, each a text that is not empty"
            )
        if entry["case"] in known:
            raise UsageError(f"the baseline {path} lists {entry['case']} twice: remove one of the entries")
        known[entry["case"]] = Intent("known", entry["failure"], entry["because"])
    return known


def to_json(known: KnownFailures) -> str:
    """Return the text of a baseline, sorted by the names of the cases so that two versions are easy to compare."""
    entries = [
        {"case": case, "failure": failure.subject, "because": failure.because} for case, failure in sorted(known.items())
    ]
    return json.dumps({FORMAT_KEY: VERSION, "known": entries}, indent=2, ensure_ascii=False) + "\n"


def attach_known_failure(result: CheckResult, known: KnownFailures) -> CheckResult:
    """Return a result with the failure that the baseline lists for its case, if any."""
    declared = tuple(intent for intent in result.intents if intent.kind != "known")
    listed = known.get(result.case)
    return replace(result, intents=(*declared, listed) if listed else declared)


def report_missing_cases(
    known: KnownFailures, planned: Collection[str], covers: Callable[[str], bool]
) -> Iterable[CheckResult]:
    """Yield a FAIL for each case that the baseline lists and the plan does not contain.

    Args:
        known: the known failures.
        planned: the names of the planned cases.
        covers: returns whether the run would have planned a case of this name if it existed.
    """
    for case, listed in known.items():
        if case not in planned and covers(case):
            message = f"the baseline lists it ({listed.subject}: {listed.because}), but there is no such case"
            yield CheckResult(case, case, Verdict.FAIL, Reason.STALE_BASELINE, message=message)


def update_known_failures(known: KnownFailures, run: RunResult, because: str, *, strict: bool) -> dict[str, Intent]:
    """Return the known failures after a run: exactly its failures. A failure that is unchanged keeps its reason.

    Args:
        known: the known failures before the run.
        run: the results.
        because: the reason of new failures.
        strict: whether INCONCLUSIVE results are failures, too.

    Raises:
        UsageError: if a failure is new and `because` is blank.
    """
    failures = dict(known)
    for result in run.results:
        listed = failures.pop(result.case, None)
        is_unchanged = listed and listed.subject == result.failure and result.as_declared is not Verdict.PASS
        if listed and (is_unchanged or result.reason in TRANSIENT_REASONS):
            failures[result.case] = listed
        elif _is_failure(result, strict):
            failures[result.case] = Intent("known", result.failure, because)
    new = [case for case, failure in failures.items() if not failure.because.strip()]
    if new:
        more = f" and {len(new) - 3} more" if len(new) > 3 else ""
        raise UsageError(
            f"--update-baseline: {', '.join(new[:3])}{more} would be new in the baseline: say why with --reason '...'; "
            "the baseline was not written"
        )
    return failures


def _is_failure(result: CheckResult, strict: bool) -> bool:
    """Return whether a baseline has to list a result."""
    failing = (Verdict.FAIL, Verdict.ERROR, Verdict.INCONCLUSIVE) if strict else (Verdict.FAIL, Verdict.ERROR)
    return result.as_declared in failing and result.reason not in (*TRANSIENT_REASONS, Reason.STALE_BASELINE)

"""Failures that are known and waited for: a file in the repository lists each with what it is and why.

It holds two ways: what it lists and is not there any more fails too, and so does a case that fails in another way.
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
HEAD = "gradcheck_baseline"
KEYS = {"case", "failure", "because"}
PASSING = (Reason.WORKER_DIED, Reason.TIMEOUT, Reason.INTERNAL, Reason.BAD_INPUT)  # mishaps of a run, not to be waited for

Known = Mapping[str, Intent]  # by case


def read(path: Path) -> dict[str, Intent]:
    """Read a baseline.

    Raises:
        UsageError: where it cannot be read, is of another version, or an entry is not whole.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read the baseline {path}: {error.strerror or error}; --update-baseline writes one") from None
    except ValueError as error:
        raise UsageError(f"the baseline {path} is no JSON: {error}") from None
    version = data.get(HEAD) if isinstance(data, dict) else None
    if version != VERSION or type(version) is not int:
        told = f"of version {version!r}" if version is not None else "no baseline"
        raise UsageError(f"{path} is {told}: expected {HEAD!r}: {VERSION}; move it away, and --update-baseline writes one")
    if {*data} != {HEAD, "known"} or not isinstance(data["known"], list):
        raise UsageError(f"the baseline {path}: expected {HEAD!r} and a list 'known', got {', '.join(map(repr, data))}")
    return _by_case(path, data["known"])


def _by_case(path: Path, entries: list[Any]) -> dict[str, Intent]:
    found: dict[str, Intent] = {}
    for entry in entries:
        whole = isinstance(entry, dict) and {*entry} == KEYS
        if not whole or not all(isinstance(value, str) and value.strip() for value in entry.values()):
            raise UsageError(f"the baseline {path}: {entry!r}: expected case, failure and because, each a text and not empty")
        if entry["case"] in found:
            raise UsageError(f"the baseline {path} lists {entry['case']} twice: leave one out")
        found[entry["case"]] = Intent("known", entry["failure"], entry["because"])
    return found


def text_of(known: Known) -> str:
    """The text of a baseline, in the order of the cases' names, so that two versions are easily compared."""
    entries = [{"case": case, "failure": one.subject, "because": one.because} for case, one in sorted(known.items())]
    return json.dumps({HEAD: VERSION, "known": entries}, indent=2, ensure_ascii=False) + "\n"


def applied(result: CheckResult, known: Known) -> CheckResult:
    """A result with what the baseline lists for it."""
    own = tuple(intent for intent in result.intents if intent.kind != "known")
    listed = known.get(result.case)
    return replace(result, intents=(*own, listed) if listed else own)


def gone(known: Known, planned: Collection[str], covers: Callable[[str], bool]) -> Iterable[CheckResult]:
    """A FAIL for each case that the baseline lists and the plan lacks.

    Args:
        covers: whether a run would have planned a case of that name, if it were there.
    """
    for case, listed in known.items():
        if case not in planned and covers(case):
            message = f"the baseline lists it ({listed.subject}: {listed.because}), but there is no such case"
            yield CheckResult(case, case, Verdict.FAIL, Reason.STALE_BASELINE, message=message)


def updated(known: Known, run: RunResult, because: str, *, strict: bool) -> dict[str, Intent]:
    """The baseline that lists the failures of a run: what stays the same keeps its reason.

    Raises:
        UsageError: where a new failure is to be listed and no reason is given.
    """
    kept = dict(known)
    for result in run.results:
        listed = kept.pop(result.case, None)
        same = listed and listed.subject == result.failure and result.as_declared is not Verdict.PASS
        if listed and (same or result.reason in PASSING):
            kept[result.case] = listed
        elif _fails(result, strict):
            kept[result.case] = Intent("known", result.failure, because)
    new = [case for case, one in kept.items() if not one.because.strip()]
    if new:
        more = f" and {len(new) - 3} more" if len(new) > 3 else ""
        raise UsageError(
            f"--update-baseline: {', '.join(new[:3])}{more} would be new in the baseline: say why with --reason '...'; "
            "nothing was written"
        )
    return kept


def _fails(result: CheckResult, strict: bool) -> bool:
    failing = (Verdict.FAIL, Verdict.ERROR, Verdict.INCONCLUSIVE) if strict else (Verdict.FAIL, Verdict.ERROR)
    return result.as_declared in failing and result.reason not in (*PASSING, Reason.STALE_BASELINE)

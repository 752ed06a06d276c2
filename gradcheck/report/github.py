"""What is not ok as annotations of a GitHub workflow, at the line where the derivative is written.

A step shows ten of them at most, so that the worst nine are told, and how many more there are.
https://docs.github.com/actions/reference/workflows-and-actions/workflow-commands
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from gradcheck.glossary.verdicts import SEVERITY
from gradcheck.report import locations
from gradcheck.report.problems import Problem, problems
from gradcheck.results import CheckResult, RunResult, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

SHOWN = 10  # in a step
LONGEST = 4000  # characters of a message
DATA = {"%": "%25", "\r": "%0D", "\n": "%0A"}
PROPERTY = {**DATA, ":": "%3A", ",": "%2C"}  # a semicolon needs none: the runner would leave %3B as it is


def render(run: RunResult) -> str:
    """Return the commands, one a line; '' where all is ok."""
    found = sorted((result for result in run.results if not result.ok), key=_badness)
    shown = found if len(found) <= SHOWN else found[: SHOWN - 1]
    lines = [_annotation(run, result) for result in shown]
    if len(shown) < len(found):
        counts = {v: sum(r.outcome is v for r in found[len(shown) :]) for v in SEVERITY}
        told = ", ".join(f"{n} {v.value}" for v, n in counts.items() if n)
        kind = _kind(run, found[len(shown)])
        lines.append(f"::{kind} title=gradcheck::{len(found) - len(shown)} more cases are not ok ({told}); the log shows them")
    return "".join(f"{line}\n" for line in lines)


def _badness(result: CheckResult) -> tuple[int, float]:
    errors = [c.rel_err for c in result.comparisons if c.verdict is Verdict.FAIL and not math.isnan(c.rel_err)]
    return SEVERITY.index(result.outcome), -max(errors, default=0.0)


def _kind(run: RunResult, result: CheckResult) -> str:
    return "warning" if result.outcome is Verdict.INCONCLUSIVE and not run.strict else "error"


def _annotation(run: RunResult, result: CheckResult) -> str:
    found = problems(result)
    place = locations.of(run, result, found[0])
    at = {"file": place.path, "line": str(place.line)} if place and place.inside else {}
    properties = {**at, "title": f"gradcheck {result.outcome.value}: {result.case}"}
    given = ",".join(f"{name}={_escaped(value, PROPERTY)}" for name, value in properties.items())
    return f"::{_kind(run, result)} {given}::{_escaped(_message(result, found), DATA)}"


def _message(result: CheckResult, found: list[Problem]) -> str:
    replay = f"\n\nreplay: {result.replay}" if result.replay else ""
    text = "\n\n".join(problem.text for problem in found)
    return (text if len(text) <= LONGEST else f"{text[:LONGEST]}…") + replay


def _escaped(text: str, by: Mapping[str, str]) -> str:
    return "".join(by.get(character, character) for character in text)

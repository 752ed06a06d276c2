"""The cases that are not ok as annotations of a GitHub workflow, at the line where the derivative is written.

A step shows at most ten annotations. If there are more, the nine worst cases are annotated, and the tenth counts the others.
https://docs.github.com/actions/reference/workflows-and-actions/workflow-commands
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from gradcheck.glossary.verdicts import SEVERITY
from gradcheck.report import locations
from gradcheck.report.problems import Problem, format_explain_command, list_problems
from gradcheck.results import CheckResult, RunResult, Verdict

MAX_ANNOTATIONS = 10  # annotations of a step
MAX_MESSAGE_LENGTH = 4000  # characters of an annotation's message
DATA_ESCAPES = {"%": "%25", "\r": "%0D", "\n": "%0A"}
PROPERTY_ESCAPES = {**DATA_ESCAPES, ":": "%3A", ",": "%2C"}  # a semicolon needs no escape: the runner would not decode it


def render(run: RunResult) -> str:
    """Return the commands, one per line; '' if every case is ok."""
    not_ok = _group_by_contract(run, sorted((r for r in run.results if list_problems(r)), key=_severity_key))
    annotated = not_ok if len(not_ok) <= MAX_ANNOTATIONS else not_ok[: MAX_ANNOTATIONS - 1]
    lines = [_format_annotation(run, group) for group in annotated]
    others = [result for group in not_ok[len(annotated) :] for result in group]
    if others:
        numbers = {verdict: sum(result.outcome is verdict for result in others) for verdict in SEVERITY}
        counts = ", ".join(f"{n} {verdict.value}" for verdict, n in numbers.items() if n)
        level = _annotation_level(run, others[0])
        lines.append(f"::{level} title=gradcheck::{len(others)} more cases are not ok ({counts}); the log shows them")
    return "".join(f"{line}\n" for line in lines)


def _group_by_contract(run: RunResult, results: Sequence[CheckResult]) -> list[list[CheckResult]]:
    """Group cases that break the same contracts at the same line, and nothing else: one cause is annotated once."""
    groups: dict[object, list[CheckResult]] = {}
    for number, result in enumerate(results):
        problems = list_problems(result)
        rules = tuple(problem.rule for problem in problems)
        shared = all(rule.startswith("contract/") for rule in rules)
        key = (rules, locations.locate(run, result, problems[0]), _annotation_level(run, result)) if shared else number
        groups.setdefault(key, []).append(result)
    return list(groups.values())


def _severity_key(result: CheckResult) -> tuple[int, float]:
    errors = [c.rel_err for c in result.comparisons if c.verdict is Verdict.FAIL and not math.isnan(c.rel_err)]
    return SEVERITY.index(result.outcome), -max(errors, default=0.0)


def _annotation_level(run: RunResult, result: CheckResult) -> str:
    return "warning" if result.outcome in (Verdict.INCONCLUSIVE, Verdict.PASS) and not run.strict else "error"


def _format_annotation(run: RunResult, group: Sequence[CheckResult]) -> str:
    result, *others = group
    problems = list_problems(result)
    location = locations.locate(run, result, problems[0])
    file_and_line = {"file": location.path, "line": str(location.file_line)} if location and location.inside else {}
    properties = {**file_and_line, "title": f"gradcheck {result.outcome.value}: {result.case}"}
    attributes = ",".join(f"{name}={_escape(value, PROPERTY_ESCAPES)}" for name, value in properties.items())
    same = f"\n\nthe same in {', '.join(other.case for other in others)}" if others else ""
    message = f"{_format_message(result, problems)}\n\nexplain: {format_explain_command(group)}{same}"
    return f"::{_annotation_level(run, result)} {attributes}::{_escape(message, DATA_ESCAPES)}"


def _format_message(result: CheckResult, problems: list[Problem]) -> str:
    replay = f"\n\nreplay: {result.replay}" if result.replay else ""
    text = "\n\n".join(problem.text for problem in problems)
    return (text if len(text) <= MAX_MESSAGE_LENGTH else f"{text[:MAX_MESSAGE_LENGTH]}…") + replay


def _escape(text: str, escapes: Mapping[str, str]) -> str:
    return "".join(escapes.get(character, character) for character in text)

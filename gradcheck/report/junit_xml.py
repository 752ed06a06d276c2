"""The run as JUnit XML, according to the schemas of Maven Surefire and Jenkins: one suite with all cases.

FAIL is a failure and ERROR an error. INCONCLUSIVE is skipped with a message; under `--strict` it is a failure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.sax.saxutils import escape, quoteattr

from gradcheck.report import locations
from gradcheck.report.problems import format_explain_command, list_problems
from gradcheck.results import CheckResult, RunResult, Verdict

TAGS = {Verdict.FAIL: "failure", Verdict.ERROR: "error", Verdict.INCONCLUSIVE: "skipped"}


def render(run: RunResult) -> str:
    """Return the XML, ending in a newline."""
    tags = [_outcome_tag(run, result) for result in run.results]
    tags_by_count = {"failures": "failure", "errors": "error", "skipped": "skipped"}
    counts = {"tests": len(tags), **{name: tags.count(tag) for name, tag in tags_by_count.items()}}
    numbers = {name: str(count) for name, count in counts.items()}
    suite = _format_attributes(name="gradcheck", **numbers, time=f"{run.seconds:.3f}")
    environment = {"gradcheck": run.gradcheck_version, "seed": str(run.seed), **run.environment}
    properties = [f"<property{_format_attributes(name=name, value=value)}/>" for name, value in environment.items()]
    cases = [line for result, tag in zip(run.results, tags, strict=True) for line in _format_case(run, result, tag)]
    lines = [f"<testsuite{suite}>", "<properties>", *properties, "</properties>", *cases, "</testsuite>"]
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + "\n".join(lines) + "\n"


def _outcome_tag(run: RunResult, result: CheckResult) -> str:
    """Return the tag of the element inside a case; '' if it passed."""
    is_undecided = result.outcome is Verdict.INCONCLUSIVE or (result.ok and bool(result.unchecked))
    return "failure" if run.strict and is_undecided else TAGS.get(result.outcome, "")


def _format_case(run: RunResult, result: CheckResult, tag: str) -> Iterator[str]:
    file, name = _split_name(result)
    opening = f"<testcase{_format_attributes(classname=file, name=name, time=f'{result.seconds:.3f}')}"
    if not tag:
        yield f"{opening}/>"
        return
    problems = list_problems(result)
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    # The schemas allow no type for a skipped case.
    kind = {} if tag == "skipped" else {"type": problems[0].rule.partition("/")[2]}
    location = locations.locate(run, result)
    parts = [
        *(problem.text for problem in problems),
        f"at {location}" if location else "",
        f"explain: {format_explain_command([result])}",
        f"replay: {result.replay}" if result.replay else "",
    ]
    text = escape("\n\n".join(filter(None, parts)))
    yield f"{opening}>"
    yield f"<{tag}{_format_attributes(message=problems[0].short + more, **kind)}>{text}</{tag}>"
    yield "</testcase>"


def _split_name(result: CheckResult) -> tuple[str, str]:
    """Split the name of a case into its file or module, dotted like a class name, and the rest."""
    module, colon, _ = result.target.rpartition(":")
    if not colon or not result.case.startswith(f"{module}:"):
        return "gradcheck", result.case
    return re.sub(r"[\\/]+", ".", module.removesuffix(".py").removesuffix(".ipynb")).strip("."), result.case[len(module) + 1 :]


def _format_attributes(**attributes: str) -> str:
    return "".join(f" {name}={quoteattr(value)}" for name, value in attributes.items())

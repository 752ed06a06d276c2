"""The run as JUnit XML, as the schemas of Maven Surefire and Jenkins have it: a suite of cases.

FAIL is a failure, ERROR an error; INCONCLUSIVE is skipped with a message, and under --strict, where it ends the run, a
failure.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape, quoteattr

from gradcheck.report import locations
from gradcheck.report.problems import problems
from gradcheck.results import CheckResult, RunResult, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # https://www.w3.org/TR/xml/#charsets
TAGS = {Verdict.FAIL: "failure", Verdict.ERROR: "error", Verdict.INCONCLUSIVE: "skipped"}


def render(run: RunResult) -> str:
    """Return the XML, ending in a newline."""
    tags = [_tag(run, result) for result in run.results]
    counted = {"failures": "failure", "errors": "error", "skipped": "skipped"}
    counts = {"tests": len(tags), **{name: tags.count(tag) for name, tag in counted.items()}}
    suite = _attributes(name="gradcheck", **{k: str(n) for k, n in counts.items()}, time=f"{run.seconds:.3f}")
    about = {"gradcheck": run.gradcheck_version, "seed": str(run.seed), **run.environment}
    properties = [f"<property{_attributes(name=name, value=value)}/>" for name, value in about.items()]
    cases = [line for result, tag in zip(run.results, tags, strict=True) for line in _case(run, result, tag)]
    lines = [f"<testsuite{suite}>", "<properties>", *properties, "</properties>", *cases, "</testsuite>"]
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + "\n".join(lines) + "\n"


def _tag(run: RunResult, result: CheckResult) -> str:
    """What a case holds; '' where it passed."""
    return "failure" if run.strict and result.outcome is Verdict.INCONCLUSIVE else TAGS.get(result.outcome, "")


def _case(run: RunResult, result: CheckResult, tag: str) -> Iterator[str]:
    file, name = _names(result)
    opening = f"<testcase{_attributes(classname=file, name=name, time=f'{result.seconds:.3f}')}"
    if not tag:
        yield f"{opening}/>"
        return
    found = problems(result)
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    kind = {} if tag == "skipped" else {"type": found[0].rule.partition("/")[2]}  # the schema has none for what is skipped
    place = locations.of(run, result)
    body = [*(p.text for p in found), f"at {place}" if place else "", f"replay: {result.replay}" if result.replay else ""]
    text = escape(_clean("\n\n".join(filter(None, body))))
    yield f"{opening}>"
    yield f"<{tag}{_attributes(message=found[0].short + more, **kind)}>{text}</{tag}>"
    yield "</testcase>"


def _names(result: CheckResult) -> tuple[str, str]:
    """File or module, with dots as a class has them, and what is checked in it."""
    module, colon, _ = result.target.rpartition(":")
    if not colon or not result.case.startswith(f"{module}:"):
        return "gradcheck", result.case
    return re.sub(r"[\\/]+", ".", module.removesuffix(".py")).strip("."), result.case[len(module) + 1 :]


def _attributes(**given: str) -> str:
    return "".join(f" {name}={quoteattr(_clean(value))}" for name, value in given.items())


def _clean(text: str) -> str:
    """Without the characters that XML 1.0 has no way to write."""
    return FORBIDDEN.sub("�", text)

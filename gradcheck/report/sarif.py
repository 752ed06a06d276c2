"""The run as SARIF 2.1.0, for code scanning: what is not ok, at the line where the derivative is written.

https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from gradcheck.glossary.contracts import CONTRACTS
from gradcheck.glossary.diagnoses import Diagnosis
from gradcheck.report import locations
from gradcheck.report.problems import Problem, problems
from gradcheck.results import CheckResult, Reason, RunResult, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = "%SRCROOT%"
SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def render(run: RunResult) -> str:
    """Return the JSON text, ending in a newline."""
    found = [one for result in run.results for one in _results(run, result)]
    rules = [_rule(name) for name in dict.fromkeys(one["ruleId"] for one in found)]
    places_of_rules = {rule["id"]: index for index, rule in enumerate(rules)}
    for one in found:
        one["ruleIndex"] = places_of_rules[one["ruleId"]]
    driver = {"name": "gradcheck", "version": run.gradcheck_version, "rules": rules}
    told: dict[str, Any] = {
        "tool": {"driver": driver},
        "invocations": [{"executionSuccessful": not run.interrupted}],
        "columnKind": "unicodeCodePoints",
        "results": found,
    }
    if run.root:
        told["originalUriBaseIds"] = {ROOT: {"uri": locations.uri(run.root).rstrip("/") + "/"}}
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [told]}, indent=1) + "\n"


def _results(run: RunResult, result: CheckResult) -> Iterator[dict[str, Any]]:
    """A result for each rule that a case breaks: the leaves of one fault are told together."""
    groups: dict[str, list[Problem]] = {}
    for problem in problems(result):
        groups.setdefault(problem.rule, []).append(problem)
    for rule, group in groups.items():
        text = "\n\n".join([f"{result.case}: {group[0].text}", *(problem.text for problem in group[1:])])
        replay = f"\n\nreplay: {result.replay}" if result.replay else ""
        yield {
            "ruleId": rule,
            "level": "warning" if group[0].verdict is Verdict.INCONCLUSIVE and not run.strict else "error",
            "message": {"text": text + replay},
            "locations": [_location(run, result, group[0])],
            "partialFingerprints": {"gradcheckCase/v1": hashlib.sha256(_bytes(result.case)).hexdigest()[:32]},
            "properties": {"verdict": group[0].verdict.value, "seed": result.seed},
        }


def _bytes(text: str) -> bytes:
    return text.replace("\\", "/").encode("utf-8", "replace")  # the same on every machine


def _location(run: RunResult, result: CheckResult, problem: Problem) -> dict[str, Any]:
    place = locations.of(run, result, problem)
    told: dict[str, Any] = {"logicalLocations": [{"fullyQualifiedName": result.case, "kind": "function"}]}
    if place:
        base = {"uriBaseId": ROOT} if place.inside and run.root else {}
        artifact = {"uri": locations.uri(place.path), **base}
        told["physicalLocation"] = {"artifactLocation": artifact, "region": {"startLine": place.line}}
    return told


def _rule(name: str) -> dict[str, Any]:
    kind, _, code = name.partition("/")
    about, advice = _about(kind, code)
    text = _sentence(about)
    more = _sentence(advice) if advice else f"`gradcheck explain {code}` says more."
    return {
        "id": name,
        "name": "".join(part.capitalize() for part in code.split("-")),
        "shortDescription": {"text": text},
        "fullDescription": {"text": text},
        "help": {"text": more},
    }


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def _about(kind: str, code: str) -> tuple[str, str]:
    """What a rule asks, and what to do where it is broken."""
    if kind == "contract":
        return CONTRACTS.get(code, code), ""
    if kind == "diagnosis":
        return next((known.message, known.mend) for known in Diagnosis if known.code == code)
    return next((known.message, known.advice) for known in Reason if known.code == code)

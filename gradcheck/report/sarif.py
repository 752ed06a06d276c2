"""The problems of a run as SARIF 2.1.0, for code scanning, at the line where the derivative is written.

https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

from gradcheck.glossary.contracts import CONTRACTS
from gradcheck.glossary.diagnoses import Diagnosis
from gradcheck.report import locations
from gradcheck.report.problems import Problem, list_problems
from gradcheck.results import CheckResult, Reason, RunResult, Verdict

ROOT = "%SRCROOT%"
SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def render(run: RunResult) -> str:
    """Return the JSON text, ending in a newline."""
    results = [entry for result in run.results for entry in _case_results(run, result)]
    rules = [_format_rule(name) for name in dict.fromkeys(entry["ruleId"] for entry in results)]
    rule_indices = {rule["id"]: index for index, rule in enumerate(rules)}
    for entry in results:
        entry["ruleIndex"] = rule_indices[entry["ruleId"]]
    driver = {"name": "gradcheck", "version": run.gradcheck_version, "rules": rules}
    sarif_run: dict[str, Any] = {
        "tool": {"driver": driver},
        "invocations": [{"executionSuccessful": not run.interrupted}],
        "columnKind": "unicodeCodePoints",
        "results": results,
    }
    if run.root:
        sarif_run["originalUriBaseIds"] = {ROOT: {"uri": locations.to_uri(run.root).rstrip("/") + "/"}}
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [sarif_run]}, indent=1) + "\n"


def _case_results(run: RunResult, result: CheckResult) -> Iterator[dict[str, Any]]:
    """Yield one result for each rule that a case breaks; leaves with the same fault share a result."""
    groups: dict[str, list[Problem]] = {}
    for problem in list_problems(result):
        groups.setdefault(problem.rule, []).append(problem)
    name = result.case.replace("\\", "/").encode("utf-8", "replace")  # so that the fingerprint is the same on every machine
    for rule, group in groups.items():
        text = "\n\n".join([f"{result.case}: {group[0].text}", *(problem.text for problem in group[1:])])
        replay = f"\n\nreplay: {result.replay}" if result.replay else ""
        yield {
            "ruleId": rule,
            "level": "warning" if group[0].verdict is Verdict.INCONCLUSIVE and not run.strict else "error",
            "message": {"text": text + replay},
            "locations": [_format_location(run, result, group[0])],
            "partialFingerprints": {"gradcheckCase/v1": hashlib.sha256(name).hexdigest()[:32]},
            "properties": {"verdict": group[0].verdict.value, "seed": result.seed},
        }


def _format_location(run: RunResult, result: CheckResult, problem: Problem) -> dict[str, Any]:
    location = locations.locate(run, result, problem)
    sarif_location: dict[str, Any] = {"logicalLocations": [{"fullyQualifiedName": result.case, "kind": "function"}]}
    if location:
        base = {"uriBaseId": ROOT} if location.inside and run.root else {}
        artifact = {"uri": locations.to_uri(location.path), **base}
        sarif_location["physicalLocation"] = {"artifactLocation": artifact, "region": {"startLine": location.file_line}}
    return sarif_location


def _format_rule(name: str) -> dict[str, Any]:
    kind, _, code = name.partition("/")
    description, advice = _rule_texts(kind, code)
    text = _make_sentence(description)
    help_text = " ".join([*([_make_sentence(advice)] if advice else []), f"`gradcheck explain {code}` says more."])
    return {
        "id": name,
        "name": "".join(part.capitalize() for part in code.split("-")),
        "shortDescription": {"text": text},
        "fullDescription": {"text": text},
        "help": {"text": help_text},
    }


def _make_sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def _rule_texts(kind: str, code: str) -> tuple[str, str]:
    """Return what a rule means, and what to do if it is broken."""
    if kind == "contract":
        return CONTRACTS.get(code, code), ""
    if kind == "diagnosis":
        return next((diagnosis.message, diagnosis.fix) for diagnosis in Diagnosis if diagnosis.code == code)
    return next((reason.message, reason.advice) for reason in Reason if reason.code == code)

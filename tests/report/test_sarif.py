"""The required parts of SARIF 2.1.0, and what code scanning needs of it."""

import json
from dataclasses import replace

import jsonschema
import pytest

from gradcheck.report import formats
from gradcheck.results import RunResult

TEXT = {"type": "object", "properties": {"text": {"type": "string", "minLength": 1}}, "required": ["text"]}
RULE = {
    "required": ["id"],
    "properties": {"id": {"type": "string"}, "name": {"pattern": "^[A-Z][A-Za-z]+$"}, "shortDescription": TEXT, "help": TEXT},
}
LOCATION = {
    "properties": {
        "physicalLocation": {
            "required": ["artifactLocation"],
            "properties": {
                "artifactLocation": {"required": ["uri"], "properties": {"uri": {"type": "string", "format": "uri-reference"}}},
                "region": {"required": ["startLine"], "properties": {"startLine": {"type": "integer", "minimum": 1}}},
            },
        }
    }
}
RESULT = {
    "required": ["message", "ruleId", "ruleIndex", "level", "locations", "partialFingerprints"],
    "properties": {
        "message": TEXT,
        "level": {"enum": ["error", "warning", "note", "none"]},
        "ruleIndex": {"type": "integer", "minimum": 0},
        "locations": {"type": "array", "minItems": 1, "items": LOCATION},
        "partialFingerprints": {"type": "object", "additionalProperties": {"type": "string"}},
    },
}
PART = {  # of https://docs.oasis-open.org/sarif/sarif/v2.1.0/, in what is written here
    "required": ["version", "runs"],
    "properties": {
        "version": {"const": "2.1.0"},
        "runs": {
            "items": {
                "required": ["tool", "results"],
                "properties": {
                    "tool": {"properties": {"driver": {"required": ["name"], "properties": {"rules": {"items": RULE}}}}},
                    "results": {"items": RESULT},
                    "invocations": {"items": {"required": ["executionSuccessful"]}},
                },
            }
        },
    },
}


def parsed(run):
    data = json.loads(formats.render("sarif", run))
    jsonschema.validate(data, PART)
    (one,) = data["runs"]
    rules = one["tool"]["driver"]["rules"]
    assert all(rules[result["ruleIndex"]]["id"] == result["ruleId"] for result in one["results"])
    assert len({rule["id"] for rule in rules}) == len(rules)
    return one


def case_of(result):
    return result["locations"][0]["logicalLocations"][0]["fullyQualifiedName"].partition(":")[2]


def test_what_is_not_ok_is_a_result_with_the_rule_that_it_breaks(varied):
    found = {case_of(r): (r["ruleId"], r["level"]) for r in parsed(varied)["results"]}
    assert found == {
        "square[3]": ("diagnosis/factor", "error"),
        "square[fixed]": ("reason/expected-fail-passed", "error"),
        "wave[wide]": found["wave[wide]"],
        "wave[1]": ("diagnosis/function", "error"),
        "model": ("diagnosis/unknown", "error"),
        "cube": ("contract/backward-intact", "error"),
        "raises": ("reason/target-raised", "error"),
        "logarithm[<script>|`a`,b:%0A]": ("reason/non-finite", "warning"),
    }
    strict = parsed(replace(varied, config={"strict": True}))["results"]
    assert {r["level"] for r in strict} == {"error"}


def test_places_are_relative_to_the_repository(varied, repository):
    one = parsed(varied)
    assert one["originalUriBaseIds"] == {"%SRCROOT%": {"uri": f"{repository.as_uri()}/"}}
    lines = {}
    for result in one["results"]:
        physical = result["locations"][0]["physicalLocation"]
        assert physical["artifactLocation"] == {"uri": "layers/targets.py", "uriBaseId": "%SRCROOT%"}
        lines[case_of(result)] = physical["region"]["startLine"]
    assert (lines["wave[1]"], lines["model"], lines["square[3]"], lines["cube"]) == (28, 28, 7, 60)


def test_a_file_outside_is_named_whole(by_name):
    one = parsed(RunResult("0", {}, 0, {}, (by_name["cube"],), root="/elsewhere"))
    artifact = one["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]
    assert artifact["uri"].startswith("file:///")
    assert "uriBaseId" not in artifact


def test_a_case_keeps_its_fingerprint_wherever_it_moves_and_on_every_machine(by_name):
    def fingerprint(**changes):
        result = replace(by_name["cube"], **changes)
        (found,) = parsed(RunResult("0", {}, 0, {}, (result,)))["results"]
        return found["partialFingerprints"]

    assert fingerprint() == fingerprint(claim_line=999, file="/other/place.py", seconds=9.0)
    assert fingerprint() == fingerprint(case=by_name["cube"].case.replace("/", "\\"))
    assert fingerprint() != fingerprint(case="another")
    assert "primaryLocationLineHash" not in fingerprint()  # the service's own, which it warns of where it differs


@pytest.mark.parametrize("runs", [(), None])
def test_where_all_is_ok_there_is_no_result(by_name, runs):
    results = () if runs == () else (by_name["sine"], by_name["square[lesson]"])
    assert parsed(RunResult("0", {}, 0, {}, results))["results"] == []

import json
from pathlib import Path

import jsonschema
import pytest

from gradcheck.report import schema

PUBLISHED = Path(schema.__file__).with_name("run.schema.json")
VALIDATOR = jsonschema.Draft202012Validator(json.loads(PUBLISHED.read_text(encoding="utf-8")))
OLD = Path(__file__).parents[1] / "data" / "run-of-0.1.0-2026-11-21.json"


def test_the_published_schema_is_that_of_the_data_classes():
    command = f"python -m gradcheck.report.schema > {PUBLISHED}"
    assert json.loads(PUBLISHED.read_text(encoding="utf-8")) == schema.build_schema(), f"it has drifted: {command}"
    jsonschema.Draft202012Validator.check_schema(schema.build_schema())


def test_a_run_with_every_kind_of_outcome_fits(varied):
    data = json.loads(varied.to_json())
    VALIDATOR.validate(data)
    kinds = {r["verdict"] for r in data["results"]}
    assert kinds == {"PASS", "FAIL", "INCONCLUSIVE", "ERROR"}
    for key in ("layers", "checks", "intents", "contracts", "comparisons", "partials"):
        assert any(r[key] for r in data["results"]), key
    assert any(c["where"] and c["story"] for r in data["results"] for c in r["comparisons"])


def test_a_run_of_an_older_version_fits():
    data = json.loads(OLD.read_text(encoding="utf-8"))
    assert [error.message for error in VALIDATOR.iter_errors(data)] == []
    assert (data["gradcheck_version"], len(data["results"]) > 0) == ("0.1.0", True)


@pytest.mark.parametrize(
    "invalidate",
    [
        lambda data: data.pop("results"),
        lambda data: data.update(schema_version=2),
        lambda data: data["results"][0].pop("case"),
        lambda data: data["results"][0].update(reason="because"),
        lambda data: data["results"][0].update(evaluations=1.5),
        lambda data: data["results"][0]["comparisons"][0].update(bound="small"),
        lambda data: data["results"][0]["comparisons"][0].update(worst_entry=[0, "x"]),
    ],
)
def test_what_no_run_writes_does_not_fit(varied, invalidate):
    data = json.loads(varied.to_json())
    invalidate(data)
    assert not VALIDATOR.is_valid(data)

"""A run is read back from JSON, also from an older version's; what is none is one clear error."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gradcheck.cli import app
from gradcheck.errors import UsageError
from gradcheck.report.load import read_run
from gradcheck.results import SCHEMA_VERSION, CheckResult, Intent, Reason, RunResult, Shard, Verdict

OLD = Path(__file__).parents[1] / "data" / "run-of-0.1.0-2026-11-21.json"


def changed(**changes):
    return json.dumps({**json.loads(OLD.read_text()), **changes})


def with_result(**changes):
    data = json.loads(OLD.read_text())
    data["results"][0] |= changes
    return json.dumps(data)


def test_a_run_is_read_as_it_was_written(tmp_path):
    known = CheckResult("m:f", "m:f", Verdict.FAIL, Reason.DISAGREES, intents=(Intent("known", "FAIL disagrees", "later"),))
    run = RunResult("0.1", {"python": "3.11"}, 3, {"strict": True}, (known,), planned=1, shard=Shard(1, 2, ("m:f", "m:g")))
    (tmp_path / "run.json").write_text(run.to_json())
    assert read_run(str(tmp_path / "run.json")) == run


def test_an_older_file_without_newer_keys_is_read():
    run = read_run(str(OLD))
    assert [r.verdict for r in run.results] == [Verdict.FAIL, Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.ERROR]
    assert run.root == ""
    assert all(r.layers == r.intents == () and r.claim_file is None for r in run.results)


def test_keys_of_a_later_minor_version_are_passed_over(tmp_path):
    place = tmp_path / "run.json"
    place.write_text(changed(novel={"x": 1}))
    assert read_run(str(place)).to_dict() == read_run(str(OLD)).to_dict()


FOREIGN = {
    "empty": (b"", "is not valid JSON"),
    "cut off": (OLD.read_bytes()[:3000], r"is not valid JSON .*; is it truncated\?"),
    "no JSON": (b"schema_version: 1", "is not valid JSON"),
    "NaN": (changed(seconds=float("nan")).encode(), "NaN instead of a number"),
    "a list": (b"[1, 2]", "contains a list: expected a file that `gradcheck run --json` wrote"),
    "another tool's": (b'{"version": "2.1.0", "runs": []}', r"is not a run of gradcheck \(it contains version, runs\)"),
    "nothing": (b"{}", "it contains nothing"),
    "newer": (
        changed(schema_version=SCHEMA_VERSION + 1).encode(),
        r"by a newer gradcheck \(0.1.0, schema 2; this version reads up to schema 1\): upgrade gradcheck",
    ),
    "version as text": (changed(schema_version="1").encode(), "is not a run of gradcheck"),
    "a verdict that is none": (with_result(verdict="GOOD").encode(), "is not a valid run of gradcheck"),
    "a reason of a later version": (
        json.dumps({**json.loads(with_result(reason="novel")), "gradcheck_version": "9.0"}).encode(),
        r"was it changed by hand, or written by another version \(9.0; this is ",
    ),
    "a number that is none": (with_result(seconds="soon").encode(), "is not a valid run of gradcheck"),
    "results that are none": (changed(results=7).encode(), "is not a valid run of gradcheck"),
    "no text": (b"\xff\xfe\x00", "is not a text file"),
    "endless": (b"[" * 100_000, "is not valid JSON"),
}


@pytest.mark.parametrize(("content", "message"), FOREIGN.values(), ids=FOREIGN)
def test_what_is_no_run_is_one_error_and_exit_code_2(tmp_path, content, message):
    place = tmp_path / "run.json"
    place.write_bytes(content)
    with pytest.raises(UsageError, match=message):
        read_run(str(place))
    done = CliRunner().invoke(app, ["report", str(place)])
    assert done.exit_code == 2
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


@pytest.mark.parametrize("name", ["nowhere.json", "."])
def test_a_file_that_cannot_be_read_is_one_error(tmp_path, name):
    with pytest.raises(UsageError, match=r"cannot read .*; expected a file that"):
        read_run(str(tmp_path / name))

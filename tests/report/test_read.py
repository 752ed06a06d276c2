"""What `--json` wrote is read again, and nothing else is."""

import json

import pytest

from gradcheck.errors import UsageError
from gradcheck.report.read import read
from gradcheck.results import CheckResult, Intent, Reason, RunResult, Shard, Verdict

RUN = RunResult(
    "0.1", {"python": "3.11"}, 3, {"strict": True},
    (CheckResult("m:f", "m:f", Verdict.FAIL, Reason.DISAGREES, intents=(Intent("known", "FAIL disagrees", "later"),)),),
    planned=1, shard=Shard(1, 2, ("m:f", "m:g")),
)  # fmt: skip


def test_a_run_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "run.json"
    path.write_text(RUN.to_json())
    assert read(str(path)) == RUN


def changed(**keys):
    return json.dumps({**RUN.to_dict(), **keys})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "cannot read .*: No such file or directory"),
        ("", "is no JSON: .*; was it written whole\\?"),
        (RUN.to_json()[:-20], "is no JSON: .*; was it written whole\\?"),
        ("[" * 100_000, "is no JSON: "),
        ("[]", "is no run of gradcheck: expected a file that `gradcheck run --json` wrote"),
        ('{"schema_version": 1}', "is no run of gradcheck"),
        (changed(schema_version="1"), "is no run of gradcheck"),
        (changed(schema_version=99), r"is of a newer gradcheck \(0.1, schema 99; this one reads 1\): upgrade"),
        (changed(results=[{"case": "m:f"}]), "is no whole run of gradcheck: "),
        (changed(results=7), "is no whole run of gradcheck: "),
        (changed(results=[{**RUN.to_dict()["results"][0], "verdict": "MAYBE"}]), "is no whole run of gradcheck: .*MAYBE"),
    ],
)  # fmt: skip
def test_anything_else_is_one_clear_error(tmp_path, text, said):
    path = tmp_path / "run.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UsageError, match=said):
        read(str(path))


def test_a_file_that_is_no_text_is_one_clear_error(tmp_path):
    (tmp_path / "run.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="is no JSON"):
        read(str(tmp_path / "run.json"))

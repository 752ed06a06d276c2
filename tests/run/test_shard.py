"""A run in parts: each case is in exactly one part, and parts are merged only if no case is lost."""

import json
from collections import Counter
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from gradcheck.cli import app
from gradcheck.errors import UsageError
from gradcheck.results import CheckResult, LayerResult, Reason, RunResult, Shard, Verdict
from gradcheck.run import shard
from gradcheck.targets.case import Case

NAMES = tuple(f"layers.py:layer_{number}[ü {number}]" for number in range(20))


@pytest.mark.parametrize(("text", "read"), [("1/1", (1, 1)), ("2/5", (2, 5)), ("5/5", (5, 5))])
def test_a_part_is_read(text, read):
    assert shard.parse_shard(text) == read


@pytest.mark.parametrize("text", ["3/2", "0/2", "1", "1/0", "a/b", "1/2/3", "-1/2", "", "1 /2", "²/3"])
def test_an_invalid_shard_is_an_error(text):
    with pytest.raises(UsageError, match=r"expected i/n with 1 <= i <= n, as in --shard 2/5"):
        shard.parse_shard(text)


def test_every_case_is_in_one_part_whatever_other_cases_there_are():
    cases = [Case(name, len) for name in NAMES]
    parts = [[c.name for c in shard.select_cases(cases, Shard(index, 3, NAMES))] for index in (1, 2, 3)]
    assert sorted(name for part in parts for name in part) == sorted(NAMES)
    assert all(shard.select_cases([case], Shard(shard.index_of(case.name, 3), 3, NAMES)) for case in cases)
    assert shard.index_of("layers.py:layer", 1000) == 870  # on every machine, today and later


def test_ten_thousand_cases_are_spread_evenly():
    names = [f"package.module:function_{number}" for number in range(10_000)]
    sizes = Counter(shard.index_of(name, 8) for name in names)
    assert set(sizes) == set(range(1, 9))
    assert max(sizes.values()) < 1.2 * min(sizes.values())


def part(index, total=2, *, names=NAMES, seed=0, config=None, version="1", **more):
    results = [
        CheckResult(name, name, Verdict.PASS, Reason.AGREES, seconds=1.0)
        for name in names
        if shard.index_of(name, total) == index
    ]
    chosen = {"seed": seed, "targets": ["layers.py"], **(config or {})}
    return RunResult(
        version, {"python": "3.11"}, seed, chosen, tuple(results), seconds=1.0, planned=len(results),
        shard=Shard(index, total, names), **more,
    )  # fmt: skip


def merged(*runs):
    return shard.merge_parts([(f"{number}.json", run) for number, run in enumerate(runs, 1)])


def test_parts_in_any_order_are_the_whole_in_the_order_of_the_plan():
    whole = merged(part(3, 3), part(1, 3), part(2, 3))
    assert [r.case for r in whole.results] == [*NAMES]
    assert (whole.shard, whole.planned, whole.seconds, whole.verdict) == (None, 20, 3.0, Verdict.PASS)


def test_a_part_without_a_case_is_a_part():
    names = ("only",)
    parts = [part(index, 4, names=names) for index in (1, 2, 3, 4)]
    assert [r.case for r in merged(*parts).results] == ["only"]
    with pytest.raises(UsageError, match="is missing"):
        merged(*parts[:3])


def test_different_environments_are_listed_and_stale_baseline_entries_are_kept():
    stale = CheckResult("gone", "gone", Verdict.FAIL, Reason.STALE_BASELINE)
    one, two = part(1), part(2)
    whole = merged(replace(one, environment={"python": "3.12"}), replace(two, results=(*two.results, stale)))
    assert whole.environment == {"python": "3.12, 3.11"}
    assert (len(whole.results), whole.verdict) == (21, Verdict.FAIL)


def test_a_merged_run_names_the_first_start_every_commit_and_every_command():
    parts = [
        part(1, started="2026-02-01", commit="a", command="first"),
        part(2, started="2026-01-01", commit="a", command="second"),
    ]
    whole = merged(*parts)
    assert (whole.started, whole.commit, whole.command) == ("2026-01-01", "a", "first\nsecond")


ONE, TWO = part(1), part(2)


def test_files_of_another_checkout_are_named_as_in_the_first():
    parts = [replace(part(index), root=f"/runner{index}/repo") for index in (1, 2)]
    files = {"file": "/runner2/repo/layers.py", "claim_file": "/elsewhere/lib.py"}
    inside = LayerResult("", "Net", 1, file="/runner2/repo/net.py")
    there = tuple(replace(result, **files, layers=(inside,)) for result in parts[1].results)
    whole = merged(parts[0], replace(parts[1], results=there))
    found = next(r for r in whole.results if r.case == there[0].case)
    assert whole.root == "/runner1/repo"
    assert (found.file, found.claim_file, found.layers[0].file) == (
        "/runner1/repo/layers.py",
        "/elsewhere/lib.py",
        "/runner1/repo/net.py",
    )


@pytest.mark.parametrize(
    ("runs", "said"),
    [
        ([ONE], "shard 2/2 is missing: give the files of all 2 parts"),
        ([ONE, ONE], "shard 1/2 is there twice: 1.json and 2.json"),
        ([ONE, TWO, TWO], "shard 2/2 is there twice"),
        ([ONE, replace(TWO, shard=None)], "2.json is a whole run: expected a part"),
        ([ONE, part(2, seed=1)], "1.json and 2.json come from different runs: seed is 0 and 1"),
        ([ONE, part(2, config={"rtol": 0.1})], "different runs: rtol is None and 0.1"),
        ([ONE, part(2, config={"targets": ["other.py"]})], "different runs: targets is ['layers.py'] and ['other.py']"),
        ([ONE, part(2, version="2")], "different runs: gradcheck's version is '1' and '2'"),
        ([ONE, part(2, 3)], "different runs: of 2 parts and of 3"),
        ([ONE, part(2, names=(*NAMES, "new"))], "different runs: new is planned in only one of them"),
        ([ONE, part(2, names=NAMES[::-1])], "different runs: the cases are planned in another order"),
        ([ONE, replace(TWO, results=TWO.results[:-1])], f"2.json lacks {TWO.results[-1].case}: was it interrupted"),
        ([ONE, replace(TWO, results=())], "and 8 more: was it interrupted, or stopped by --fail-fast?"),
        ([ONE, replace(TWO, results=(*TWO.results, ONE.results[0]))], "which does not belong to shard 2/2"),
        ([ONE, replace(TWO, results=(*TWO.results, TWO.results[0]))], f"2.json contains {TWO.results[0].case} twice"),
    ],
)
def test_an_incomplete_or_mixed_set_of_parts_is_refused(runs, said):
    with pytest.raises(UsageError) as caught:
        merged(*runs)
    assert said in str(caught.value)


def write(tmp_path, *runs):
    paths = [tmp_path / f"{number}.json" for number in range(len(runs))]
    for path, run in zip(paths, runs, strict=True):
        path.write_text(run.to_json())
    return [str(path) for path in paths]


def merge(*words):
    return CliRunner().invoke(app, ["merge", *map(str, words)])


def failing(verdict, reason):
    first, *rest = ONE.results
    return replace(ONE, results=(replace(first, verdict=verdict, reason=reason), *rest))


@pytest.mark.parametrize(
    ("runs", "code"),
    [
        ([ONE, TWO], 0),
        ([failing(Verdict.FAIL, Reason.DISAGREES), TWO], 1),
        ([failing(Verdict.ERROR, Reason.TIMEOUT), TWO], 3),
        ([failing(Verdict.INCONCLUSIVE, Reason.JUMP), TWO], 0),
        ([part(1, config={"strict": True}), part(2, config={"strict": True})], 0),
        ([ONE], 2),
    ],
)
def test_merge_exits_with_the_code_of_an_unsharded_run(tmp_path, runs, code):
    assert merge(*write(tmp_path, *runs), "-q").exit_code == code


def test_merge_exits_with_4_if_the_run_was_strict(tmp_path):
    strict = {**ONE.config, "strict": True}
    runs = [replace(failing(Verdict.INCONCLUSIVE, Reason.JUMP), config=strict), replace(TWO, config=strict)]
    assert merge(*write(tmp_path, *runs), "-q").exit_code == 4


def test_merge_exits_with_0_if_the_run_was_to_report_only(tmp_path):
    config = {**ONE.config, "report_only": True}
    done = merge(
        *write(tmp_path, *(replace(run, config=config) for run in (failing(Verdict.FAIL, Reason.DISAGREES), TWO))), "-q"
    )
    assert done.exit_code == 0
    assert "report only: otherwise the exit code would be 1" in done.stdout


def test_merge_writes_the_formats_that_a_run_does(tmp_path):
    done = merge(*write(tmp_path, ONE, TWO), "--json", tmp_path / "whole.json", "--html", tmp_path / "whole.html")
    assert "20 passed" in done.stdout
    data = json.loads((tmp_path / "whole.json").read_text())
    assert [r["case"] for r in data["results"]] == [*NAMES]
    assert data["shard"] is None
    assert "layer_0" in (tmp_path / "whole.html").read_text()


def test_merge_says_what_it_cannot_read(tmp_path):
    said = "cannot read nowhere.json: No such file or directory; expected a file that `gradcheck run --json` wrote"
    assert merge("nowhere.json").stderr == f"gradcheck: {said}\n"
    done = merge(*write(tmp_path, ONE, TWO), "--json", tmp_path / "nowhere" / "whole.json")
    assert (done.exit_code, "cannot write" in done.stderr) == (2, True)


def test_parts_that_cannot_be_rendered_are_one_message(tmp_path):
    lost = (LayerResult("blocks.0", "Block", 1),)  # without what holds it
    odd = replace(ONE, results=(replace(ONE.results[0], layers=lost), *ONE.results[1:]))
    done = merge(*write(tmp_path, odd, TWO), "-q", "--html", tmp_path / "whole.html")
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "1.json cannot be rendered (KeyError: ''): was it changed by hand?" in done.stderr

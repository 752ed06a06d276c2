import html
from dataclasses import replace

import pytest

from gradcheck.report import diff
from gradcheck.results import CheckResult, Comparison, Contract, Reason, RunResult, Verdict

PASS, FAIL, OPEN, ERROR = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.ERROR
REASONS = {PASS: Reason.AGREES, FAIL: Reason.DISAGREES, OPEN: Reason.DULL, ERROR: Reason.TARGET_RAISED}


def line(verdict, wrt="x", resolution=1e-9):
    worth = resolution if verdict is PASS else float("nan")
    return Comparison(wrt, "y", "reverse", "numeric", verdict, REASONS[verdict], 2, 1, 0, 1, 0.5, 1e-8, worth)


def result(verdict, name="a", **fields):
    made = CheckResult(name, name, verdict, REASONS[verdict], comparisons=(line(verdict),), evaluations=100, seconds=1.0)
    return replace(made, **fields)


def run(*results, **fields):
    return RunResult("0", {"python": "3.11"}, fields.pop("seed", 0), fields.pop("config", {}), results, **fields)


def found(old, new):
    told = diff.compare_runs(run(*old), run(*new))
    return {name: [c.case for c in getattr(told, name)] for name in diff.TITLES if getattr(told, name)}


@pytest.mark.parametrize(
    ("old", "new", "lists"),
    [
        (result(PASS), result(PASS), {}),
        (result(FAIL), result(FAIL), {}),
        (result(PASS), result(FAIL), {"failures": ["a"]}),
        (result(PASS), result(ERROR), {"failures": ["a"]}),
        (result(OPEN), result(FAIL), {"failures": ["a"]}),
        (result(FAIL), result(ERROR), {"failures": ["a"]}),
        (result(PASS), result(OPEN), {"undecided": ["a"]}),
        (result(FAIL), result(PASS), {"fixed": ["a"]}),
        (result(OPEN), result(PASS), {"fixed": ["a"]}),
        (result(FAIL), result(OPEN), {}),
        (result(FAIL, expect="fail", because="so"), result(PASS, expect="fail", because="so"), {"failures": ["a"]}),
        (result(PASS), result(FAIL, expect="fail", because="so"), {}),
        (result(PASS), result(PASS, comparisons=(line(PASS, resolution=2e-8),)), {"coarser": ["a"]}),
        (result(PASS), result(PASS, comparisons=(line(PASS, resolution=9e-9),)), {}),
        (result(PASS), result(PASS, evaluations=151), {"slower": ["a"]}),
        (result(PASS), result(PASS, evaluations=149, seconds=1.9), {}),
        (result(PASS), result(PASS, seconds=2.5), {"slower": ["a"]}),
        (result(PASS, seconds=0.01), result(PASS, seconds=0.9), {}),
        (result(PASS), result(PASS, "b"), {"removed": ["a"], "new": ["b"]}),
        (result(PASS), result(FAIL, "b"), {"failures": ["b"], "removed": ["a"], "new": ["b"]}),
        (result(PASS, "p\\a"), result(PASS, "p/a"), {}),
    ],
)
def test_what_became_of_a_case(old, new, lists):
    assert found([old], [new]) == lists


def test_a_case_that_fails_in_another_place_is_a_new_failure():
    old = result(FAIL)
    new = replace(old, comparisons=(line(FAIL), line(FAIL, "w")), contracts=(Contract("state", FAIL, "leaks"),))
    told = diff.compare_runs(run(old), run(new))
    assert [c.description for c in told.failures] == ["FAIL: also w, contract state"]
    assert not diff.compare_runs(run(new), run(old)).failures


def test_the_markdown_of_very_many_changes_stays_within_the_limit_and_says_so():
    old, new = ([result(verdict, f"layers:case_{k}") for k in range(300)] for verdict in (PASS, FAIL))
    old_run, new_run = run(*old, config={"x": "a" * 9000}), run(*new, config={"x": "b" * 9000})
    told = diff.compare_runs(old_run, new_run)
    text = diff.render_markdown(told, limit=20_000)
    assert len(text.encode()) < 20_000
    shown = text.count("| `layers:case_")
    assert 0 < shown < 300
    assert f"and {300 - shown} more, left out" in text


def target(name, **fields):
    return {"asked": {"targets": [name], "inputs": ["normal(3)"], "wrt": []}, "options": [], "expect": "pass", **fields}


def test_only_the_configured_targets_that_differ_are_shown():
    before, now = [target("a"), target("b")], [target("a"), target("b", options=[["trials", 2]]), target("c")]
    told = diff.compare_runs(run(config={"entries": before}), run(config={"entries": now}))
    asked = "asked: (targets: {}; inputs: normal(3))"
    assert told.settings == (
        f"entries: ({asked.format('b')}; options: trials, 2; expect: pass), ({asked.format('c')}; expect: pass), "
        f"was ({asked.format('b')}; expect: pass)",
    )
    told = diff.compare_runs(run(config={"entries": before}), run(config={"entries": before[::-1]}))
    assert told.settings == ("entries: in another order",)


def test_it_says_by_how_much_and_counts():
    old = [result(PASS, "a"), result(PASS, "b"), result(PASS, "c"), result(FAIL, "d"), result(PASS, "e")]
    new = [
        result(FAIL, "a"),
        result(PASS, "b", comparisons=(line(PASS, resolution=1e-6),)),
        result(PASS, "c", evaluations=300, seconds=4.0),
        result(PASS, "d"),
        result(PASS, "f"),
    ]
    told = diff.compare_runs(
        run(*old, config={"rtol": None}), run(*new, seed=1, config={"rtol": 1e-3}, interrupted=True, planned=9)
    )
    for text in (diff.render(told), html.unescape(diff.render_markdown(told))):
        for part in (
            "reverse 2, numeric 1",
            "x, reverse ~ numeric: right to 1.0e-06, was 1.0e-09",
            "300 evaluations, was 100 (3.0 times); 4.0 s, was 1.0 s (4.0 times)",
            "was FAIL disagrees",
            "seed: 1, was 0",
            "rtol: 0.001, was none",
            "the new run was interrupted: 5 of 9 cases are finished",
            "new failures: 1, fixed: 1, coarser resolution: 1, slower: 1, removed: 1, new: 1",
        ):
            assert part in text
    assert diff.render(diff.compare_runs(run(*old), run(*old))) == "no case has changed\n"

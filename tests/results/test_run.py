import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradcheck.glossary.verdicts import worst_verdict
from gradcheck.results import CheckResult, Comparison, Contract, Partial, Reason, RunResult, Verdict

numbers = st.floats(allow_nan=False) | st.just(math.inf)
comparisons = st.builds(
    Comparison,
    wrt=st.text(),
    output=st.text(),
    method=st.just("analytic"),
    against=st.just("numeric"),
    verdict=st.sampled_from(Verdict),
    reason=st.sampled_from(Reason),
    claimed=numbers,
    estimate=numbers,
    bound=numbers,
    abs_err=numbers,
    rel_err=numbers,
    rtol=numbers,
    resolution=numbers,
    worst_entry=st.none() | st.tuples(st.integers(0, 9), st.integers(0, 9)),
)
results = st.builds(
    CheckResult,
    case=st.text(),
    target=st.text(),
    verdict=st.sampled_from(Verdict),
    reason=st.sampled_from(Reason),
    comparisons=st.lists(comparisons, max_size=2).map(tuple),
    contracts=st.just((Contract("deterministic", Verdict.PASS, "fine"),)),
    partials=st.just((Partial("x", (0, 1), "output", (), {"numeric": 1.0}, 0.5, 0.25),)),
    notes=st.lists(st.text(), max_size=2).map(tuple),
    expect=st.sampled_from(["pass", "fail"]),
)


def run_of(*found: CheckResult) -> RunResult:
    return RunResult("0", {"python": "3"}, 0, {"trials": 1}, tuple(found))


def result(verdict: Verdict, expect: str = "pass") -> CheckResult:
    return CheckResult("c", "t", verdict, Reason.AGREES, expect=expect)


@settings(deadline=None, max_examples=30)  # the first example loads what reads JSON
@given(st.lists(results, max_size=2))
def test_a_run_is_read_back_from_json_as_it_was(found):
    run = run_of(*found)
    assert RunResult.from_dict(json.loads(run.to_json())) == run


def test_json_stays_valid_with_numbers_that_are_not_finite():
    c = Comparison("x", "y", "a", "b", Verdict.PASS, Reason.AGREES, math.nan, math.inf, -math.inf, 0, 0, 0, math.nan)
    run = run_of(CheckResult("c", "t", Verdict.PASS, Reason.AGREES, comparisons=(c,)))
    data = json.loads(run.to_json(), parse_constant=pytest.fail)
    assert [data["results"][0]["comparisons"][0][k] for k in ("claimed", "estimate", "bound")] == ["nan", "inf", "-inf"]
    again = RunResult.from_dict(data).results[0].comparisons[0]
    assert math.isnan(again.claimed)
    assert again.bound == -math.inf


def test_json_has_the_keys_that_others_read():
    c = Comparison("x", "y", "a", "b", Verdict.PASS, Reason.AGREES, 1, 1, 0, 0, 0, 0, 0)
    data = run_of(CheckResult("c", "t", Verdict.PASS, Reason.AGREES, comparisons=(c,))).to_dict()
    assert {"schema_version", "gradcheck_version", "environment", "seed", "config", "verdict", "counts", "results"} <= set(data)
    case = data["results"][0]
    assert {"case", "target", "file", "line", "verdict", "reason", "comparisons", "contracts", "evaluations"} <= set(case)
    assert {"seconds", "replay"} <= set(case)
    assert {
        "wrt", "output", "method", "against", "verdict", "reason", "claimed", "estimate", "bound", "abs_err", "rel_err", "rtol",
        "resolution", "worst_entry", "diagnosis",
    } <= set(case["comparisons"][0])  # fmt: skip


@pytest.mark.parametrize(
    ("verdict", "expect", "outcome"),
    [
        (Verdict.FAIL, "fail", Verdict.PASS),
        (Verdict.PASS, "fail", Verdict.FAIL),
        (Verdict.INCONCLUSIVE, "fail", Verdict.INCONCLUSIVE),
        (Verdict.ERROR, "fail", Verdict.ERROR),
        (Verdict.FAIL, "pass", Verdict.FAIL),
    ],
)
def test_an_expected_fail_counts_as_passed_and_its_absence_as_failed(verdict, expect, outcome):
    assert result(verdict, expect).outcome is outcome


def test_counts_name_expected_fails_among_the_passed():
    counts = run_of(result(Verdict.PASS), result(Verdict.FAIL, "fail"), result(Verdict.INCONCLUSIVE)).counts
    assert counts == {"pass": 2, "fail": 0, "inconclusive": 1, "error": 0, "expected_fail": 1, "known": 0}


def test_a_certain_fail_outweighs_everything():
    assert worst_verdict([Verdict.ERROR, Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE]) is Verdict.FAIL
    assert worst_verdict([]) is Verdict.PASS


def test_every_reason_but_a_plain_pass_or_fail_gives_advice():
    silent = {Reason.AGREES, Reason.BOTH_ZERO, Reason.DISAGREES, Reason.BAD_INPUT, Reason.TARGET_RAISED}
    assert all(reason.message for reason in Reason)
    assert {reason for reason in Reason if not reason.advice} == silent

"""`--gradcheck-harvest`: what the tests call, checked when the session ends."""

import json

import pytest

from gradcheck.harvest.join import join_parts

TESTS = """
from layers import *

def test_square():
    Square.apply(torch.arange(3.0, requires_grad=True)).sum().backward()

def test_more():
    Square.apply(torch.arange(4.0, requires_grad=True)).sum().backward()

def test_by_gradcheck_itself(gradcheck):
    gradcheck(Square, normal(5))
"""


@pytest.mark.filterwarnings("default")
def test_right_derivatives_leave_the_session_as_it_is(project, write_tests):
    write_tests(TESTS)
    result = project.runpytest_inprocess("--gradcheck-harvest", "--gradcheck-json=run.json")
    result.assert_outcomes(passed=3)
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        ["*= gradcheck harvest =*", "2 passed; *", "# layers:Square (layers.py, line *", "@case(x=normal(3*"]
    )
    run = json.loads((project.path / "run.json").read_text())
    assert [r["case"] for r in run["results"]] == [
        "test_it.py::test_by_gradcheck_itself: Square",
        "layers:Square(float32[3])",
        "layers:Square(float32[4])",
    ]


def test_a_wrong_derivative_fails_a_session_whose_tests_pass(project, write_tests):
    write_tests("def test_it(): Wrong.apply(torch.ones(3, requires_grad=True)).sum().backward()")
    result = project.runpytest_inprocess("--gradcheck-harvest", "--gradcheck-seed=4")
    result.assert_outcomes(passed=1)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["layers:Wrong(float32[[]3[]])*FAIL", "*seed 4", "replay: pytest *--gradcheck-harvest*"])
    project.runpytest_inprocess().assert_outcomes(passed=1)


def test_over_workers_each_kind_of_call_is_shown_once(project, write_tests):
    write_tests(TESTS + "\ndef test_wrong(): Wrong.apply(torch.ones(3, requires_grad=True)).sum()\n")
    result = project.run_alone("-n2", "--gradcheck-harvest")
    result.assert_outcomes(passed=4)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*= gradcheck harvest =*", "2 passed, 1 failed; *"])
    assert result.stdout.str().count("@case(x=normal(4,") == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--gradcheck-harvest"], "no call found of an autograd.Function*"),
        (["--gradcheck-harvest", "--gradcheck-harvest-budget=soon"], "*--gradcheck-harvest-budget*soon*"),
    ],
)
def test_nothing_called_and_a_budget_that_is_no_time(project, write_tests, words, said):
    write_tests("def test_it(): pass")
    result = project.runpytest_inprocess(*words)
    assert result.ret == (0 if len(words) == 1 else 4)
    (result.stdout if len(words) == 1 else result.stderr).fnmatch_lines([said])


def test_a_worker_that_crashes_is_said_to_have_lost_its_calls(project, write_tests):
    from pytest_gradcheck import harvest

    config = project.parseconfig("--gradcheck-harvest")
    config.stash[harvest.PARTS] = []
    part = {"loaded": ["torch"], "not_recorded": {}}
    harvest.receive(config, {harvest.KEY: json.dumps(part)})
    harvest.receive(config, {})
    assert config.stash[harvest.PARTS] == [part, None]
    (message,) = join_parts([part], lost=1).messages
    assert message.startswith("1 process ended before the recorded calls could be checked")


@pytest.mark.parametrize(("words", "code"), [([], 1), (["--gradcheck-report-only"], 0)])
def test_a_session_says_why_it_fails_and_report_only_lets_it_pass(project, write_tests, words, code):
    write_tests("def test_it(): Wrong.apply(torch.ones(3, requires_grad=True)).sum().backward()")
    result = project.runpytest_inprocess("--gradcheck-harvest", *words)
    result.assert_outcomes(passed=1)
    assert result.ret == code
    assert result.stdout.str().count("replay: ") == 1
    assert ("the session fails for these checks" in result.stdout.str()) == bool(code)

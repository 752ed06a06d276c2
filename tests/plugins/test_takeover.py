"""`--gradcheck-takeover` in a user's project, whose checker is that of `tests/support/incumbent.py`."""

import json
import re
import shlex
import sys
from pathlib import Path

import incumbent
import incumbent_adapter
import pytest
from pytest_gradcheck import takeover

from gradcheck.takeover import reports, session
from gradcheck.takeover.records import DEFAULT_BUDGET, MODES, TakeoverRun

CONFTEST = """
from gradcheck.takeover import session
import incumbent_adapter

session.list_checkers = lambda: incumbent_adapter.CHECKERS
"""
TESTS = """
import functools, unittest
import numpy as np, pytest
from incumbent import check_derivative, norm_of_errors
import incumbent

def cube(x): return np.sum(x**3)
def right(x): return 3 * x**2
def wrong(x): return 3 * x**2 * np.where(np.arange(x.size) == 1, 1.0005, 1)

bound = functools.partial(check_derivative, cube, eps=1e-5)

@pytest.mark.parametrize("n", [2, 3, 4])
def test_wrong(n):
    assert check_derivative(cube, wrong, np.arange(1.0, n + 1))

def test_right():
    assert bound(right, np.ones(2))

class TestCase(unittest.TestCase):
    check = staticmethod(incumbent.check_derivative)

    def test_method(self):
        assert self.check(cube, right, np.ones(2))

class TestMore(TestCase):
    def test_expected(self):
        with self.assertRaises(incumbent.CheckError):
            self.check(cube, np.zeros_like, np.ones(2))

def test_failing():
    check_derivative(cube, right, np.ones(2), eps=0.5)

def test_norm():
    assert norm_of_errors(cube, right, np.ones(2)) < 1e-6

def test_norm_of_wrong():
    assert norm_of_errors(cube, wrong, np.ones(2)) < 1e-1
"""
COUNTS = {"finding": 4, "theirs-failed": 1, "inconclusive": 0, "not-compared": 0, "ours-alone": 0, "agree-fail": 1}


@pytest.fixture
def suite(project, monkeypatch):
    """A project with the checker, its adapter and some tests; warnings are errors."""
    monkeypatch.setattr(session, "list_checkers", lambda: incumbent_adapter.CHECKERS)
    for module in (incumbent, incumbent_adapter):
        (project.path / Path(module.__file__).name).write_text(Path(module.__file__).read_text())
    project.makeini("[pytest]\nfilterwarnings = error\n")
    project.makeconftest(CONFTEST)
    project.makepyfile(test_it=TESTS)
    return project


@pytest.fixture
def run(suite):
    """Run pytest, with workers in a process of its own; return what it printed, and its JSON."""

    def call(*words):
        run_pytest = suite.run_alone if any(word.startswith("-n") for word in words) else suite.runpytest
        done = run_pytest("--gradcheck-takeover-json=run.json", *words)
        path = suite.path / "run.json"
        return done, TakeoverRun.from_dict(json.loads(path.read_text())) if path.exists() else None

    return call


def test_the_options_are_those_of_the_package():
    assert takeover.MODES == MODES
    assert tuple(reports.FORMATS) == takeover.FORMATS
    assert f"default: {DEFAULT_BUDGET:g}s" in takeover.BUDGET_HELP


def count(run):
    return {category.value: number for category, number in run.counts.items() if category.value != "agree-pass"}


def test_report_changes_no_outcome(run, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["pytest", "-q"])  # which a worker of xdist lacks
    done, found = run("--gradcheck-takeover", "--gradcheck-takeover-html=run.html", "--gradcheck-takeover-markdown=run.md")
    done.assert_outcomes(passed=9, failed=1)
    assert done.ret == pytest.ExitCode.TESTS_FAILED
    assert count(found) == COUNTS
    section = done.stdout.str().partition(" gradcheck takeover =")[2]
    assert "  test_it.py::test_wrong  3 calls  test_it.py:14" in section
    assert "    again: pytest 'test_it.py::test_wrong[2]' --gradcheck-takeover=enforce" in section
    causes = ("its tolerance is below the error of its own estimate", "its step size does not suit the function")
    assert any(f"{cause}: CheckError: derivative" in " ".join(section.split()) for cause in causes)
    assert {call.test for call in found.calls} == {
        *(f"test_it.py::test_wrong[{n}]" for n in (2, 3, 4)),
        "test_it.py::test_right",
        "test_it.py::TestCase::test_method",
        "test_it.py::TestMore::test_method",
        "test_it.py::TestMore::test_expected",
        "test_it.py::test_failing",
        "test_it.py::test_norm",
        "test_it.py::test_norm_of_wrong",
    }
    assert found.command.startswith("pytest ")


def test_the_printed_command_works_in_the_folder_of_the_run(suite, run, monkeypatch):
    suite.mkdir("inside")
    (suite.path / "test_it.py").rename(suite.path / "inside/test_it.py")
    monkeypatch.chdir(suite.path / "inside")
    done, found = run("--gradcheck-takeover", "--gradcheck-takeover-json=../run.json", "-k", "test_wrong")
    assert {call.test_function for call in found.calls} == {"inside/test_it.py::test_wrong"}
    (command,) = [line for line in done.outlines if "again: " in line]
    words = shlex.split(command.partition("again: ")[2])
    assert words == ["pytest", "test_it.py::test_wrong[2]", "--gradcheck-takeover=enforce"]
    suite.runpytest(*words[1:]).assert_outcomes(failed=1)


def test_enforce_takes_the_outcomes_of_gradcheck(run):
    done, found = run("--gradcheck-takeover=enforce", "-k", "wrong or failing")
    done.assert_outcomes(passed=2, failed=3, deselected=5)
    done.stdout.fnmatch_lines(["E *CheckError: gradcheck: FAIL*"])
    assert found.mode == "enforce"


def test_over_workers_the_report_is_that_of_one_process(run):
    done, spread = run("--gradcheck-takeover", "-n2")
    done.assert_outcomes(passed=9, failed=1)
    _, alone = run("--gradcheck-takeover")
    assert [(call.test, call.category) for call in spread.calls] == [(call.test, call.category) for call in alone.calls]
    assert done.stdout.str().count("gradcheck takeover =") == 1


def test_a_worker_that_dies_loses_nothing_written_before(suite, run):
    suite.makepyfile(
        test_it="""
import os
import numpy as np
from incumbent import check_derivative

def test_right():
    assert check_derivative(np.sum, np.ones_like, np.ones(2))

def test_dying():
    check_derivative(np.sum, np.ones_like, np.ones(2))
    os._exit(3)
"""
    )
    done, found = run("--gradcheck-takeover", "-n1", "--max-worker-restart=0")
    assert [call.test for call in found.calls] == ["test_it.py::test_right", "test_it.py::test_dying"]
    done.stdout.fnmatch_lines(["2 calls of incumbent.check_derivative in 2 tests: 2 agree."])


def test_predict_says_how_long_it_would_take(run):
    done, found = run("--gradcheck-takeover=predict", "--gradcheck-takeover-budget=2min")
    done.assert_outcomes(passed=9, failed=1)
    assert re.search(r"A takeover would add about \d+ s \(\d+ to \d+ s\): measured on 10 of 10 calls\.", done.stdout.str())
    assert found.budget == 120.0


def test_a_deadline_of_hypothesis_is_lifted(suite, run):
    suite.makepyfile(
        test_it="""
import numpy as np
from hypothesis import given, settings, strategies as st
from incumbent import check_derivative

@settings(max_examples=1, deadline=0.01)
@given(st.just(2))
def test_given(n):
    assert check_derivative(np.sum, np.ones_like, np.ones(n))
"""
    )
    done, found = run("--gradcheck-takeover")
    done.assert_outcomes(passed=1)
    assert len(found.calls) == 1


def test_without_the_option_nothing_is_intercepted(suite):
    done = suite.runpytest()
    done.assert_outcomes(passed=9, failed=1)
    assert "gradcheck takeover" not in done.stdout.str()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("--gradcheck-takeover", "test_it.py"),
            "'test_it.py': expected report, enforce, predict; to test test_it.py, write",
        ),
        (("--gradcheck-takeover=repot",), "'repot': expected report, enforce, predict; did you mean report?"),
        (("--gradcheck-takeover", "--gradcheck-takeover-budget=soon"), "'soon': expected a duration such as 30s or 5min"),
        (("--gradcheck-takeover-html=run.html",), "--gradcheck-takeover-html has no effect without --gradcheck-takeover"),
        (("--gradcheck-takeover-budget=5s",), "--gradcheck-takeover-budget has no effect without --gradcheck-takeover"),
        (("--gradcheck-takeover", "--gradcheck-takeover-html=missing/run.html"), "cannot write *missing/run.html"),
    ],
)
def test_mistakes_are_told_before_the_tests_run(suite, words, message):
    done = suite.runpytest(*words)
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines([f"*{message}*"])


def test_the_budget_may_be_in_the_ini_file(suite):
    suite.makeini("[pytest]\ngradcheck_takeover_budget = 3s\n")
    done = suite.runpytest("--gradcheck-takeover", "--gradcheck-takeover-json=run.json", "-k", "test_right")
    done.assert_outcomes(passed=1, deselected=9)
    assert json.loads((suite.path / "run.json").read_text())["budget"] == 3.0


def test_collecting_alone_reports_nothing(suite):
    done = suite.runpytest("--gradcheck-takeover", "--collect-only")
    assert "gradcheck takeover" not in done.stdout.str()

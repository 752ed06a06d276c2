"""Report-only mode: a wrong derivative warns where it would fail a test, whoever checks it, and whatever filters say."""

import json

import pytest

TESTS = """
import unittest
import gradcheck as module

def square(x): return np.sum(x**2)
def wrong(x): return 3 * x

def test_right(gradcheck):
    gradcheck(square, normal(3), gradient=lambda x: 2 * x)

def test_fixture(gradcheck):
    gradcheck(square, normal(3), gradient=wrong)

def test_assertion():
    module.assert_gradients(square, normal(3), gradient=wrong)

class TestCase(unittest.TestCase):
    def test_method(self):
        module.assert_gradients(square, normal(3), gradient=wrong)

def test_part(subtests):
    with subtests.test():
        module.assert_gradients(square, normal(3), gradient=wrong)

@pytest.mark.gradcheck(strict=True)
def test_undecided(gradcheck):
    gradcheck(lambda x: square(x) + np.random.default_rng().normal(), normal(3), gradient=lambda x: 2 * x)

def test_expected():
    with pytest.raises(module.GradientError):
        module.assert_gradients(square, normal(3), gradient=wrong)

@pytest.mark.xfail(strict=True)
def test_known():
    module.assert_gradients(square, normal(3), gradient=wrong)

def test_broken(gradcheck):
    gradcheck(lambda x: 1 / 0, normal(3), framework="numpy")

def test_other():
    assert square(2.0) == 5
"""


@pytest.fixture
def verdicts(project):
    return lambda: {r["case"]: r["verdict"] for r in json.loads((project.path / "run.json").read_text())["results"]}


@pytest.mark.parametrize("words", [["--gradcheck-report-only"], ["-o", "gradcheck_report_only=true"]])
def test_failed_checks_warn_and_other_failures_stay(project, write_tests, verdicts, words):
    write_tests(TESTS)
    done = project.runpytest("--gradcheck-json=run.json", "-W", "error", *words)
    done.assert_outcomes(passed=7, failed=2, xfailed=1, warnings=5)
    done.stdout.fnmatch_lines(
        [
            "gradcheck: report only",
            "*test_it.py:*: ReportOnlyWarning: FAIL x[[]?]: analytic *, numeric *",
            "*--gradcheck-report-only (gradcheck_report_only) has the test pass",
            "*test_it.py:*: ReportOnlyWarning: INCONCLUSIVE: *",
            "1 passed, 1 failed, 1 inconclusive, 1 error; *",
            "report only: otherwise the exit code would be 1",
            "FAILED test_it.py::test_broken - ERROR: the function raised ZeroDivisionError*",
            "FAILED test_it.py::test_other - *",
        ]
    )
    assert verdicts()["test_it.py::test_fixture: square"] == "FAIL"


def test_cases_warn_too_over_workers(project, verdicts):
    project.block_torch()  # which is slow to load, and needed for nothing here
    done = project.run_alone("-n1", "--gradcheck-report-only", "--gradcheck", "cases", "--gradcheck-json=run.json")
    done.assert_outcomes(passed=4, xfailed=1, warnings=2)
    assert done.ret == pytest.ExitCode.OK
    assert verdicts()["cases:both[wrong]"] == "FAIL"


def test_the_configuration_switches_it_on_for_its_cases(project, write_tests):
    write_tests("def test_fixture(gradcheck):\n    gradcheck(Wrong, normal(3))\n")
    text = '[tool.gradcheck]\nreport_only = true\n[[tool.gradcheck.target]]\ntarget = "cases"\n'
    (project.path / "pyproject.toml").write_text(text)
    done = project.runpytest()
    done.assert_outcomes(passed=4, failed=1, xfailed=1, warnings=2)
    done.stdout.fnmatch_lines(["report only: otherwise the exit code would be 1", "FAILED test_it.py::test_fixture - *"])


def test_a_session_that_passes_says_nothing_of_it(project):
    done = project.runpytest("--gradcheck", "cases:good", "--gradcheck-report-only")
    done.assert_outcomes(passed=1)
    assert "otherwise" not in done.stdout.str()

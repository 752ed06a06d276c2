"""The results of all checks together: over xdist's workers, in the reports, in the section at the end."""

import json
import re

import pytest

from gradcheck.report.formats import FORMATS

TESTS = """
import numpy as np, pytest
from gradcheck import normal

def square(x): return np.sum(x**2)

def gradient(x): return 2 * x

@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_right(gradcheck, n):
    gradcheck(square, normal(n), gradient=gradient)

def test_wrong(gradcheck):
    gradcheck(square, normal(3), gradient=lambda x: 3 * x)

def test_torch(gradcheck):
    gradcheck(square, normal(3), framework="torch")

@pytest.mark.gradcheck(rtoll=1e-3)
def test_marked():
    pass
"""


def plain(path):
    """A run's JSON without what differs from run to run."""
    return json.loads(re.sub(r'"(seconds|started)": [^,]*,|"command": ".*",?\n', "", path.read_text()))


def test_over_workers_and_without_torch_results_are_as_in_one_process(project):
    project.block_torch()
    project.makepyfile(test_it=TESTS)

    def run(*words):
        return project.run_alone("--gradcheck", "cases", *words)

    spread = run(
        "-n2", "--gradcheck-seed=random", "--gradcheck-json=spread.json", "--junit-xml=junit.xml", "-k", "not undecided"
    )
    spread.assert_outcomes(passed=6, failed=3, errors=1, xfailed=1)
    seed = re.search(r"^gradcheck: seed (\d+) \(random\)", spread.stdout.str(), re.M)[1]
    spread.stdout.fnmatch_lines([f"7 passed, 2 failed (1 of them expected to fail); *, seed {seed}", "slowest *", "weakest *"])
    assert 'name="gradcheck" value="test_it.py::test_right[1]: square"' in (project.path / "junit.xml").read_text()

    alone = run("--gradcheck-seed", seed, "--gradcheck-json=alone.json", "-k", "not undecided")
    alone.assert_outcomes(passed=6, failed=3, errors=1, xfailed=1, deselected=1)
    alone.stdout.fnmatch_lines(["E *reverse not available: PyTorch traces NumPy code, and 'torch' is not installed"])
    alone.stdout.fnmatch_lines(["E *framework torch: 'torch' is not installed; pip install torch"])
    found = plain(project.path / "spread.json")
    assert found == plain(project.path / "alone.json")
    assert [r["case"] for r in found["results"]][3:6] == [
        "test_it.py::test_right[4]: square",
        "test_it.py::test_wrong: square",
        "cases:good",
    ]
    assert found["environment"].keys() >= {"python", "numpy", "pytest"}

    last = run("-n1", "--lf", "--gradcheck", "caes")
    last.assert_outcomes(failed=3, errors=2)
    last.stdout.fnmatch_lines(["*ERROR collecting caes*"])


def test_every_format_is_written_where_it_is_asked_for(project, write_tests, monkeypatch):
    write_tests("def test_it(gradcheck):\n    gradcheck(Square, normal(3))\n")
    project.makeini("[pytest]\ngradcheck_json = of_ini.json\n")
    below = project.mkdir("below")
    monkeypatch.chdir(below)
    project.runpytest("..", *(f"--gradcheck-{name}={name}.out" for name in FORMATS if name != "json")).assert_outcomes(passed=1)
    assert json.loads((project.path / "of_ini.json").read_text())["counts"]["pass"] == 1
    assert {path.name for path in below.iterdir()} == {f"{name}.out" for name in FORMATS if name != "json"}


def test_a_report_that_cannot_be_written_is_said_at_the_end_and_in_the_exit_code(project, write_tests):
    write_tests("def test_it(gradcheck):\n    gradcheck(Square, normal(3))\n")
    done = project.runpytest("-q", "--gradcheck-json", "nowhere/run.json")
    done.assert_outcomes(passed=1)
    done.stdout.fnmatch_lines(["cannot write *nowhere/run.json: *"])
    assert done.ret == pytest.ExitCode.USAGE_ERROR


def test_collecting_alone_writes_no_report(project):
    project.runpytest("--gradcheck", "cases", "--collect-only", "--gradcheck-json", "run.json")
    assert not (project.path / "run.json").exists()


def test_an_interrupted_session_says_so_in_its_report(project, write_tests):
    write_tests("""
def test_first(gradcheck):
    gradcheck(Square, normal(3))

def test_second():
    pytest.exit('enough')
""")
    done = project.runpytest("--gradcheck-json", "run.json")
    assert done.ret == pytest.ExitCode.INTERRUPTED
    found = plain(project.path / "run.json")
    assert found["interrupted"]
    assert [r["case"] for r in found["results"]] == ["test_it.py::test_first: Square"]


def test_the_section_names_the_slowest_and_the_weakest(project, write_tests):
    write_tests("""
import time

def slow(x):
    time.perf_counter()
    return (x * torch.ones(400, 400)[0, 0]).sum()

@pytest.mark.parametrize("rtol", [None, 1e-2])
def test_single(gradcheck, rtol):
    gradcheck(torch.nn.Linear(3, 2), normal(4, 3, dtype="float32"), rtol=rtol)

def test_double(gradcheck):
    gradcheck(Square, normal(3))
""")
    done = project.runpytest()
    section = done.stdout.str().partition("= gradcheck =")[2]
    assert re.search(r"^3 passed; \d+ evaluations, [\d.]+ s, seed 0$", section, re.M)
    assert len(re.findall(r"\d\.\d\d s  test_it\.py::", section)) == 3
    weakest = re.findall(r"right to (\S+)  (\S+):", section)
    assert [float(value) for value, _ in weakest] == sorted((float(value) for value, _ in weakest), reverse=True)
    assert weakest[-1][1] == "test_it.py::test_double"
    assert "= gradcheck =" not in project.runpytest("-q").stdout.str()


def test_a_session_without_checks_is_as_without_the_plugin(project):
    project.makepyfile(test_other="def test_it():\n    pass\n")
    done = project.runpytest()
    done.assert_outcomes(passed=1)
    assert "gradcheck:" not in done.stdout.str()
    assert "= gradcheck =" not in done.stdout.str()


def test_a_test_that_is_run_again_leaves_its_last_results(project, write_tests):
    project.makeconftest("""
import pytest
from _pytest.runner import runtestprotocol

@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item, nextitem):
    for _ in range(2):
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
        for report in reports:
            item.ihook.pytest_runtest_logreport(report=report)
    return True
""")
    write_tests("def test_it(gradcheck):\n    gradcheck(Square, normal(3))\n")
    project.runpytest("--gradcheck-json", "run.json", "--junit-xml", "junit.xml")
    assert [r["case"] for r in plain(project.path / "run.json")["results"]] == ["test_it.py::test_it: Square"]

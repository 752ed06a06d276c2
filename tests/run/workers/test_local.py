"""Cases in several processes: same results in the same order, and a case that dies or hangs does not affect the others."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading

import pytest
from typer.testing import CliRunner

from gradcheck.cli import app

SOURCE = """
    import os, sys, time
    import numpy as np
    from gradcheck import case, normal

    @case(x=normal(3), gradient=lambda x: 2 * x)
    def square(x):
        print("said by the user's code")
        return np.sum(x**2)

    # Without the traced derivative no worker imports PyTorch.
    @case(x=normal(3), gradient=lambda x: 2 * x**2, options={"methods": ("analytic",)})
    def cube(x):
        return np.sum(x**3)

    @case(x=normal(3), gradient=np.cos)
    def sine(x):
        return np.sum(np.sin(x))
"""
DYING = """
    @case(x=normal(3), gradient=np.cos)
    def dying(x):
        os._exit(1)
"""
HANGING = """
    @case(x=normal(3), gradient=np.cos)
    def hanging(x):
        while True:
            pass
"""


@pytest.fixture
def run(tmp_path):
    def run(source, *words):
        path = tmp_path / "cases_in_parallel.py"
        path.write_text(textwrap.dedent(SOURCE) + textwrap.dedent(source))
        done = CliRunner().invoke(app, ["run", str(path), "--json", "-", *words])
        results = json.loads(done.stdout)["results"]
        return done, {r["case"].rpartition(":")[2]: r for r in results}

    return run


def facts(results):
    return {name: {k: r[k] for k in ("verdict", "reason", "comparisons", "evaluations")} for name, r in results.items()}


def test_results_and_their_order_do_not_depend_on_the_number_of_processes(run):
    alone, one = run("", "--seed", "5")
    together, two = run("", "--seed", "5", "-j", "2")
    assert facts(one) == facts(two)
    assert list(one) == list(two)
    assert alone.exit_code == together.exit_code == 1


def test_a_process_that_dies_affects_only_its_own_case(run):
    done, results = run(DYING, "-j", "2")
    assert {name: r["reason"] for name, r in results.items()} == {
        "square": "agrees",
        "cube": "disagrees",
        "sine": "agrees",
        "dying": "worker-died",
    }
    assert results["dying"]["verdict"] == "ERROR"
    assert done.exit_code == 1


def test_a_case_over_its_timeout_is_ended(run):
    done, results = run(HANGING, "--timeout", "2s", "-k", "hanging")
    assert {name: r["reason"] for name, r in results.items()} == {"hanging": "timeout"}
    assert results["hanging"]["message"].startswith("it took longer than 2 s, imports included")
    assert done.exit_code == 3


@pytest.mark.parametrize(
    ("words", "message"), [(["--timeout", "soon"], "expected a duration"), (["-j", "0"], "Invalid value for")]
)
def test_limits_that_cannot_be_understood_are_usage_errors(words, message):
    done = CliRunner().invoke(app, ["run", "torch:sin", "--input", "normal(3)", *words])
    assert done.exit_code == 2
    assert message in done.stderr


ENDLESS = """
import os, sys
import numpy as np
from gradcheck import case, normal

@case(x=normal(3), gradient=lambda x: 2 * x)
def square(x):
    return np.sum(x**2)

@case(x=normal(3), gradient=np.cos)
def endless(x):
    while True:
        pass

@case(x=normal(3), gradient=np.cos)
def last(x):
    print("the first is finished")
    return endless(x)
"""


def test_ctrl_c_ends_every_process_silently(tmp_path):
    (tmp_path / "endless.py").write_text(ENDLESS)
    command = [sys.executable, "-m", "gradcheck", "run", "endless.py", "-j", "2", "--json", "run.json"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    heard = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}  # a shell's background jobs ignore it
    child = subprocess.Popen(command, cwd=tmp_path, text=True, start_new_session=True, **pipes, **heard)
    guard = threading.Timer(60, lambda: os.killpg(child.pid, signal.SIGKILL))
    guard.start()
    assert child.stderr.readline() == "the first is finished\n"
    os.killpg(child.pid, signal.SIGINT)  # as a terminal does: the workers are meant too
    out, err = child.communicate()  # until the last process that holds a pipe has ended
    guard.cancel()
    data = json.loads((tmp_path / "run.json").read_text())
    assert data["interrupted"]
    assert [r["case"] for r in data["results"]] == ["endless.py:square"]
    assert "interrupted: 1 of 3 cases are finished" in out
    assert err == ""
    assert child.returncode == 130

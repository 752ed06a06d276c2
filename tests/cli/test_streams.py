"""What the user's code writes to the streams of the process, and signals that end a run."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gradcheck.cli import app

NOISY = """
import atexit, ctypes, os, subprocess
import numpy as np
from gradcheck import case, normal

libc = ctypes.CDLL(None)
libc.printf(b"buffered in C\\n")
os.write(1, b"to the descriptor\\n")
subprocess.run(["echo", "of a child"])
print("at import")
atexit.register(print, "at exit")

@case(x=normal(3), gradient=lambda x: 2 * x)
def square(x):
    os.write(1, b"to the descriptor\\n")
    return np.sum(x**2)
"""
SIGNALS = """
import os, signal, time
import numpy as np
from gradcheck import case, normal

@case(x=normal(3), gradient=lambda x: 2 * x)
def done(x): return np.sum(x**2)

@case(x=normal(3), gradient=lambda x: 2 * x)
def ended(x): signal.raise_signal(signal.{name})

@case(x=normal(3), gradient=lambda x: 2 * x)
def never(x): return np.sum(x**2)
"""
FROM_WORKER = """
import os, signal, time
import numpy as np
from gradcheck import case, normal

@case(x=normal(3), gradient=lambda x: 2 * x, name="a")
@case(x=normal(3), gradient=lambda x: 2 * x, name="b")
def ended(x):
    os.kill({process}, signal.SIGINT)
    time.sleep(60)
"""


def test_json_on_stdout_is_whole_whatever_the_users_code_writes_there(write):
    write({"noisy.py": NOISY})
    words = [sys.executable, "-m", "gradcheck", "run", "noisy.py", "--json", "-"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert json.loads(done.stdout)["counts"]["pass"] == 1
    for said in ("buffered in C", "to the descriptor", "of a child", "at import", "at exit"):
        assert said in done.stderr


@pytest.mark.parametrize("in_workflow", [True, False])
def test_a_github_workflow_gets_no_command_from_a_file_descriptor(write, monkeypatch, in_workflow):
    monkeypatch.setenv("GITHUB_ACTIONS", str(in_workflow).lower())
    write(
        {
            "noisy.py": NOISY.replace("C\\n", "C\\n ::error::C\\n")
            .replace("to the", "::error::to the")
            .replace("of a", "::error::of a")
        }
    )
    words = [sys.executable, "-m", "gradcheck", "run", "noisy.py", "--json", "-"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert json.loads(done.stdout)["counts"]["pass"] == 1
    lines = [line for line in done.stderr.splitlines() if ":error::" in line]
    assert len(lines) >= 4
    assert {line.lstrip().startswith("::") for line in lines} == {not in_workflow}
    for said in ("buffered in C", "error::C", "error::to the descriptor", "error::of a child", "at exit"):
        assert said in done.stderr


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_leaves_the_reports_of_what_is_finished(write, name):
    write({"signals.py": SIGNALS.replace("{name}", name)})
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    done = CliRunner().invoke(app, ["run", "signals.py", "--json", "run.json"])
    data = json.loads(Path("run.json").read_text())
    assert (done.exit_code, data["interrupted"], data["verdict"]) == (130, True, "INCONCLUSIVE")
    assert [result["case"] for result in data["results"]] == ["signals.py:done"]
    assert "interrupted: 1 of 3 cases are finished" in done.stdout
    assert handlers == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]


def test_an_interrupted_run_without_a_result_is_not_a_pass(write):
    write({"workers.py": FROM_WORKER.replace("{process}", str(os.getpid()))})
    done = CliRunner().invoke(app, ["run", "workers.py", "-j", "2", "--json", "-"])
    data = json.loads(done.stdout)
    assert (done.exit_code, data["interrupted"], data["verdict"], data["results"]) == (130, True, "INCONCLUSIVE", [])

"""`python -m gradcheck.takeover`, in this process where nothing speaks against it."""

import json
import subprocess
import sys
from pathlib import Path

import incumbent_adapter
import pytest

from gradcheck.takeover import __main__ as command
from gradcheck.takeover import session
from gradcheck.takeover.records import TakeoverRun

SCRIPT = """
import sys
import numpy as np
from incumbent import check_derivative

def cube(x): return np.sum(x**3)

if __name__ == "__main__":
    print("script", sys.argv)
    print(check_derivative(cube, lambda x: 3 * x**2 * np.array([1, 1.0005]), np.ones(2)))
    print(check_derivative(cube, lambda x: 3 * x**2, np.ones(2)))
    sys.exit(len(sys.argv))
"""


@pytest.fixture
def run(write, monkeypatch, capsys):
    """Run the command; return its exit code, stdout and stderr."""
    write({"script.py": SCRIPT})
    monkeypatch.setattr(session, "list_checkers", lambda: incumbent_adapter.CHECKERS)
    monkeypatch.setattr(sys, "argv", ["takeover"])
    monkeypatch.setattr(sys, "path", [*sys.path])

    def call(*words):
        monkeypatch.delenv("PYTEST_CURRENT_TEST", raising=False)  # pytest sets it for each stage of a test
        try:
            command.main(words)
            code = 0
        except SystemExit as error:
            code = error.code
        return (code, *capsys.readouterr())

    return call


def test_a_script_runs_as_by_itself(run):
    code, out, err = run("--json", "run.json", "script.py", "--flag", "x")
    assert (code, out) == (3, "script ['script.py', '--flag', 'x']\nTrue\nTrue\n")
    assert err.startswith("2 calls of incumbent.check_derivative: 1 agree, 1 that only gradcheck fails.\n")
    assert "  script.py:10\n    disagrees: ∂output / ∂x[1]: analytic 3.0015" in err
    takeover = TakeoverRun.from_dict(json.loads(Path("run.json").read_text()))
    assert takeover.command == "python -m gradcheck.takeover script.py --flag x"
    assert takeover.rerun == "python -m gradcheck.takeover --mode enforce script.py --flag x"


def test_a_module_runs_with_the_answers_of_gradcheck(run):
    from incumbent import CheckError

    with pytest.raises(CheckError, match="gradcheck: FAIL"):
        run("--mode", "enforce", "-m", "script")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "expected a script, or -m and a module"),
        (("--mode", "maybe", "script.py"), "invalid choice: 'maybe'"),
        (("--budget", "soon", "script.py"), "gradcheck: 'soon': expected a duration such as 30s or 5min"),
        (("nope.py",), "gradcheck: can't open file 'nope.py': No such file or directory\n"),
        (("-m", "nope"), "gradcheck: No module named 'nope'\n"),
        (("-m", "nope.inside"), "gradcheck: No module named 'nope.inside'\n"),
        (("--html", "missing/run.html", "script.py"), "gradcheck: cannot write missing/run.html"),
    ],
)
def test_mistakes_are_told_before_the_script_runs(run, words, message):
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert message in err


def test_in_a_process_of_its_own(write):
    write({"plain.py": "import sys\nprint('plain', sys.argv, sys.path[0] != '')\nraise SystemExit('over')\n"})
    done = subprocess.run([sys.executable, "-m", "gradcheck.takeover", "plain.py", "-v"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "plain ['plain.py', '-v'] True\n")
    assert done.stderr.startswith("No call of a known checker was seen (")
    assert done.stderr.endswith("over\n")

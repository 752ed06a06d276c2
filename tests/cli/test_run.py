import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gradcheck.cli import app

SOURCE = """
import numpy as np
from gradcheck import case, normal

def right(x): return 2 * x
def wrong(x): return 3 * x
def shape(x): return np.zeros((1, 3))

@case(x=normal(3), gradient=right)
def good(x):
    print("the user's own output")
    return np.sum(x**2)

def bad(x): return np.sum(x**2)
def noisy(x): return np.sum(x) + np.random.default_rng().standard_normal()
def raises(x): raise ValueError("boom") if isinstance(x, np.ndarray) else None
def text(x): return str(np.sum(x))
def steps(x): return np.sum(np.round(x))
def one(x): return np.ones(3)
def logarithm(x): return np.sum(np.log(-np.abs(x)))
value = 3
"""


@pytest.fixture
def mod(tmp_path):
    path = tmp_path / "cli_target.py"
    path.write_text(SOURCE)
    return str(path)


@pytest.fixture
def cli(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    return lambda *words: CliRunner().invoke(app, [str(w) for w in words])


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["{mod}"], 0, "1 passed"),
        (["{mod}:good"], 0, "PASS"),
        (["{mod}:good", "--methods", "analytic, numeric"], 0, "x       3      analytic ~ numeric"),
        (["{mod}:good", "--methods", "forward"], 2, "methods=forward: none of them is claimed"),
        (["{mod}:bad", "--gradient", "{mod}:wrong", "--input", "normal(3)"], 1, "FAIL ∂output / ∂x["),
        (["{mod}:noisy", "--input", "normal(3)"], 0, "nondeterministic"),
        (["{mod}:noisy", "--input", "normal(3)", "--strict"], 4, "1 inconclusive"),
        (
            ["{mod}:bad", "--gradient", "{mod}:wrong", "--input", "normal(3)", "--report-only"],
            0,
            "\nreport only: otherwise the exit code would be 1\n",
        ),
        (
            ["{mod}:noisy", "--input", "normal(3)", "--strict", "--report-only"],
            0,
            "\nreport only: otherwise the exit code would be 4\n",
        ),
        (["{mod}:raises", "--input", "normal(3)", "--report-only"], 3, "ValueError: boom"),
        (["{mod}:bda", "--input", "normal(3)", "--report-only"], 2, "did you mean bad"),
        (["{mod}:logarithm", "--input", "normal(3)"], 0, "non-finite"),
        (["{mod}:steps", "--gradient", "{mod}:one", "--input", "[0.3, -1.8, 2.2]"], 1, "straight_through=True"),
        (["{mod}:good", "-v"], 0, "planted faults caught (zeroed, sign flipped, "),
        (["{mod}:good", "-vv"], 0, "agree on "),
        (["{mod}:raises", "--input", "normal(3)"], 3, "ValueError: boom"),
        (["{mod}:text", "--input", "normal(3)"], 3, "returned str: expected a floating-point array"),
        (["{mod}:bad", "--gradient", "{mod}:shape", "--input", "normal(3)"], 3, "expected (3,)"),
        (["{mod}:bad", "--input", "integers(0, 5, 3)"], 2, "no differentiable input: x is int64"),
        (["{mod}:bad"], 2, "--input x='normal(4, 3)'"),
        (["{mod}:bad", "--input", "normal(3)", "--input", "normal(3)"], 2, "leave out the last 1"),
        (["{mod}:bda", "--input", "normal(3)"], 2, "did you mean bad"),
        (["{mod}:value"], 2, "is an int: expected a function"),
        (["{mod}:bad", "--input", "normal(3"], 2, "    normal(3\n          ^"),
        (["{mod}:bad", "--input", "normal(3)", "--rtol", "-1"], 2, "rtol=-1.0: expected a number between 0 and 1"),
        (["{mod}:bad", "--input", "normal(3)", "--dim", "n"], 2, "--dim n: expected name=size"),
        (["{mod}", "-k", "nothing"], 5, "no case matches -k 'nothing'"),
        (["nosuch.py"], 2, "no file nosuch.py"),
        (["numppy:sin"], 2, "did you mean numpy"),
        (["{mod}:bad", "--eps", "1e-6"], 2, "no option --eps: there is no step size"),
        ([], 2, "no target"),
    ],
    ids=lambda v: " ".join(v).replace("{mod}", "m") if isinstance(v, list) else None,
)
def test_every_outcome_has_its_exit_code_and_message(cli, mod, words, code, said):
    result = cli("run", *[w.replace("{mod}", mod) for w in words])
    assert said in re.sub(r"(?<=\S)\n  (?=\S)", " ", result.output)
    assert result.exit_code == code
    assert "Traceback" not in result.output or "boom" in said


def test_json_on_stdout_is_data_alone(cli, mod):
    result = cli("run", mod, "--json", "-")
    data = json.loads(result.stdout)
    assert data["verdict"] == "PASS"
    assert data["counts"]["pass"] == 1
    assert data["results"][0]["replay"] == f"gradcheck run {mod}:good --seed 0"
    assert "1 passed" in result.stderr


def test_stories_are_recorded_with_vv(cli, mod):
    def stories(*words):
        comparisons = json.loads(cli("run", f"{mod}:good", "--json", "-", *words).stdout)["results"][0]["comparisons"]
        return [c["story"] for c in comparisons if c["against"] == "numeric"]

    assert all(stories("-vv"))
    assert not any(stories())


def test_a_straight_through_estimator_can_be_declared(cli, tmp_path):
    path = tmp_path / "straight.py"
    path.write_text(
        "import torch\nclass Round(torch.autograd.Function):\n"
        "    @staticmethod\n    def forward(ctx, x): return torch.round(x)\n"
        "    @staticmethod\n    def backward(ctx, g): return g\n"
    )
    words = ("run", f"{path}:Round", "--input", "[0.3, -1.8, 2.2]", "--framework", "torch")
    assert cli(*words).exit_code == 1
    declared = cli(*words, "--straight-through")
    assert "PASS declared" in declared.output
    assert declared.exit_code == 0


def test_second_derivatives_are_checked_with_order_2(cli, mod):
    words = ("run", f"{mod}:bad", "--gradient", f"{mod}:right", "--input", "normal(3)", "--order")
    data = json.loads(cli(*words, "2", "--json", "-").stdout)
    (result,) = data["results"]
    assert {(c["order"], c["verdict"]) for c in result["comparisons"]} == {(1, "PASS"), (2, "PASS")}
    assert data["config"]["order"] == 2
    assert "--order 2 --seed 0" in result["replay"]
    refused = cli(*words, "4")
    assert (refused.exit_code, "order=4: expected 1" in refused.output) == (2, True)


def test_json_in_a_file_is_written_in_addition_to_the_table(cli, mod, tmp_path):
    result = cli("run", mod, "--json", tmp_path / "run.json")
    assert json.loads((tmp_path / "run.json").read_text())["results"][0]["case"] == f"{mod}:good"
    assert "PASS" in result.stdout


def test_what_the_users_code_prints_goes_to_stderr(cli, mod):
    result = cli("run", mod)
    assert "the user's own output" not in result.stdout
    assert "the user's own output" in result.stderr


def test_list_names_the_cases(cli, mod):
    assert cli("list", mod).stdout == f"{mod}:good\n"
    listed = cli("list", "gradcheck.reference").stdout
    assert "gradcheck.reference.regression:mse\n" in listed
    assert "broadcast_mse  (expected to fail: " in listed


def test_version_says_the_version(cli):
    assert cli("--version").stdout.startswith("gradcheck 0.")


def test_explain_says_what_a_reason_means(cli):
    assert "one-sided slopes" in cli("explain", "kink-subgradient").stdout
    assert cli("explain").stdout.count("\n") > 15
    assert "--no-contract state" in cli("explain", "state").stdout
    assert all(f"# {kind}: detached" in cli("explain", "detached").stdout for kind in ("Reason", "Diagnosis", "Contract"))
    assert "(`gradcheck explain json`)" in cli("explain", "reports").stdout
    assert cli("explain", "INCONCLUSIVE").stdout == cli("explain", "results").stdout
    assert "d - U is more than rtol" in cli("explain", "factor", "APART").stdout
    misspelt = cli("explain", "kink-subgradint")
    assert misspelt.exit_code == 2
    assert "near it: kink-subgradient" in misspelt.stderr


def test_fail_fast_stops_at_the_first_failure(cli, tmp_path):
    path = tmp_path / "two_failures.py"
    path.write_text(
        "import numpy as np\nfrom gradcheck import case, normal\n"
        + "".join(f"@case(x=normal(2), gradient=lambda x: x)\ndef f{i}(x): return np.sum(x**2)\n" for i in range(3))
    )
    assert "3 failed" in cli("run", path, "-q").stdout
    assert "1 failed" in cli("run", path, "-q", "-x").stdout


ENDLESS = """
import numpy as np
from gradcheck import case, normal

@case(x=normal(2), gradient=lambda x: 2 * x)
def done(x): return np.sum(x**2)

@case(x=normal(2), gradient=lambda x: 2 * x)
def endless(x):
    while True: np.sum(x)
"""


def test_ctrl_c_at_a_terminal_leaves_what_was_finished_in_the_table_and_in_whole_json(tmp_path):
    (tmp_path / "endless.py").write_text(ENDLESS)
    os.mkfifo(tmp_path / "run.json")
    ours, theirs = pty.openpty()
    words = ("run", "endless.py", "--json", "run.json")
    child = subprocess.Popen(
        [sys.executable, "-m", "gradcheck", *words],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # background jobs of a shell ignore it
    )
    os.close(theirs)

    def end():
        child.kill()
        os.close(os.open(tmp_path / "run.json", os.O_RDWR))  # whoever waits for a report gets an empty one

    guard = threading.Timer(60, end)
    guard.start()
    seen = b""
    while b"endless.py:endless" not in seen:  # the bar names it
        seen += os.read(ours, 4096)
    child.send_signal(signal.SIGINT)
    with (tmp_path / "run.json").open() as file:  # waits until the report begins
        child.send_signal(signal.SIGINT)  # again, out of impatience
        data = json.load(file)
    out, _ = child.communicate()
    guard.cancel()
    with contextlib.suppress(OSError):  # how a terminal says that it was closed
        while rest := os.read(ours, 4096):
            seen += rest
    os.close(ours)
    assert data["interrupted"]
    assert [r["case"] for r in data["results"]] == ["endless.py:done"]
    assert "1 passed" in out
    assert "interrupted: 1 of 2 cases are finished" in out
    assert b"Traceback" not in seen
    assert b"\x1b[?25h" in seen  # the cursor is back
    assert child.returncode in (130, -signal.SIGINT)  # a shell calls both 130; the second if the impatience came late


def test_the_partner_of_a_check_is_combined_with_each_of_several_targets(cli, mod):
    declared = "@case(x=normal(3), gradient=lambda x: 4 * x)\ndef twice(x):\n    return 2 * np.sum(x**2)\n"
    Path(mod).write_text(f"{SOURCE}\n{declared}")
    result = cli("run", mod, "--checks", "laws", "--partner", f"{mod}:good")
    assert result.exit_code == 0
    assert result.stdout.count("linearity with good") == 2


def test_a_report_that_cannot_be_written_is_one_message_before_anything_is_run(cli, mod, tmp_path):
    for command in ("run", "fuzz"):
        result = cli(command, mod, "--html", tmp_path / "run.html", "--json", tmp_path / "nowhere" / "run.json")
        assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
        assert result.stderr.startswith("gradcheck: cannot write ")
    assert not (tmp_path / "run.html").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is always full")
def test_a_report_that_finds_no_room_in_the_end_is_one_message_below_the_table(cli, mod):
    result = cli("run", mod, "--json", "/dev/full")
    assert "1 passed" in result.stdout
    assert result.stderr.splitlines()[-1].startswith("gradcheck: cannot write /dev/full: No space left on device")
    assert result.exit_code == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is always full")
def test_a_full_disk_is_one_message_too():
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-m", "gradcheck", "explain"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.stderr == "gradcheck: cannot write to stdout: No space left on device\n"
    assert done.returncode == 2


def test_the_help_names_the_exit_codes(cli):
    assert "5 nothing collected" in re.sub(r"\s+", " ", cli("--help").stdout)

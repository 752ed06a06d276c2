"""The action's shell steps, run with the variables that the service sets; and the hook of pre-commit."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
ACTION = yaml.safe_load((ROOT / "plugins" / "github_action" / "action.yml").read_text(encoding="utf-8"))
STEPS = {step["name"]: step for step in ACTION["runs"]["steps"]}
TARGETS = """
import torch
from gradcheck import case, normal

def slope(x):
    return 3 * x

@case(x=normal(3))
def right(x):
    return torch.sin(x)

@case(x=normal(3), gradient=slope)
def wrong(x):
    return (x**2).sum()

@case(x=normal(3))
def undecided(x):
    return torch.log(-torch.abs(x))
"""
RECORDING = """#!/bin/sh
case "$1" in -c | *split_args.py) exec {python} "$@" ;; esac
for word in "$@"; do printf '%s\\n' "$word" >> "$RECORDED"; done
exit {code}
"""


class Runner:
    """A folder with what the service provides."""

    def __init__(self, folder):
        self.folder, self.outputs = folder, {}
        (folder / "bin").mkdir()
        (folder / "temp").mkdir()
        (folder / "repo" / ".git").mkdir(parents=True)
        (folder / "repo" / "mine.py").write_text(TARGETS)
        self.python(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')

    def python(self, script):
        (self.folder / "bin" / "python").write_text(script)
        (self.folder / "bin" / "python").chmod(0o755)

    def recording(self, code="0"):
        """A python that writes down what it is called with, and ends with a code."""
        (self.folder / "recorded").write_text("")
        self.python(RECORDING.format(python=shlex.quote(sys.executable), code=code))

    def step(self, name, **inputs):
        """Run a step as the service does: `bash --noprofile --norc -e -o pipefail`."""
        step = STEPS[name]
        given = {key: value["default"] for key, value in ACTION["inputs"].items()} | inputs
        output, summary = self.folder / "output", self.folder / "summary"
        output.write_text("")
        environment = {
            **os.environ,
            "PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "plugins"), os.environ.get("PYTHONPATH", "")]),
            "CI": "true",
            "GITHUB_ACTIONS": "true",
            "GITHUB_OUTPUT": str(output),
            "GITHUB_STEP_SUMMARY": str(summary),
            "RUNNER_TEMP": str(self.folder / "temp"),
            "RECORDED": str(self.folder / "recorded"),
            **{key: self._filled(value, given) for key, value in step["env"].items()},
        }
        command = ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", step["run"]]
        done = subprocess.run(
            command, cwd=self.folder / "repo", env=environment, capture_output=True, text=True, check=False, timeout=120
        )
        self.outputs.update(line.split("=", 1) for line in output.read_text().splitlines())
        self.summary = summary.read_text() if summary.exists() else ""
        return done

    def _filled(self, value, inputs):
        told = {"github.action_path": str(ROOT / "plugins" / "github_action")}
        told |= {f"inputs.{name}": text for name, text in inputs.items()}
        told |= {f"steps.check.outputs.{name}": text for name, text in self.outputs.items()}
        return re.sub(r"\$\{\{ (.*?) \}\}", lambda found: told[found[1]], value)

    @property
    def recorded(self):
        return (self.folder / "recorded").read_text().splitlines()


@pytest.fixture
def runner(tmp_path):
    return Runner(tmp_path)


def test_a_wrong_gradient_fails_with_annotations_a_summary_and_files(runner):
    done = runner.step("Check", targets="mine.py", args="-k 'not right' --trials 2")
    assert done.returncode == 0, done.stderr  # the last step fails, after the reports were kept
    assert "::error file=mine.py,line=5,title=gradcheck FAIL%3A mine.py%3Awrong::" in done.stderr
    assert "::error file=mine.py,line=16,title=gradcheck INCONCLUSIVE" in done.stderr
    assert runner.summary.startswith("## ❌ gradcheck: FAIL")
    assert (runner.outputs["verdict"], runner.outputs["exit-code"]) == ("FAIL", "1")
    folder = Path(runner.outputs["folder"])
    assert {file.name for file in folder.iterdir()} == {"run.json", "run.html", "run.sarif", "run.xml", "run.md"}
    assert runner.outputs["sarif"] == str(folder / "run.sarif")
    assert json.loads((folder / "run.json").read_text())["config"]["trials"] == 2
    assert runner.step("Verdict").returncode == 1


@pytest.mark.parametrize("code", ["0", "4"])
def test_the_verdict_is_the_exit_code(runner, code):
    runner.recording(code)
    assert runner.step("Check", targets="mine.py").returncode == 0
    assert runner.outputs["exit-code"] == code
    assert runner.step("Verdict").returncode == int(code)


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({}, ["--strict", "--github"]),
        ({"strict": "false"}, ["--github"]),
        ({"report-only": "true"}, ["--strict", "--report-only", "--github"]),
        ({"annotations": "false"}, ["--strict", "--no-github"]),
        ({"baseline": "known failures.toml"}, ["--strict", "--baseline", "known failures.toml", "--github"]),
    ],
)
def test_what_is_asked_for_becomes_an_option(runner, inputs, words):
    runner.recording()
    runner.step("Check", **inputs)
    assert runner.recorded[: len(words) + 4] == ["-m", "gradcheck", "run", *words, "--json"]


def test_what_cannot_be_run_is_told_in_the_summary(runner):
    done = runner.step("Check", targets="no_such_module", annotations="false")
    assert done.returncode == 0
    assert "no_such_module" in done.stderr
    assert runner.summary == "## gradcheck could not run (exit code 2): the log says why\n"
    assert (runner.outputs["verdict"], runner.outputs["exit-code"]) == ("", "2")
    assert runner.step("Verdict").returncode == 2


def test_inputs_are_words_and_no_shell(runner):
    runner.recording()
    evil = "$(touch evil) `touch evil` ; touch evil"
    runner.step("Check", targets=f"'a b.py' {evil}", args="--input 'normal(4, 3)'", summary="false")
    assert runner.recorded[:6] == ["-m", "gradcheck", "run", "a b.py", "$(touch", "evil)"]
    assert runner.recorded[10:13] == ["evil", "--input", "normal(4, 3)"]
    assert not list(runner.folder.rglob("evil"))
    assert runner.summary == ""


@pytest.mark.parametrize(("step", "name"), [("Check", "targets"), ("Check", "args"), ("Install", "install")])
def test_what_is_badly_quoted_ends_the_step(runner, step, name):
    runner.recording()
    done = runner.step(step, **{name: "-k 'not slow"})
    assert (done.returncode, runner.recorded) == (1, [])
    assert done.stderr == "gradcheck: -k 'not slow is not quoted as in a shell: No closing quotation\n"


def test_the_steps_ask_for_no_newer_bash_than_that_of_macos():
    for step in STEPS.values():
        assert not re.search(r"\b(mapfile|readarray|declare -A|local -n)\b", step.get("run", ""))


@pytest.mark.parametrize(
    ("inputs", "installed"),
    [
        ({}, [["{root}"]]),
        ({"install": "-r requirements.txt 'torch>=2'"}, [["-r", "requirements.txt", "torch>=2"], ["{root}"]]),
        ({"gradcheck": "gradcheck==0.1.0"}, [["gradcheck==0.1.0"]]),
        ({"gradcheck": "none"}, []),
    ],
)
def test_what_is_installed(runner, inputs, installed):
    runner.recording()
    assert runner.step("Install", **inputs).returncode == 0
    here = str(ROOT / "plugins" / "github_action" / ".." / "..")
    assert runner.recorded == [w.format(root=here) for words in installed for w in ("-m", "pip", "install", *words)]


def test_inputs_reach_the_shell_by_the_environment_alone():
    for step in STEPS.values():
        assert "${{" not in step.get("run", "")
    used = re.findall(r"inputs\.([\w-]+)", json.dumps(ACTION["runs"]))
    assert set(used) == set(ACTION["inputs"])
    assert all(value["description"] for value in (*ACTION["inputs"].values(), *ACTION["outputs"].values()))


def test_the_hook_of_pre_commit_is_a_command_of_ours():
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    program, *words = hook["entry"].split()
    assert (program, words) == ("gradcheck", ["run"])
    assert hook["language"] == "system"
    assert hook["pass_filenames"] is False

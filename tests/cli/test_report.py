"""Reports on the command line: written by `run`, rendered later by `report`, compared by `diff`."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gradcheck.cli import app
from gradcheck.report.load import read_run

OLD = str(Path(__file__).parents[1] / "data" / "run-of-0.1.0-2026-11-21.json")
BEGINNINGS = {
    "html": "<!doctype html>",
    "markdown": "## ",
    "junit-xml": '<?xml version="1.0"',
    "sarif": "{",
    "json": "{",
}


@pytest.fixture
def cli(monkeypatch, tmp_path):
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(app, [str(w) for w in words])


def test_a_run_writes_every_format_and_report_renders_the_same_later(cli, tmp_path):
    Path("gradcheck.toml").write_text('[[target]]\ntarget = "torch:sin"\ninputs = ["normal(n)"]\ntrials = 2\n')
    words = ["run", "--dim", "n=2..3", "-q"]
    done = cli(*words, *(word for name in BEGINNINGS for word in (f"--{name}", f"run.{name}")))
    assert done.exit_code == 0
    again = cli("report", "run.json", *(word for name in BEGINNINGS for word in (f"--{name}", f"again.{name}")))
    assert (again.exit_code, again.stdout, again.stderr) == (0, "", "")
    for name, beginning in BEGINNINGS.items():
        text = Path(f"run.{name}").read_text()
        assert text.startswith(beginning)
        assert Path(f"again.{name}").read_text() == text


def test_report_shows_the_table_if_no_file_is_requested(cli):
    done = cli("report", OLD)
    assert done.exit_code == 0
    assert "∂output / ∂w[1]: wrong by more than rtol" in done.stdout
    assert len(cli("report", OLD, "-q").stdout.splitlines()) == 5
    assert "partial derivative" in cli("report", OLD, "-v").stdout


@pytest.mark.parametrize("name", BEGINNINGS)
def test_report_writes_any_format_to_stdout(cli, name):
    done = cli("report", OLD, f"--{name}", "-")
    assert done.exit_code == 0
    assert done.stdout.startswith(BEGINNINGS[name])


def test_two_formats_on_stdout_are_refused_before_anything_is_run(cli):
    done = cli("run", "no_such_module", "--json", "-", "--sarif", "-")
    assert done.exit_code == 2
    assert "--json - and --sarif -: only one report can go to stdout" in done.stderr


@pytest.mark.parametrize("name", [*BEGINNINGS])
def test_a_report_that_cannot_be_written_is_one_message(cli, name):
    done = cli("report", OLD, f"--{name}", "nowhere/run")
    assert done.exit_code == 2
    said = "cannot write nowhere/run: No such file or directory; give a path in a folder that exists and can be written to"
    assert done.stderr == f"gradcheck: {said}\n"


def test_inconsistent_parts_of_a_run_are_one_message(cli):
    data = json.loads(cli("run", "torch:sin", "--input", "normal(3)", "-v", "--json", "-").stdout)
    picture = next(c["picture"] for c in data["results"][0]["comparisons"] if c["picture"])
    picture["claimed"].pop()
    Path("changed.json").write_text(json.dumps(data))
    done = cli("report", "changed.json", "--html", "changed.html")
    assert done.exit_code == 2
    assert done.stderr.startswith("gradcheck: changed.json cannot be rendered (ValueError")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("environment", "words", "annotated"),
    [
        ({}, [], False),
        ({}, ["--github"], True),
        ({"GITHUB_ACTIONS": "true"}, [], True),
        ({"GITHUB_ACTIONS": "true"}, ["--no-github"], False),
        ({"GITHUB_ACTIONS": "false"}, [], False),
    ],
)
def test_a_workflow_is_annotated_if_there_is_one_or_on_request(cli, monkeypatch, tmp_path, environment, words, annotated):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    (tmp_path / ".git").mkdir()
    (tmp_path / "mine.py").write_text("def f(x):\n    return (x**2).sum()\n\n\ndef g(x):\n    return 3 * x\n")
    done = cli("run", "mine.py:f", "--gradient", "mine.py:g", "--input", "normal(3)", "--framework", "numpy", "-q", *words)
    assert done.exit_code == 1
    assert done.stderr.startswith("::error file=mine.py,line=5,title=gradcheck FAIL%3A mine.py%3Af::") is annotated


def test_report_annotates_only_on_request(cli, monkeypatch):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert cli("report", OLD).stderr == ""
    done = cli("report", OLD, "--github")
    assert done.stdout == ""
    assert done.stderr.count("::error") == 2


def test_diff_exits_with_1_if_a_case_fails_that_passed_before(cli):
    run = read_run(OLD)
    data = json.loads(run.to_json())
    data["results"] = [r for r in data["results"] if r["verdict"] == "PASS"]
    Path("before.json").write_text(json.dumps(data))
    done = cli("diff", "before.json", OLD, "--markdown", "diff.md")
    assert done.exit_code == 1
    assert "new failures:\n  aged.py:forgotten_mean  FAIL: ∂output / ∂w[1]: analytic 14.1, numeric 1.762 " in done.stdout
    assert Path("diff.md").read_text().startswith("## gradcheck: new failures: 2, new: 3")
    assert cli("diff", OLD, "before.json").exit_code == 0
    assert cli("diff", OLD, OLD).stdout == "no case has changed\n"


@pytest.mark.parametrize("words", [("nowhere.json", OLD), (OLD, "nowhere.json"), (OLD, OLD, "--markdown", "nowhere/diff.md")])
def test_diff_of_what_cannot_be_read_or_written_is_one_message(cli, words):
    done = cli("diff", *words)
    assert done.exit_code == 2
    assert done.stderr.count("\n") == 1

import re
from pathlib import Path

from typer.testing import CliRunner

from gradcheck.cli import app
from gradcheck.options import Options
from gradcheck.run.config import read, schema
from gradcheck.run.plan import Request, plan
from gradcheck.run.runner import run

ROOT = Path(__file__).resolve().parents[1]


def test_the_table_of_what_to_expect_is_what_a_run_finds():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.split("## What to expect", 1)[1].split("\n## ", 1)[0]
    listed = dict(re.findall(r"^\| `(\w+)`[^|]*\| (\w+ \| [\w-]+) \|$", section, flags=re.M))
    cases = plan(Request(targets=[str(ROOT / "reports" / "delicate_points" / "cases.py")]))
    result = run(cases, Options(), replay=lambda _: "")
    assert listed == {r.case.split(":")[-1]: f"{r.verdict.value} | {r.reason.code}" for r in result.results}


def test_the_example_in_jax_is_what_a_run_finds(tmp_path, monkeypatch):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.split("\n## JAX", 1)[1].split("\n## ", 1)[0]
    code, shown = (section.split(f"```{kind}\n", 1)[1].split("```", 1)[0] for kind in ("python", "text"))
    (tmp_path / "rules.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    outcome = CliRunner().invoke(app, ["run", "rules.py"])
    assert outcome.exit_code == 1
    assert _without_numbers(outcome.stdout).startswith(_without_numbers(shown))


def _without_numbers(text):
    return re.sub(r"\d+\.\d+(e[+-]\d+)?", "#", text)


def test_the_table_of_pytest_options_names_every_one(pytestconfig):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.split("## In a test suite", 1)[1].split("\n## ", 1)[0]
    declared = {name for name in vars(pytestconfig.option) if name.startswith("gradcheck_")} - {"gradcheck_targets"}
    listed = set(re.findall(r"^\| `--(gradcheck-[\w-]+)[^|]*\|", section, flags=re.M))
    assert {name.replace("-", "_") for name in listed} == declared


def test_the_table_of_models_names_every_reference_model():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.split("## The textbook, checked", 1)[1].split("\n### ", 1)[0]
    listed = {name for row in re.findall(r"^\|[^|]*\|(.*)\|$", section, flags=re.M) for name in re.findall(r"`(\w+)`", row)}
    names = {c.target.rpartition(":")[2] for c in plan(Request(targets=["gradcheck.reference"]))}
    assert listed == {name for name in names if not name.startswith("torch_")}
    assert f"{len(plan(Request(targets=['gradcheck.reference'], keyword='not torch_'))) - 1} cases" in section


def test_the_configuration_shown_is_read_and_every_key_is_named(tmp_path):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.split("## The gate: in CI", 1)[1].split("\n## ", 1)[0]
    (tmp_path / "pyproject.toml").write_text(section.split("```toml\n", 1)[1].split("```", 1)[0])
    assert len(read.read_config(tmp_path / "pyproject.toml").entries) == 3
    rows = dict(re.findall(r"^\| ([\w ]+) \| (`.*) \|$", section, flags=re.M))
    named = {name: set(re.findall(r"`(\w+)`", row)) for name, row in rows.items()}
    assert named["of the whole and of a target"] == {*schema.CASE_KEYS}
    assert named["of the whole"] == {*schema.OPTION_KEYS, *schema.RUN_KEYS} - {*schema.CASE_KEYS}
    assert named["of a target"] == {*schema.TARGET_KEYS} - {*schema.CASE_KEYS}

"""Tables of the guide that no example shows: each lists what a run finds."""

import re
from pathlib import Path

from gradcheck.cli.guide_pages import GUIDE
from gradcheck.glossary.contracts import CONTRACTS
from gradcheck.options import Options
from gradcheck.run.plan import Request, plan
from gradcheck.run.runner import run

ROOT = Path(__file__).resolve().parents[2]


def test_the_table_of_kinks_and_ties_is_what_a_run_finds():
    text = (GUIDE / "why" / "kinks-and-ties.md").read_text(encoding="utf-8")
    section = text.split("## What to expect", 1)[1].split("\n## ", 1)[0]
    listed = dict(re.findall(r"^\| `(\w+)`[^|]*\| (\w+ \| [\w-]+) \|$", section, flags=re.M))
    cases = plan(Request(targets=[str(ROOT / "reports" / "delicate_points" / "cases.py")]))
    result = run(cases, Options(), replay=lambda _: "")
    assert listed == {one.case.split(":")[-1]: f"{one.verdict.value} | {one.reason.code}" for one in result.results}


def test_the_table_of_the_textbook_names_every_model_in_its_module():
    text = (GUIDE / "why" / "the-textbook.md").read_text(encoding="utf-8")
    section = text.split("## All models", 1)[1].split("\n## ", 1)[0]
    rows = re.findall(r"^\| `(\w+)` \|(.*)\|$", section, flags=re.M)
    listed = {(module, name) for module, row in rows for name in re.findall(r"`(\w+)`", row)}
    cases = [case for case in plan(Request(targets=["gradcheck.reference"])) if ":torch_" not in case.target]
    assert listed == {tuple(case.target.rpartition(".")[2].split(":")) for case in cases}
    numpy_cases = [case for case in cases if case.target != "gradcheck.reference.modules:LinearMSE"]
    assert f"{len(numpy_cases)} cases written in NumPy" in section


def test_the_table_of_contracts_says_what_the_code_says():
    text = (GUIDE / "how-to" / "contracts.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \[`([\w-]+)`\]\(\S+\) \| (.*) \|$", text, flags=re.M)
    assert dict(rows) == CONTRACTS

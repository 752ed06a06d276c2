"""Texts of the user's code on stdout and stderr: they can neither change the screen nor command the service that runs CI."""

import json
import re

import pytest
from typer.testing import CliRunner

from gradcheck.cli import app

HOSTILE = r"\x1b[2J\x1b[31m\r9 passed\n::error::a\n   ::stop-commands::b\n##[add-mask]c"
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
COMMAND = re.compile(r"^\s*::|##\w*\[", re.MULTILINE)
ANNOTATION = re.compile(r"^::(error|warning) .*\n", re.MULTILINE)
CASES = f"""
import numpy as np
from gradcheck import case, normal

@case(x=normal(3), name="{HOSTILE}")
def raises(x): raise ValueError("{HOSTILE}")
def steps(x): return np.sum(x)
print("::error::printed by the module")
def slope(x): raise ValueError("{HOSTILE}")
"""


@pytest.fixture
def cli(write, monkeypatch):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    write(
        {
            "evil.py": CASES,
            "broken.py": f'raise ValueError("{HOSTILE}")',
            "pack/__init__.py": "",
            "pack/bad.py": f'raise OSError("{HOSTILE}")',
        }
    )
    return lambda *words: CliRunner().invoke(app, [str(w) for w in words])


def is_safe(text):
    text = ANNOTATION.sub("", text)
    return not CONTROL.search(text) and not COMMAND.search(text)


@pytest.mark.parametrize(
    "words",
    [
        ["run", "evil.py"],
        ["run", "evil.py", "-v", "--markdown", "-"],
        ["run", "evil.py", "--junit-xml", "-"],
        ["run", "evil.py:steps", "--gradient", "evil.py:slope", "--input", "normal(3)"],
        ["list", "evil.py"],
        ["run", "broken.py"],
        ["list", "broken.py"],
        ["init", "pack"],
        ["fuzz", "evil.py", "--examples", "3"],
    ],
    ids=" ".join,
)
def test_every_command_prints_them_harmless(cli, words):
    done = cli(*words)
    assert "\\x1b[2J" in done.output
    assert is_safe(done.stdout)
    assert is_safe(done.stderr)


def test_an_annotation_is_still_a_command(cli):
    assert len(ANNOTATION.findall(cli("run", "evil.py").stderr)) == 1


def test_json_on_stdout_stays_json(cli):
    text = cli("run", "evil.py", "--json", "-").stdout
    assert is_safe(text)
    (result,) = json.loads(text)["results"]
    assert "\x1b[2J" in result["case"]
    assert "\x1b[2J" in result["traceback"] or "\\x1b[2J" in result["traceback"]

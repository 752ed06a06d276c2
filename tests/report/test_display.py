"""Hostile texts of the user's code, in every output."""

import json
import re
import time
from dataclasses import fields, is_dataclass, replace

import pytest

from gradcheck import check, normal
from gradcheck.errors import TargetError, UsageError
from gradcheck.report import diff, formats
from gradcheck.report.display import MAX_LENGTH, MAX_NAME_LENGTH, to_display
from gradcheck.report.terminal import run_tables
from gradcheck.results import RunResult
from gradcheck.untrusted_text import escape_ci_commands, escape_control_characters

HOSTILE = (
    "a\x1b[2J\x1b[31m\x07\x9b1m\x7f\r\u202e\u2028\n::error::b\n \u3000::stop-commands::c\n##[add-mask]d\n##vso[e]f ```</x>"
)
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e]")
COMMAND = re.compile(r"^\s*::|##\w*\[", re.MULTILINE)
KEPT = {
    "expect",
    "mode",
    "method",
    "against",
    "slice",
    "tried",
    "check",
    "columns",
    "root",
    "file",
    "claim_file",
}  # a program reads these


def corrupt(value):
    """Append a hostile text to every text of a result, and to every name in the path of a layer."""
    if type(value) is str:
        return value and ".".join(part + HOSTILE for part in value.split("."))
    if is_dataclass(value):
        names = [field.name for field in fields(value) if field.name not in KEPT]
        return replace(value, **{name: corrupt(getattr(value, name)) for name in names})
    if isinstance(value, tuple):
        return tuple(map(corrupt, value))
    return {corrupt(key): corrupt(part) for key, part in value.items()} if isinstance(value, dict) else value


@pytest.fixture(scope="module")
def hostile(varied):
    texts = dict.fromkeys(("message", "traceback", "culprit", "because", "example", "replay"), "text")
    results = [corrupt(replace(result, **texts, notes=("note",), details=("detail",))) for result in varied.results]
    return replace(varied, results=tuple(results), environment=corrupt(varied.environment), config={HOSTILE: [HOSTILE]})


@pytest.mark.parametrize("name", [*formats.FORMATS, "github"])
def test_no_format_holds_a_control_character_or_a_command_of_the_user_s(hostile, name):
    text = formats.render(name, hostile)
    assert not CONTROL.search(text)
    commands = [line for line in text.splitlines() if COMMAND.search(line)]
    assert all(name == "github" and line.startswith(("::error ", "::warning ")) for line in commands)


def test_the_json_keeps_every_text(hostile):
    text = formats.render("json", hostile)
    assert RunResult.from_dict(json.loads(text)).to_dict() == hostile.to_dict()


def test_texts_inside_sarif_are_visible_too(hostile):
    messages = [result["message"]["text"] for result in json.loads(formats.render("sarif", hostile))["runs"][0]["results"]]
    assert messages
    assert all("\\x1b[2J" in message and not CONTROL.search(message) for message in messages)


@pytest.mark.parametrize("color", [False, True])
@pytest.mark.parametrize("width", [60, 100])
def test_in_the_terminal_only_our_colours_are_control_characters(hostile, color, width):
    text = run_tables.render(hostile, width=width, color=color, verbosity=run_tables.STEPS)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text) if color else text
    assert not CONTROL.search(plain)
    assert not COMMAND.search(text)
    assert not re.search(r"^\S.*\n *b\b", plain)


def test_a_line_that_is_wrapped_does_not_begin_with_a_command(by_name):
    for n in range(40, 110):
        result = replace(by_name["raises"], message=f"{'x' * n} ::error::y", traceback="")
        assert not COMMAND.search(run_tables.to_text(result))


def test_the_name_of_a_case_stays_on_its_line(by_name):
    text = run_tables.to_text(replace(by_name["raises"], case="evil\n9 passed"))
    assert text.startswith("evil\\x0a9 passed")


def test_a_comparison_of_runs_is_safe(varied, hostile):
    difference = diff.compare_runs(varied, hostile)
    assert not CONTROL.search(diff.render(difference) + diff.render_markdown(difference))


def test_messages_of_exceptions_are_visible():
    assert str(UsageError("a\x1b[2J\n\tb")) == "a\\x1b[2J\n\tb"
    assert TargetError("a", "File\x07").frames == "File\\x07"


def test_what_is_not_hostile_is_unchanged(varied):
    assert to_display(varied.results[0]) is varied.results[0]
    for text in ("a\r\nb", "x[::2]", "tests/a.py::test", "# [a](b)", "## [a]", "ü∂ é", "std::vector\n ::" + "x"):
        assert escape_control_characters(text) == text.replace("\r\n", "\n")
    assert escape_ci_commands("x[::2]\n## [a]\ntests/a.py::test") == "x[::2]\n## [a]\ntests/a.py::test"


def test_long_texts_are_cut_in_bounded_time(by_name, varied):
    long = replace(by_name["raises"], message="a\x1b \n" * 5_000_000, traceback="b" * 20_000_000, case="c" * 1_000_000)
    began = time.process_time()
    shown = to_display(long)
    assert len(shown.message) <= MAX_LENGTH
    assert len(shown.case) <= MAX_NAME_LENGTH
    assert "19,980,100 characters left out" in shown.traceback
    for name in formats.FORMATS.keys() - {"json"} | {"github"}:
        assert len(formats.render(name, replace(varied, results=(long,)))) < 200_000
    assert len(run_tables.to_text(long)) < 200_000
    assert time.process_time() - began < 5


@pytest.mark.parametrize("text", ["w\n" * 5_000_000, "word " * 2_000_000, "w" * 10_000_000])
def test_an_exception_with_a_long_message_is_cut_when_it_is_caught(text):
    def raises(x):
        raise ValueError(text)

    began = time.process_time()
    result = check(raises, normal(3), framework="numpy")
    assert time.process_time() - began < 5
    assert len(result.message) + len(result.traceback) < 110_000
    assert "characters left out" in result.traceback

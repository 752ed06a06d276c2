"""Commands to a CI service in what the user's code writes, however it writes them."""

import io
import re
import sys

import pytest

from gradcheck.untrusted_text import user_output_on_stderr

# A GitHub workflow executes these; a carriage return ends a line for it.
COMMAND = re.compile(r"(?:^|(?<=\r))\s*::|##\w*\[", re.MULTILINE)


def write(*texts):
    for text in texts:
        sys.stdout.write(text)
        sys.stdout.flush()


WRITERS = {
    "at once": lambda: write("::error::x"),
    "a colon apart": lambda: write(":", ":error::x"),
    "every character apart": lambda: write(*"  ::error::x\n##[error]y ##vso[z]"),
    "blanks apart": lambda: write("a\n", " ", "\t:", ":error::x"),
    "a hash apart": lambda: write("#", "#[error]y"),
    "a bracket apart": lambda: write("a ##", "[error]y"),
    "a word apart": lambda: write("###vs", "o[task]y"),
    "after a carriage return": lambda: write("hello\r::stop-commands::x"),
    "after a carriage return apart": lambda: write("hello\r", " ::stop-commands::x"),
    "as lines": lambda: sys.stderr.writelines(["::error::x\n", ":", ":error::y\n"]),
    "as bytes": lambda: sys.stderr.buffer.write(b"::error::x\n##[error]y\n"),
    "as lines of bytes": lambda: sys.stdout.buffer.writelines([b":", b":error::x"]),
    "as bytes after text": lambda: (write(":"), sys.stderr.buffer.write(bytearray(b":error::x"))),
    "as text after bytes": lambda: (sys.stderr.buffer.write(b"#"), write("#[error]x")),
    "on both streams": lambda: (sys.stdout.write(":"), sys.stderr.write(":error::x")),
}


@pytest.fixture
def written(monkeypatch):
    """Return what a function writes within a workflow, and the next run after it."""
    monkeypatch.setenv("GITHUB_ACTIONS", "true")

    def run(*functions):
        stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="")
        monkeypatch.setattr(sys, "stderr", stream)
        for function in functions:
            with user_output_on_stderr():
                function()
        stream.flush()
        return stream.buffer.getvalue()

    return run


@pytest.mark.parametrize("way", WRITERS)
def test_a_command_is_harmless_however_it_is_written(written, way):
    text = written(WRITERS[way]).decode()
    assert "\\u00" in text
    assert not COMMAND.search(text)


def test_a_command_that_two_runs_write_together_is_harmless(written):
    assert not COMMAND.search(written(lambda: write("#", ":"), lambda: write(":error::x")).decode())


@pytest.mark.parametrize("text", ["x[::2]", "a: b\n", "# [a]", "#[a]", "tests/a.py::test", "é ☃\r\nb", "##", ""])
def test_other_text_and_bytes_stay(written, text):
    assert written(lambda: write("> ", text, "\n")).decode() == f"> {text}\n"
    assert written(lambda: write("> ", *text, "\n")).decode() == f"> {text}\n"
    assert (
        written(lambda: sys.stderr.buffer.write(b"\xff\x00 " + text.encode() + b"\n")) == b"\xff\x00 " + text.encode() + b"\n"
    )


def test_only_a_workflow_filters(written, monkeypatch):
    monkeypatch.delenv("GITHUB_ACTIONS")
    assert written(WRITERS["at once"]) == b"::error::x"

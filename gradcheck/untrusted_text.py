"""Text of the user's code, such as names and messages of exceptions, made safe to print.

It holds no control characters and no commands to a CI service, and is not too long.
"""

from __future__ import annotations

import os
import re
import sys
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterator

# Control characters except newline and tab, the line separators of Unicode, the marks that reorder text on the screen, and
# code points that no encoding or no XML has, such as those of a file name that is not valid text.
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
LINE_BREAKS = re.compile("[\t\n]")
# A CI service executes what looks like one of its commands: GitHub a line that begins with `::`, after blanks too, and
# `##[name]` anywhere; Azure `##vso[` and TeamCity `##teamcity[`.
# https://github.com/actions/runner/blob/main/src/Runner.Common/ActionCommand.cs
COMMAND = re.compile(r"^([^\S\n]*):(?=:)|#(?=#\w*\[)", re.MULTILINE)


def escape_control_characters(text: str, *, single_line: bool = False) -> str:
    r"""Make control characters visible, as in `\x1b`, so that they cannot change what a terminal shows.

    Args:
        text: any text.
        single_line: whether the text is a name, in which newlines and tabs are made visible, too.
    """
    text = CONTROL.sub(_to_escape, text.replace("\r\n", "\n"))
    return LINE_BREAKS.sub(_to_escape, text) if single_line else text


def escape_ci_commands(text: str) -> str:
    r"""Write the first character of a command of a CI service as `\u003a` or `\u0023`, which JSON text may contain, too."""
    return COMMAND.sub(lambda match: rf"{match[1]}\u003a" if match[1] is not None else r"\u0023", text)


def in_github_workflow() -> bool:
    """Return whether this process runs in a GitHub workflow."""
    return os.environ.get("GITHUB_ACTIONS") == "true"


class CommandFreeStream:
    """A text stream that makes commands to a CI service harmless in what is written to it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text, as if it began a line."""
        self._stream.write(escape_ci_commands(text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the stream."""
        return getattr(self._stream, name)


@contextmanager
def user_output_on_stderr() -> Iterator[None]:
    """Send to stderr what the user's code prints, as stdout is for our data; a GitHub workflow executes no command in it."""
    with ExitStack() as stack:
        if in_github_workflow():
            stack.enter_context(redirect_stderr(CommandFreeStream(sys.stderr)))
        stack.enter_context(redirect_stdout(sys.stderr))
        yield


def cut_middle(text: str, limit: int) -> str:
    """Cut the middle out of a text with more than `limit` characters, and say how much was left out."""
    if len(text) <= limit:
        return text
    kept = limit - 100  # leaves room for the note
    head, tail = 3 * kept // 4, kept // 4
    return f"{text[:head]} … ({len(text) - head - tail:,} characters left out) … {text[-tail:]}"


def _to_escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return rf"\x{code:02x}" if code < 0x100 else rf"\u{code:04x}"

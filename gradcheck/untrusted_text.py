"""Text of the user's code, such as names and messages of exceptions, made safe to print.

It holds no control characters and no commands to a CI service, and is not too long.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import re
import sys
import threading
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# Control characters except newline and tab, the line separators of Unicode, the marks that reorder text on the screen, and
# code points that no encoding or no XML has, such as those of a file name that is not valid text.
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
LINE_BREAKS = re.compile("[\t\n]")
# A CI service executes what looks like one of its commands: GitHub a line that begins with `::`, after blanks too, and
# `##[name]` anywhere; Azure `##vso[` and TeamCity `##teamcity[`. A carriage return ends a line, too.
# https://github.com/actions/runner/blob/main/src/Runner.Common/ActionCommand.cs
COMMAND = re.compile(r"(?:^|(?<=\r))[^\S\r\n]*:(?=:)|#(?=#\w*\[)", re.MULTILINE)
# The end of an unfinished line that may become a command with what is written next.
BEGUN_COMMAND = re.compile(r"\A[^\S\r\n]*:?\Z|#(?:#\w*)?\Z")


def escape_control_characters(text: str, *, single_line: bool = False) -> str:
    r"""Make control characters visible, as in `\x1b`, so that they cannot change what a terminal shows.

    Args:
        text: any text.
        single_line: whether the text is a name, in which newlines and tabs are made visible, too.
    """
    text = CONTROL.sub(_to_escape, text.replace("\r\n", "\n"))
    return LINE_BREAKS.sub(_to_escape, text) if single_line else text


def escape_ci_commands(text: str, line: str = "") -> str:
    r"""Write a character of each command of a CI service as in `\u003a` or `\u0023`, which JSON text may contain, too.

    Args:
        text: any text.
        line: what has been written of the line that the text continues.
    """
    whole, end, pieces = line + text, len(line), list[str]()
    for place in sorted({max(match.end() - 1, end) for match in COMMAND.finditer(whole)}):
        pieces += whole[end:place], rf"\u{ord(whole[place]):04x}"
        end = place + 1
    return "".join([*pieces, whole[end:]])


def in_github_workflow() -> bool:
    """Return whether this process runs in a GitHub workflow."""
    return os.environ.get("GITHUB_ACTIONS") == "true"


class CommandFreeStream:
    """A text stream that makes commands to a CI service harmless in what is written to it and to its buffer.

    What `os.write`, C code or a child process writes to the file descriptor passes it by: see `filter_descriptor`.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._line = stream, ""  # the part of the unfinished line that matters for what follows

    def write(self, text: str) -> int:
        """Write a text that may continue a line."""
        self._stream.write(self.escape(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write texts one after the other."""
        for text in lines:
            self.write(text)

    def escape(self, text: str) -> str:
        """Return a text with its commands made harmless, also those that begin in what was written before it."""
        escaped, whole = escape_ci_commands(text, self._line), self._line + text
        begun = BEGUN_COMMAND.search(whole[max(whole.rfind("\n"), whole.rfind("\r")) + 1 :])
        self._line = begun[0] if begun else "."
        return escaped

    def finish_line(self) -> None:
        """End a line that was begun, so that what others write starts a new one."""
        if self._line:
            self.write("\n")

    @property
    def buffer(self) -> CommandFreeBuffer:
        """The stream of the bytes."""
        return CommandFreeBuffer(self, self._stream.buffer)

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the stream."""
        return getattr(self._stream, name)


class CommandFreeBuffer:
    """The buffer of a CommandFreeStream: bytes that are written to it continue the lines of the text."""

    def __init__(self, text_stream: CommandFreeStream, buffer: BinaryIO) -> None:
        self._text_stream, self._buffer = text_stream, buffer

    def write(self, data: bytes) -> int:
        """Write bytes, of text in UTF-8 or of anything else, after the text that was written before."""
        self._text_stream.flush()
        text = bytes(memoryview(data)).decode(errors="surrogateescape")
        self._buffer.write(self._text_stream.escape(text).encode(errors="surrogateescape"))
        return memoryview(data).nbytes

    def writelines(self, lines: Iterable[bytes]) -> None:
        """Write bytes one after the other."""
        for data in lines:
            self.write(data)

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the buffer."""
        return getattr(self._buffer, name)


def filter_descriptor(descriptor: int) -> None:
    """Make commands to a CI service harmless in what anybody writes to a file descriptor; it arrives line by line.

    When Python exits, what C code has buffered is written, and the descriptor leads to where it led before.
    """
    led_to = os.dup(descriptor)
    reading, writing = os.pipe()
    os.dup2(writing, descriptor)
    os.close(writing)

    def forward() -> None:
        with open(reading, encoding="utf-8", errors="surrogateescape", newline="\n") as lines:  # noqa: PTH123
            for line in lines:
                os.write(led_to, escape_ci_commands(line).encode(errors="surrogateescape"))

    thread = threading.Thread(target=forward, daemon=True)

    def finish() -> None:
        with suppress(AttributeError, OSError, TypeError):  # this platform has no such C library
            ctypes.CDLL(None).fflush(None)
        os.dup2(led_to, descriptor)
        thread.join(1)  # a child process may hold the pipe open

    thread.start()
    atexit.register(finish)


@contextmanager
def user_output_on_stderr() -> Iterator[None]:
    """Send to `sys.stderr` what the user's code writes to `sys.stdout`, as stdout is for our data.

    In a GitHub workflow, commands in what it writes to either of them are made harmless. What it writes to a file descriptor
    is neither redirected nor filtered here.
    """
    with ExitStack() as stack:
        if in_github_workflow():
            stream = CommandFreeStream(sys.stderr)
            stack.callback(stream.finish_line)
            stack.enter_context(redirect_stderr(stream))
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

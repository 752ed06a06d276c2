"""A user's traceback, trimmed to the frames that are theirs."""

from __future__ import annotations

import sysconfig
import textwrap
import traceback
from pathlib import Path

_OURS = str(Path(__file__).parent)
_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")})


def user_frames(error: BaseException) -> str:
    """Format an exception with the user's frames alone; with the two innermost where none is the user's."""
    told = traceback.TracebackException.from_exception(error)
    foreign = [f for f in told.stack if not f.filename.startswith((_OURS, "<frozen"))]
    own = [f for f in foreign if not f.filename.startswith(_LIBRARIES)]
    told.stack = traceback.StackSummary.from_list(own or ([] if isinstance(error, SyntaxError) else foreign[-2:]))
    told.__cause__ = told.__context__ = None
    return "".join(told.format()).rstrip()


def one_line(error: BaseException, width: int = 1000) -> str:
    """Name an exception and the first line of its message, cut at a word where it is longer than `width`."""
    lines = str(error).strip().splitlines()
    return shortened(f"{type(error).__name__}: {lines[0]}", width) if lines else type(error).__name__


def shortened(text: str, width: int) -> str:
    """A text cut at a word where it is longer than `width`."""
    return textwrap.shorten(text, width, placeholder=" …")

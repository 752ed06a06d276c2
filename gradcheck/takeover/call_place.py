"""The place at which a checker is called: the line of the user's code, and the test that runs."""

from __future__ import annotations

import linecache
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from gradcheck.tracebacks import is_user_file

CURRENT_TEST = "PYTEST_CURRENT_TEST"  # pytest keeps the id and the stage of the running test in this variable
_OWN = str(Path(__file__).parents[1])


class Place(NamedTuple):
    """A line of a file; '' and 0 if there is none."""

    file: str = ""
    line: int = 0
    source: str = ""


def read_current_test() -> str:
    """Return the id of the test that runs; '' outside pytest."""
    return os.environ.get(CURRENT_TEST, "").rpartition(" ")[0]


def find_place(checker_module: str, test: str = "") -> Place:
    """Find the line that calls a checker: the innermost of the user's code up to the test, else the innermost outside.

    Args:
        checker_module: the module of the checker; frames of its package are left out, as they only pass the call on.
        test: the id of the running test; its file counts as the user's, also among installed packages.
    """
    package, test_file = checker_module.partition(".")[0], test.partition("::")[0]
    nearest = None
    for frame in _outer_frames():
        name = frame.f_code.co_filename
        if test_file and name.endswith(test_file):
            return _make_place(frame)
        if frame.f_globals.get("__name__", "").partition(".")[0] == package:
            continue
        if is_user_file(name):
            return _make_place(frame)
        nearest = nearest or frame
    return _make_place(nearest) if nearest else Place()


def _outer_frames() -> Iterator[FrameType]:
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if not frame.f_code.co_filename.startswith(_OWN):
            yield frame
        frame = frame.f_back


def _make_place(frame: FrameType) -> Place:
    name, line = frame.f_code.co_filename, frame.f_lineno
    return Place(name, line, linecache.getline(name, line).strip())

"""The place in the user's code where a case was when its time ran out."""

from __future__ import annotations

import faulthandler
import re
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gradcheck.tracebacks import format_place, is_user_file

if TYPE_CHECKING:
    from collections.abc import Iterator

MARGIN = 0.2  # seconds before the deadline at which the place is recorded, so that it is written before the process is killed
FRAME = re.compile(r'File "(.+)", line (\d+) in (.+)')  # as `faulthandler` writes it


@dataclass(frozen=True)
class Watch:
    """A deadline of a case, and the file in which its place is recorded shortly before.

    Attributes:
        path: path of the file.
        deadline: the time of `time.monotonic()`, which all processes of a machine share.
    """

    path: str
    deadline: float


@contextmanager
def watching(watch: Watch | None) -> Iterator[None]:
    """Record the place shortly before the deadline, if the block still runs then."""
    seconds = 0.0 if watch is None else watch.deadline - time.monotonic() - MARGIN
    if watch is None or seconds <= 0:
        yield
        return
    with Path(watch.path).open("w") as file:
        faulthandler.dump_traceback_later(seconds, file=file)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()


def read_place(watch: Watch | None, thread_of: str = "check_named_case") -> str:
    """Return the user's innermost frame when the time ran out, such as 'slow.py:4 in wait'; '' if none was recorded.

    Args:
        watch: what recorded it.
        thread_of: name of a function that the thread in question is in.
    """
    text = ""
    if watch is not None:
        with suppress(OSError):
            text = Path(watch.path).read_text(errors="replace")
    threads = [thread for thread in text.split("\n\n") if f"in {thread_of}\n" in f"{thread}\n"]
    frames = [match.groups() for match in FRAME.finditer("".join(threads))]
    places = (f"{format_place(Path(file).name, int(line))} in {name}" for file, line, name in frames if is_user_file(file))
    return next(places, "")

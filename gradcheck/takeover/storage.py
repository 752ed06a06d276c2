"""Records on disk: one file of JSON lines for each process, in a folder that all processes of a run share."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from gradcheck.results.serialise import to_json_data
from gradcheck.takeover.records import TakeoverCall, call_from_dict


class Store:
    """Appends the records of this process, and of children that it forks, to files of a folder.

    Each record is flushed, so that a process that dies loses none that it wrote.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._pid = 0
        self._file: IO[str] | None = None

    def write(self, call: TakeoverCall) -> None:
        """Append the record of a call."""
        if self._pid != os.getpid() or self._file is None:  # a forked child must not share the file of its parent
            self._pid = os.getpid()
            self._file = (self.folder / f"{self._pid}.jsonl").open("a", encoding="utf-8")
        self._file.write(json.dumps(to_json_data(call)) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file of this process."""
        if self._file is not None and self._pid == os.getpid():
            self._file.close()
        self._file = None


def read_calls(folder: Path) -> tuple[tuple[TakeoverCall, ...], int]:
    """Return the calls that all processes recorded, and the number of these processes."""
    paths = sorted(folder.glob("*.jsonl"))
    return tuple(call for path in paths for call in _read_file(path)), len(paths)


def _read_file(path: Path) -> Iterator[TakeoverCall]:
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            if line.endswith("\n"):  # a process that was killed may leave half a line
                yield call_from_dict(json.loads(line))

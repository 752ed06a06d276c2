"""Where a finding is in the repository: as other tools name files, whatever machine wrote the run."""

from __future__ import annotations

import re
from pathlib import PurePath, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

if TYPE_CHECKING:
    from gradcheck.report.problems import Problem
    from gradcheck.results import CheckResult, RunResult


class Place(NamedTuple):
    """A line of a file; the path with slashes, relative to the root where it lies inside."""

    path: str
    line: int
    inside: bool

    def __str__(self) -> str:
        """Return 'path:line'."""
        return f"{self.path}:{self.line}"


def of(run: RunResult, result: CheckResult, problem: Problem | None = None) -> Place | None:
    """Where a problem is, its case's derivative, or the target: the first that lies inside the root, else the first known."""
    places = [(problem.file, problem.line)] if problem else []
    places += [(result.claim_file, result.claim_line), (result.file, result.line)]
    known = [_place(run.root, file, line) for file, line in places if file]
    return next((place for place in known if place.inside), known[0] if known else None)


def uri(path: str) -> str:
    """A path as a URI reference: relative where the path is."""
    folder = _pure(path)
    return folder.as_uri() if folder.is_absolute() else quote(folder.as_posix())


def _place(root: str, file: str, line: int | None) -> Place:
    path = _pure(file)
    if root and path.is_relative_to(_pure(root)):
        return Place(path.relative_to(_pure(root)).as_posix(), line or 1, inside=True)
    return Place(path.as_posix(), line or 1, inside=not path.is_absolute())


def _pure(path: str) -> PurePath:
    windows = re.match(r"[A-Za-z]:[\\/]|\\\\", path)
    return PureWindowsPath(path) if windows else PurePosixPath(path)

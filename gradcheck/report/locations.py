"""Locations of problems in the repository, named as other tools name files, on whatever machine the run was made."""

from __future__ import annotations

import re
from pathlib import PurePath, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from gradcheck.tracebacks import format_place, name_cell_file, split_cell_file

if TYPE_CHECKING:
    from gradcheck.report.problems import Problem
    from gradcheck.results import CheckResult, RunResult


class Location(NamedTuple):
    """A line of a file.

    Attributes:
        path: the path with slashes; relative to the root of the run if it lies inside.
        line: the line, from 1.
        inside: whether the file lies inside the root, or the path is relative.
        cell: the number of the cell, if the file is a notebook. The line is one of the cell.
    """

    path: str
    line: int
    inside: bool
    cell: int | None = None

    @property
    def file_line(self) -> int:
        """The line of the file, for tools that show it: the first of a notebook, whose JSON nobody reads."""
        return self.line if self.cell is None else 1

    def __str__(self) -> str:
        """Return 'path:line', or 'path cell number, line' for a notebook."""
        return format_place(self.path if self.cell is None else name_cell_file(self.path, self.cell), self.line)


def locate(run: RunResult, result: CheckResult, problem: Problem | None = None) -> Location | None:
    """Locate a problem, the derivative of its case, or the target: the first inside the root, else the first that is known."""
    candidates = [(problem.file, problem.line)] if problem else []
    candidates += [(result.claim_file, result.claim_line), (result.file, result.line)]
    locations = [_make_location(run.root, file, line) for file, line in candidates if file]
    return next((location for location in locations if location.inside), locations[0] if locations else None)


def to_uri(path: str) -> str:
    """Convert a path to a URI reference, which is relative if the path is."""
    pure_path = _pure_path(path)
    return pure_path.as_uri() if pure_path.is_absolute() else quote(pure_path.as_posix())


def to_file_name(path: str) -> str:
    """Return the name of a file without its folder."""
    return _pure_path(path).name


def _make_location(root: str, file: str, line: int | None) -> Location:
    name, cell = split_cell_file(file)
    path = _pure_path(name)
    if root and path.is_relative_to(_pure_path(root)):
        return Location(path.relative_to(_pure_path(root)).as_posix(), line or 1, inside=True, cell=cell)
    return Location(path.as_posix(), line or 1, inside=not path.is_absolute(), cell=cell)


def _pure_path(path: str) -> PurePath:
    is_windows = re.match(r"[A-Za-z]:[\\/]|\\\\", path)
    return PureWindowsPath(path) if is_windows else PurePosixPath(path)

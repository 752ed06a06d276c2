"""What a run is told as: the files, the table, annotations."""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from gradcheck.cli.app import put

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gradcheck.cli.options import Shown
    from gradcheck.results import RunResult


def ready(files: Mapping[str, str]) -> Mapping[str, str]:
    """The same paths; what cannot be written is told before anything is run.

    Raises:
        UsageError: for the first of them.
    """
    from gradcheck.report.files import ready

    for path in files.values():
        if path != "-":
            ready(path)
    return files


def report(run: RunResult, shown: Shown, files: Mapping[str, str], *, table: bool = True, github: bool = False) -> None:
    """Write what is asked for. The table is shown although a file could not be written: that is said below it.

    Args:
        files: the path of each format; '-' is stdout.
        table: whether to show it; on stderr where a file goes to stdout.
        github: also annotate a workflow, where `shown` says nothing of it: on stderr, which is read like stdout.
    """
    from gradcheck.report import formats

    to_stdout = [name for name, path in files.items() if path == "-"]
    try:
        for name in to_stdout:
            put(sys.stdout, formats.render(name, run))
        formats.write(run, {name: path for name, path in files.items() if path != "-"})
    finally:
        if table:
            _show(run, shown.verbosity, to_stderr=bool(to_stdout))
        if github if shown.github is None else shown.github:
            put(sys.stderr, formats.render("github", run))


@contextmanager
def as_read(*paths: str) -> Iterator[None]:
    """Turn what cannot be told of runs that were read from files into one message: their parts do not fit together."""
    from gradcheck.errors import UsageError

    try:
        yield
    except (ValueError, TypeError, LookupError, ArithmeticError) as error:
        told = f"{type(error).__name__}: {error}"
        raise UsageError(f"{', '.join(paths)} cannot be rendered ({told}): was it changed by hand?") from None


def in_workflow() -> bool:
    """Whether this runs in a GitHub workflow."""
    return os.environ.get("GITHUB_ACTIONS") == "true"


def _show(run: RunResult, verbosity: int, *, to_stderr: bool) -> None:
    from gradcheck.report.terminal import table as table_module

    stream = sys.stderr if to_stderr else sys.stdout
    color = stream.isatty() and not os.environ.get("NO_COLOR")
    width = max(shutil.get_terminal_size((100, 24)).columns, 60)
    put(stream, table_module.render(run, width=width, color=color, verbosity=verbosity))

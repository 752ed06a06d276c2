"""How a run is reported: files, the table on the terminal, and annotations of a GitHub workflow."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from gradcheck.cli.app import write_and_flush
from gradcheck.cli.options import OutputOptions
from gradcheck.untrusted_text import in_github_workflow as in_github_workflow

if TYPE_CHECKING:
    from gradcheck.results import RunResult


def require_writable(paths: Mapping[str, str]) -> Mapping[str, str]:
    """Return the paths of the reports, once all of them can be written; called before anything is run.

    Raises:
        UsageError: if a path cannot be written.
    """
    from gradcheck.report.files import ensure_writable

    for path in paths.values():
        if path != "-":
            ensure_writable(path)
    return paths


def write_reports(
    run: RunResult, options: OutputOptions, paths: Mapping[str, str], *, table: bool = True, github: bool = False
) -> None:
    """Write the files and print the table. The table is printed even if a file cannot be written; the error comes below it.

    Args:
        paths: the path of each format, by its name; '-' is stdout.
        table: whether to print the table. It goes to stderr if a file goes to stdout.
        github: whether to annotate a GitHub workflow if `options` does not say. Annotations go to stderr, which GitHub reads
            as it reads stdout.

    Raises:
        UsageError: if a file cannot be written.
    """
    from gradcheck.report import formats

    to_stdout = [name for name, path in paths.items() if path == "-"]
    try:
        for name in to_stdout:
            write_and_flush(sys.stdout, formats.render(name, run))
        formats.write(run, {name: path for name, path in paths.items() if path != "-"})
    finally:
        if table:
            _print_table(run, options.verbosity, to_stderr=bool(to_stdout))
        if github if options.github is None else options.github:
            write_and_flush(sys.stderr, formats.render("github", run), has_ci_commands=True)


@contextmanager
def refuse_inconsistent_runs(*paths: str) -> Iterator[None]:
    """Turn an error while runs read from JSON are rendered into one message: the parts of a run contradict each other.

    Raises:
        UsageError: if the block raises an error that such a contradiction causes.
    """
    from gradcheck.errors import UsageError

    try:
        yield
    except (ValueError, TypeError, LookupError, ArithmeticError) as error:
        cause = f"{type(error).__name__}: {error}"
        raise UsageError(f"{', '.join(paths)} cannot be rendered ({cause}): was it changed by hand?") from None


def _print_table(run: RunResult, verbosity: int, *, to_stderr: bool) -> None:
    from gradcheck.report.terminal import run_tables as table_module

    stream = sys.stderr if to_stderr else sys.stdout
    color = stream.isatty() and not os.environ.get("NO_COLOR")
    width = max(shutil.get_terminal_size((100, 24)).columns, 60)
    write_and_flush(stream, table_module.render(run, width=width, color=color, verbosity=verbosity))

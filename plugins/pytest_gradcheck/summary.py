"""The end of a session: the reports, and a section with the counts and the slowest and weakest checks."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gradcheck.results import CheckResult, RunResult

MAX_LISTED = 3  # checks in each list


def write_reports(run: RunResult, reports: Mapping[str, str]) -> str:
    """Write the requested reports; return the error message, or '' if all were written."""
    from gradcheck.errors import UsageError
    from gradcheck.report import formats

    try:
        formats.write(run, reports)
    except UsageError as error:
        return str(error)
    return ""


def summary_lines(run: RunResult) -> Iterator[str]:
    """Yield the counts, the commands that replay failures, then the slowest checks and those with the coarsest resolution."""
    from gradcheck.report.display import to_display
    from gradcheck.report.terminal import run_tables

    run = to_display(run)
    width = max(shutil.get_terminal_size((100, 24)).columns, 60)
    yield run_tables.render(replace(run, interrupted=False), width=width, verbosity=run_tables.QUIET).rstrip("\n")
    if len(run.results) > 1:
        yield from _list_worst("slowest", "{:.2f} s", [(result.seconds, result) for result in run.results])
    resolutions = [(result.resolution, result) for result in run.results if not math.isnan(result.resolution)]
    yield from _list_worst("weakest", "right to {:.1e}", resolutions)


def _list_worst(title: str, template: str, values: list[tuple[float, CheckResult]]) -> Iterator[str]:
    worst = sorted(values, key=lambda pair: -pair[0])[:MAX_LISTED]
    for number, (value, result) in enumerate(worst):
        yield f"{title if number == 0 else '':<9}{template.format(value)}  {result.case}"

"""The end of a session: the reports, and a section with the counts, the slowest checks and the weakest."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gradcheck.results import CheckResult, RunResult

LISTED = 3


def written(run: RunResult, reports: Mapping[str, str]) -> str:
    """Write the reports that were asked for; returns what went wrong, if anything did."""
    from gradcheck.errors import UsageError
    from gradcheck.report import formats

    try:
        formats.write(run, reports)
    except UsageError as error:
        return str(error)
    return ""


def lines(run: RunResult) -> Iterator[str]:
    """The counts with the commands that replay what is not ok, then the slowest and the weakest checks."""
    from gradcheck.report.terminal import table

    width = max(shutil.get_terminal_size((100, 24)).columns, 60)
    yield table.render(replace(run, interrupted=False), width=width, verbosity=table.QUIET).rstrip("\n")
    if len(run.results) > 1:
        yield from _listed("slowest", "{:.2f} s", [(result.seconds, result) for result in run.results])
    seen = [(result.resolution, result) for result in run.results if not math.isnan(result.resolution)]
    yield from _listed("weakest", "right to {:.1e}", seen)


def _listed(title: str, form: str, measured: list[tuple[float, CheckResult]]) -> Iterator[str]:
    worst = sorted(measured, key=lambda pair: -pair[0])[:LISTED]
    for number, (value, result) in enumerate(worst):
        yield f"{title if number == 0 else '':<9}{form.format(value)}  {result.case}"

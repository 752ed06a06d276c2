"""The run as CSV, for a spreadsheet or a data frame: one row for each case and leaf, with a column for each axis of a grid.

A number that does not exist is an empty cell. A case without a comparison has one row, without a leaf.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence

from gradcheck.glossary.verdicts import worst_verdict
from gradcheck.report import sweep_tables
from gradcheck.results import CheckResult, Comparison, RunResult

CASE_COLUMNS = ("case", "target", "verdict", "reason", "evaluations", "seconds")
LEAF_COLUMNS = (
    "order", "wrt", "shape", "leaf_verdict", "abs_err", "rel_err", "resolution", "error_ulp", "plain_ulp", "ratio",
)  # fmt: skip


def render(run: RunResult) -> str:
    """Return the table with its heading."""
    axes = sweep_tables.list_axes(run.results)
    taken = (*CASE_COLUMNS, *LEAF_COLUMNS)
    heading = (*CASE_COLUMNS, *(f"size {axis}" if axis in taken else axis for axis in axes), *LEAF_COLUMNS)
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(heading)
    for result in run.results:
        case = (result.case, result.target, result.verdict.value, result.reason.code, result.evaluations, result.seconds)
        values = [result.sweep.get(axis, "") for axis in axes]
        writer.writerows([*case, *values, *leaf] for leaf in _list_leaves(result))
    return buffer.getvalue()


def _list_leaves(result: CheckResult) -> Iterator[Sequence[object]]:
    """Yield the columns of each leaf, with the largest errors over the pairs of methods; of a value, order is 0."""
    leaves: dict[tuple[int, str], list[Comparison]] = {}
    for comparison in result.comparisons:
        leaves.setdefault((comparison.order, comparison.wrt), []).append(comparison)
    if not leaves:
        yield [""] * len(LEAF_COLUMNS)
    for (order, wrt), comparisons in leaves.items():
        resolution = sweep_tables.find_largest(comparison.resolution for comparison in comparisons)
        errors = sweep_tables.find_largest_errors(comparisons)
        numbers = (*errors, resolution, *sweep_tables.measure_accuracy(comparisons))
        verdict = worst_verdict(c.verdict for c in comparisons).value
        shape = "x".join(map(str, comparisons[0].shape)) or "scalar"
        yield [order, wrt, shape, verdict, *("" if math.isnan(x) else x for x in numbers)]

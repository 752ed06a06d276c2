"""The grids of a run: one table for each case that was checked at several dtypes, sizes or seeds, with a row per cell."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gradcheck import sweeps
from gradcheck.report import phrases
from gradcheck.results import CheckResult, Comparison, RunResult, Verdict

ERROR_COLUMNS = ("abs err", "rel err", "ulp", "plain ulp", "ratio")
LEGEND = (
    "abs err, rel err: the largest errors of the derivatives. ulp, plain ulp, ratio: the error in units in the last place, "
    "that of a plain implementation, and the ratio of the two, in half precision only."
)


@dataclass(frozen=True)
class SweepTable:
    """The grid of one case.

    Attributes:
        case: the name of the case, without a cell.
        axes: what was varied.
        cells: the results, in the order of the run.
    """

    case: str
    axes: tuple[str, ...]
    cells: tuple[CheckResult, ...]

    @property
    def title(self) -> str:
        """The number of cells and the axes, such as '6 cells: dtype, batch'."""
        count = len(self.cells)
        return f"{count} cell{'' if count == 1 else 's'}: {', '.join(self.axes)}"

    @property
    def columns(self) -> tuple[str, ...]:
        """The headings, without that of the verdict, which comes last."""
        return (*self.axes, *ERROR_COLUMNS)

    def format_row(self, cell: CheckResult) -> tuple[str, ...]:
        """Return the texts of a row: one for each column."""
        values = (str(cell.sweep.get(axis, "-")) for axis in self.axes)
        derivatives = [comparison for comparison in cell.comparisons if comparison.order > 0]
        errors = find_largest_errors(derivatives)
        return (*values, *map(phrases.format_number, errors), *map(_format_short, measure_accuracy(cell.comparisons)))


def list_tables(run: RunResult) -> list[SweepTable]:
    """Return the grids of a run, in its order."""
    grids: dict[str, list[CheckResult]] = {}
    for result in run.results:
        if result.sweep:
            grids.setdefault(sweeps.strip_cell(result.case), []).append(result)
    return [SweepTable(case, list_axes(cells), tuple(cells)) for case, cells in grids.items()]


def list_axes(results: Iterable[CheckResult]) -> tuple[str, ...]:
    """Return the axes of some cells, in order."""
    return tuple(dict.fromkeys(axis for result in results for axis in result.sweep))


def find_largest_errors(comparisons: Sequence[Comparison]) -> tuple[float, float]:
    """Return the largest absolute and the largest relative error; NaN if there is none."""
    absolute = (x for c in comparisons for x in (c.abs_err, c.max_abs_err) if x is not None)
    return find_largest(absolute), find_largest(c.rel_err for c in comparisons)


def find_largest(numbers: Iterable[float]) -> float:
    """Return the largest number; NaN if there is none but NaN."""
    return max((x for x in numbers if not math.isnan(x)), default=math.nan)


def measure_accuracy(comparisons: Sequence[Comparison]) -> tuple[float, float, float]:
    """Return the error in units in the last place, that of a plain implementation, and their ratio, where that is largest.

    All three are NaN outside half precision.
    """
    accuracies = [(c.ratio, c.error_ulp, c.plain_ulp) for c in comparisons if c.ratio is not None and not math.isnan(c.ratio)]
    ratio, error_ulp, plain_ulp = max(accuracies, default=(math.nan, math.nan, math.nan), key=lambda numbers: numbers[0])
    return error_ulp or 0.0, plain_ulp or 0.0, ratio


def describe_verdict(result: CheckResult) -> str:
    """Say what follows the verdict: its reason if it is no PASS, what was expected, and another dtype than the cell's."""
    reason = "" if result.verdict is Verdict.PASS else f" {result.reason.code}"
    dtypes = list(dict.fromkeys(comparison.dtype for comparison in result.comparisons if comparison.order > 0))
    is_other = dtypes and result.sweep.get("dtype", dtypes[0]) not in dtypes
    return f"{reason}{phrases.describe_expectation(result)}" + (f" (ran in {' and '.join(dtypes)})" if is_other else "")


def _format_short(x: float) -> str:
    return "-" if math.isnan(x) else f"{x:.0f}" if 99.5 <= x < 1e5 else f"{x:.2g}"

"""How well the answers of a tool hold: selections, shares and medians over the results of cases."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence

from estimators import CaseResult
from known_derivatives import NOISES


def select_answered(rows: Sequence[CaseResult], tool: str) -> list[CaseResult]:
    """Select the rows in which a tool gives an answer."""
    return [row for row in rows if row.answers[tool].exists]


def compute_coverage(rows: Sequence[CaseResult], tool: str) -> float:
    """Compute the share of a tool's answers whose bound holds."""
    answered = select_answered(rows, tool)
    return sum(row.is_covered(tool) for row in answered) / len(answered) if answered else math.nan


def median_ratio(rows: Sequence[CaseResult], tool: str) -> float:
    """Compute the median of bound over true error."""
    return statistics.median([row.answers[tool].bound / row.error(tool) for row in select_answered(rows, tool)] or [math.nan])


def median_relative(rows: Sequence[CaseResult], tool: str, measure: Callable[[CaseResult], float]) -> float:
    """Compute the median of a measure of the rows relative to the size of the derivative."""
    answered = [measure(row) / abs(row.case.exact) for row in select_answered(rows, tool) if row.case.exact != 0]
    return statistics.median(answered or [math.nan])


def median_error(rows: Sequence[CaseResult], tool: str) -> float:
    """Compute the median true error relative to the derivative."""
    return median_relative(rows, tool, lambda row: row.error(tool))


def median_bound(rows: Sequence[CaseResult], tool: str) -> float:
    """Compute the median bound relative to the derivative."""
    return median_relative(rows, tool, lambda row: row.answers[tool].bound)


def group_by_condition(rows: Sequence[CaseResult]) -> dict[str, list[CaseResult]]:
    """Group rows by condition, in the order of the tables."""
    noises = [f"noise {size:.0e}" for size in NOISES]
    order = ("float64", "float32", "scale of x", "scale of f", *noises, "beside a border", "on a border")
    groups = {name: [row for row in rows if row.case.condition == name] for name in order}
    return {name: group for name, group in groups.items() if group}

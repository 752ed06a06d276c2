"""The charts of the accuracy study."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from estimators import OTHER_TOOLS, OURS, CaseResult
from measures import compute_coverage, group_by_condition, median_error, select_answered
from study_page import save_chart

MAX_RATIO = 30.0  # required of the median of bound over true error
MARKS_PER_KIND = 270  # a kind with more answers than this is thinned out in the scatter chart, to no fewer than this
MARK_KINDS = {
    "float64 and scales": ("o", "#4477aa"),
    "float32": ("^", "#228833"),
    "noise": ("x", "#997700"),
    "border": ("s", "#aa3377"),
}
TOOL_MARKS = dict(
    zip((OURS, *OTHER_TOOLS), (("o", "black"), ("s", "#4477aa"), ("^", "#228833"), ("x", "#aa3377")), strict=True)
)


def draw_scatter(rows: Sequence[CaseResult], path: Path) -> list[str]:
    """Draw the chart of bound against true error."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 5.5))
    axes = figure.add_subplot()
    for kind, (marker, colour) in MARK_KINDS.items():
        points = [
            (row.error(OURS) / abs(row.case.exact), row.answers[OURS].bound / abs(row.case.exact))
            for row in choose_marks(rows, kind)
        ]
        axes.plot(*zip(*points, strict=True), marker, color=colour, mfc="none", ms=4, mew=0.7, label=kind) if points else None
    ends = (1e-17, 1e2)
    axes.plot(ends, ends, color="black", lw=1, label="bound = error")
    axes.plot(ends, [MAX_RATIO * end for end in ends], color="black", lw=1, ls="--", label=f"bound = {MAX_RATIO:.0f} × error")
    axes.set(xscale="log", yscale="log", xlim=ends, ylim=ends, xlabel="true error, relative", ylabel="bound, relative")
    axes.legend(frameon=False)
    return save_chart(
        figure, path, "Bound and true error", "one mark per derivative; below the full line the bound does not hold"
    )


def choose_marks(rows: Sequence[CaseResult], kind: str) -> list[CaseResult]:
    """Choose answers of one kind, evenly spread."""
    marks = [r for r in select_answered(rows, OURS) if mark_kind(r.case.condition) == kind and r.case.exact != 0]
    return marks[:: max(1, len(marks) // MARKS_PER_KIND)]


def mark_kind(condition: str) -> str:
    """Return which kind of mark a condition gets in the scatter chart."""
    return next((k for k in ("float32", "noise", "border") if k in condition), "float64 and scales")


def draw_dots(rows: Sequence[CaseResult], path: Path) -> list[str]:
    """Draw the chart of the share outside the bound and of the median error, by condition and tool."""
    from matplotlib.figure import Figure

    groups = group_by_condition([row for row in rows if OTHER_TOOLS[0] in row.answers])
    figure = Figure(figsize=(9, 4.5))
    left, right = figure.subplots(1, 2, sharey=True)
    places = np.arange(len(groups))
    for tool, (marker, colour) in TOOL_MARKS.items():
        outside = [100 * (1 - compute_coverage(group, tool)) for group in groups.values()]
        left.plot(outside, places, marker, color=colour, ms=6, mfc="none", label=tool)
        right.plot([median_error(group, tool) for group in groups.values()], places, marker, color=colour, ms=6, mfc="none")
    left.set_xscale("symlog", linthresh=0.1)
    left.set(xlabel="answers outside the tool's own bound, %", yticks=places, yticklabels=list(groups))
    left.set_xlim(-0.02, 100)
    right.set(xscale="log", xlabel="median error, relative")
    left.invert_yaxis()
    for axes in (left, right):
        axes.grid(axis="y", lw=0.4)
    figure.legend(*left.get_legend_handles_labels(), loc="upper center", ncols=4, frameon=False)
    return save_chart(
        figure, path, "Four tools by condition", "share of answers outside their own bound, and median true error"
    )

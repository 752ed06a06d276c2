"""The table of a further check in the terminal: its numbers, and the conclusion in words."""

from __future__ import annotations

import math
from collections.abc import Iterator

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from gradcheck.report.steps import BAR_LENGTH
from gradcheck.report.terminal.layout import STYLES, indent, new_table
from gradcheck.results import CheckTable, Row, Verdict

MAX_ROWS = 24  # rows shown in the terminal; the JSON report has all of them


def render_check(check: CheckTable) -> Iterator[RenderableType]:
    """Render title, table and conclusion of one check."""
    title = Text(f"{check.check}", "bold").append(f"  {check.method}  " if check.method else "  ", "dim not bold")
    yield indent(title.append(check.verdict.value, STYLES[check.verdict]))
    if check.rows:
        yield indent(_build_table(check))
    yield indent(Text(check.conclusion), 4)
    if check.verdict is not Verdict.PASS and check.reason.advice:
        yield indent(Text(check.reason.advice, "dim"), 4)


def _build_table(check: CheckTable) -> Table:
    table = new_table()
    table.add_column(check.columns[0], overflow="fold")
    for name in check.columns[1:]:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", overflow="fold")
    largest = max((row.values[-1] for row in check.rows if not math.isnan(row.values[-1])), default=0.0) if check.bars else 0.0
    for row in check.rows[:MAX_ROWS]:
        cells = [Text(_format_cell(name, x)) for name, x in zip(check.columns[1:], row.values, strict=True)]
        table.add_row(Text(row.label), *cells, _format_remark(row, largest))
    if len(check.rows) > MAX_ROWS:
        table.add_row(Text(f"and {len(check.rows) - MAX_ROWS} more", "dim"), *[""] * len(check.columns))
    return table


def _format_remark(row: Row, largest: float) -> Text:
    if largest > 0 and not row.remark:
        return Text("▪" * max(1, round(BAR_LENGTH * row.values[-1] / largest)))
    return Text(row.remark, "dim" if row.remark != Verdict.FAIL.value else "bold red")


def _format_cell(column: str, x: float) -> str:
    if math.isnan(x):
        return "-"
    if column == "share":
        return f"{x:.1%}"
    if column == "ratio":
        return f"{x:.4f}"
    if column == "order":
        return f"{x:.2f}"
    return "0" if x == 0 else f"{x:.3g}"

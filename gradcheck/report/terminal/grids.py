"""The grids of a run in the terminal: a table for each case, with a row per cell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from gradcheck.report.sweep_tables import LEGEND, SweepTable, describe_verdict
from gradcheck.report.terminal.layout import STYLES, new_table

GAP = 2  # columns between two numbers
VERDICT_WIDTH = 12  # columns that a verdict needs; its reason may be folded
DISPENSABLE = ("rel err", "plain ulp")  # numbers that a narrow terminal leaves out


def render_grids(tables: Sequence[SweepTable], width: int) -> Iterator[RenderableType]:
    """Render the tables in a number of columns, and what their own columns mean."""
    for table in tables:
        yield Text(table.case, "bold").append(f"  {table.title}", "dim not bold")
        yield _build_table(table, width)
        yield Text()
    if tables:
        yield Text(LEGEND, "dim")
        yield Text()


def _build_table(table: SweepTable, width: int) -> Table:
    rows = [table.format_row(cell) for cell in table.cells]
    widths = [max(map(len, texts)) for texts in zip(table.columns, *rows, strict=True)]
    is_narrow = sum(widths) + GAP * len(widths) + VERDICT_WIDTH > width
    shown = [number for number, name in enumerate(table.columns) if not (is_narrow and name in DISPENSABLE)]
    built = new_table()
    for number in shown:
        name = table.columns[number]
        built.add_column(name, justify="left" if name == "dtype" else "right", no_wrap=True)
    built.add_column("verdict", overflow="fold")
    for cell, texts in zip(table.cells, rows, strict=True):
        verdict = Text(cell.verdict.value, STYLES[cell.verdict]).append(describe_verdict(cell), "dim not bold")
        built.add_row(*(Text(texts[number]) for number in shown), verdict)
    return built

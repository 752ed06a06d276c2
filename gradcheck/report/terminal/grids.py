"""The grids of a run in the terminal: a table for each case, with a row per cell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

from gradcheck.report.sweep_tables import LEGEND, SweepTable, describe_verdict
from gradcheck.results import Verdict

if TYPE_CHECKING:
    from rich.console import RenderableType


GAP = 2  # columns between two numbers
VERDICT_WIDTH = 12  # columns that a verdict needs; its reason may be folded
DISPENSABLE = ("rel err", "plain ulp")  # numbers that a narrow terminal leaves out


def render_grids(tables: Sequence[SweepTable], styles: Mapping[Verdict, str], width: int) -> Iterator[RenderableType]:
    """Render the tables, and what their columns mean.

    Args:
        tables: the grids.
        styles: the style of each verdict.
        width: the number of columns of the terminal.
    """
    for table in tables:
        yield Text(table.case, "bold").append(f"  {table.title}", "dim not bold")
        yield _build_table(table, styles, width)
        yield Text()
    if tables:
        yield Text(LEGEND, "dim")
        yield Text()


def _build_table(table: SweepTable, styles: Mapping[Verdict, str], width: int) -> Table:
    rows = [table.format_row(cell) for cell in table.cells]
    widths = [max(map(len, texts)) for texts in zip(table.columns, *rows, strict=True)]
    is_narrow = sum(widths) + GAP * len(widths) + VERDICT_WIDTH > width
    shown = [number for number, name in enumerate(table.columns) if not (is_narrow and name in DISPENSABLE)]
    built = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1), collapse_padding=True)
    for number in shown:
        name = table.columns[number]
        built.add_column(name, justify="left" if name == "dtype" else "right", no_wrap=True)
    built.add_column("verdict", overflow="fold")
    for cell, texts in zip(table.cells, rows, strict=True):
        verdict = Text(cell.verdict.value, styles[cell.verdict]).append(describe_verdict(cell), "dim not bold")
        built.add_row(*(Text(texts[number]) for number in shown), verdict)
    return built

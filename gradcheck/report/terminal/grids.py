"""The grids of a run in the terminal: a table for each case, with a row per cell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

from gradcheck.report.sweep_tables import LEGEND, SweepTable, describe_verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rich.console import RenderableType

    from gradcheck.results import Verdict


def render_grids(tables: Sequence[SweepTable], styles: Mapping[Verdict, str]) -> Iterator[RenderableType]:
    """Render the tables, and what their columns mean.

    Args:
        styles: the style of each verdict.
    """
    for table in tables:
        yield Text(table.case, "bold").append(f"  {table.title}", "dim not bold")
        yield _build_table(table, styles)
        yield Text()
    if tables:
        yield Text(LEGEND, "dim")
        yield Text()


def _build_table(table: SweepTable, styles: Mapping[Verdict, str]) -> Table:
    built = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1), collapse_padding=True)
    for name in table.columns:
        built.add_column(name, justify="left" if name == "dtype" else "right", no_wrap=True)
    built.add_column("verdict", overflow="fold")
    for cell in table.cells:
        verdict = Text(cell.verdict.value, styles[cell.verdict]).append(describe_verdict(cell), "dim not bold")
        built.add_row(*map(Text, table.format_row(cell)), verdict)
    return built

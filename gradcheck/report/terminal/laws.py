"""The laws of a training step in the terminal: a table with a line for each, and below it what was found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from gradcheck.report.phrases import format_number
from gradcheck.results import Law, Verdict

if TYPE_CHECKING:
    from rich.console import RenderableType


def render_laws(laws: Sequence[Law], styles: Mapping[Verdict, str]) -> Iterator[RenderableType]:
    """Render the laws of a training step.

    Args:
        laws: in the order of the report.
        styles: the style of each verdict.
    """
    if not laws:
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1), collapse_padding=True)
    table.add_column("law", no_wrap=True)
    for name in ("difference", "bound"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("worst", overflow="fold")
    table.add_column("verdict", no_wrap=True)
    for law in laws:
        verdict = Text(law.verdict.value, styles[law.verdict]) if law.verdict else Text("-", "dim")
        numbers = [Text(format_number(x)) for x in (law.difference, law.bound)]
        table.add_row(Text(law.name), *numbers, Text(law.worst), verdict)
    yield Padding(table, (0, 0, 0, 2))
    for law in laws:
        style = "dim" if law.verdict in (None, Verdict.PASS) else ""
        yield Padding(Text(f"{law.name}: ", "bold" if not style else "dim").append(law.message, style), (0, 0, 0, 2))

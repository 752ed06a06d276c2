"""The laws of a training step in the terminal: a table with a line for each, and below it what was found."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.text import Text

from gradcheck.report.phrases import format_number
from gradcheck.report.terminal.layout import STYLES, indent, new_table
from gradcheck.results import Law, Verdict


def render_laws(laws: Sequence[Law]) -> Iterator[RenderableType]:
    """Render the laws of a training step, in the order of the report."""
    if not laws:
        return
    table = new_table()
    table.add_column("law", no_wrap=True)
    for name in ("difference", "bound"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("worst", overflow="fold")
    table.add_column("verdict", no_wrap=True)
    for law in laws:
        verdict = Text(law.verdict.value, STYLES[law.verdict]) if law.verdict else Text("-", "dim")
        numbers = [Text(format_number(x)) for x in (law.difference, law.bound)]
        table.add_row(Text(law.name), *numbers, Text(law.worst), verdict)
    yield indent(table)
    for law in laws:
        style = "dim" if law.verdict in (None, Verdict.PASS) else ""
        yield indent(Text(f"{law.name}: ", "bold" if not style else "dim").append(law.message, style))

"""The look of the terminal's report: the colours of verdicts, tables and indented lines."""

from __future__ import annotations

from rich import box
from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table

from gradcheck.glossary.verdicts import Verdict

STYLES = {Verdict.PASS: "green", Verdict.FAIL: "bold red", Verdict.INCONCLUSIVE: "yellow", Verdict.ERROR: "bold red"}


def new_table() -> Table:
    """Return a table without columns."""
    return Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1), collapse_padding=True)


def indent(text: RenderableType, columns: int = 2) -> Padding:
    """Return a text or a table with empty columns on its left."""
    return Padding(text, (0, 0, 0, columns))

"""Text of a result, for `str(result)` and for notebooks.

Results are plain data and do not import the reports. The package sets the functions that print them when it is loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Printer = Callable[[Any], str]

_printers: list[Printer] = []


def set_printers(printer: Printer, summariser: Printer, html_printer: Printer) -> None:
    """Set the functions that turn a result into a table, into one line and into HTML."""
    _printers[:] = [printer, summariser, html_printer]


def format_result(result: Any) -> str:
    """Return a result as text."""
    return _printers[0](result)


def summarise_result(result: Any) -> str:
    """Return a result as one line."""
    return _printers[1](result)


def format_html(result: Any) -> str:
    """Return a result, or a run, as an HTML fragment."""
    return _printers[2](result)

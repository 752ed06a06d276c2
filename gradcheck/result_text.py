"""Text of a result, for `str(result)`.

Results are plain data and do not import the reports. The package sets the function that prints them when it is loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Printer = Callable[[Any], str]

_printers: list[Printer] = []


def set_printers(printer: Printer, summariser: Printer) -> None:
    """Set the functions that turn a result into a table and into one line."""
    _printers[:] = [printer, summariser]


def format_result(result: Any) -> str:
    """Return a result as text."""
    return _printers[0](result)


def summarise_result(result: Any) -> str:
    """Return a result as one line."""
    return _printers[1](result)

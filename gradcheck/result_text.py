"""Text of a result, for `str(result)`.

Results are plain data and do not import the reports. The package sets the function that prints them when it is loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Printer = Callable[[Any], str]

_printers: list[Printer] = []


def set_printer(printer: Printer) -> None:
    """Set the function that turns a result into text."""
    _printers[:] = [printer]


def format_result(result: Any) -> str:
    """Return a result as text."""
    return _printers[0](result)

"""How a result is turned into text by `str(result)`: results are plain data and do not know the reports."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Printer = Callable[[Any], str]

_printers: list[Printer] = []


def use(printer: Printer) -> None:
    """Print results with `printer` from now on."""
    _printers[:] = [printer]


def text_of(result: Any) -> str:
    """Return a result as text."""
    return _printers[0](result)

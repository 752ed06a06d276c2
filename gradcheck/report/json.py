"""The run as JSON, for other tools."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gradcheck.results import RunResult


def render(run: RunResult) -> str:
    """Return the JSON text, ending in a newline."""
    return run.to_json() + "\n"

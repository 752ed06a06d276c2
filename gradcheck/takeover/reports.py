"""The files of a takeover's report by format."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping

from gradcheck.report import files
from gradcheck.takeover.records import TakeoverRun

FORMATS = ("json", "markdown", "html")


def render(name: str, run: TakeoverRun) -> str:
    """Return the text of one format."""
    if name == "json":
        return json.dumps(run.to_dict(), indent=1) + "\n"
    text: str = importlib.import_module(f"gradcheck.takeover.{name}").render(run)
    return text


def write(run: TakeoverRun, paths: Mapping[str, str]) -> None:
    """Write a file for each format.

    Raises:
        UsageError: if a file cannot be written.
    """
    for name, path in paths.items():
        files.write(path, render(name, run))

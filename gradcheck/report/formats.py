"""The file formats of a run by name: JSON, and for each other a module of this folder with `render(run) -> str`."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gradcheck.results import RunResult

# What each format contains. The module is named after the format, with _ instead of -.
FORMATS = {
    "json": "the run as JSON",
    "html": "the run as one self-contained page",
    "csv": "the run as CSV: a row for each case and leaf",
    "markdown": "the run as Markdown, for the summary of a CI step",
    "junit-xml": "the run as JUnit XML",
    "sarif": "the problems as SARIF 2.1.0, for code scanning",
}


def render(name: str, run: RunResult) -> str:
    """Return the text of one format. Only JSON keeps the texts of the user's code as they are."""
    from gradcheck.report.display import to_display
    from gradcheck.untrusted_text import escape_ci_commands

    if name == "json":
        return escape_ci_commands(run.to_json() + "\n")
    file = "html.page" if name == "html" else name.replace("-", "_")
    module = importlib.import_module(f"gradcheck.report.{file}")  # loaded only if it is asked for
    text: str = module.render(to_display(run))
    return text if name == "github" else escape_ci_commands(text)


def write(run: RunResult, places: Mapping[str, str]) -> None:
    """Write a file for each requested format; if one cannot be written, the others are still written.

    Args:
        places: paths by format.

    Raises:
        UsageError: if a file cannot be written, with one line for each such file.
    """
    from gradcheck.errors import UsageError
    from gradcheck.report import files

    failed = []
    for name, path in places.items():
        try:
            files.write(path, render(name, run))
        except UsageError as error:
            failed.append(str(error))
    if failed:
        raise UsageError("\n".join(failed))

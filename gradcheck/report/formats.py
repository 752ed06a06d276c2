"""The file formats of a run by name. Each is a module of this folder with `render(run) -> str`, loaded when it is needed."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradcheck.results import RunResult

# What each format contains. The module is named after the format, with _ instead of -.
FORMATS = {
    "json": "the run as JSON",
    "html": "the run as one self-contained page",
    "markdown": "the run as Markdown, for the summary of a CI step",
    "junit-xml": "the run as JUnit XML",
    "sarif": "the problems as SARIF 2.1.0, for code scanning",
}


def render(name: str, run: RunResult) -> str:
    """Return the text of one format."""
    file = "html.page" if name == "html" else name.replace("-", "_")
    module = importlib.import_module(f"gradcheck.report.{file}")
    return _replace_surrogates(module.render(run))


def _replace_surrogates(text: str) -> str:
    """Replace lone surrogates, which UTF-8 cannot encode; they occur in the names of files that are not valid text."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


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

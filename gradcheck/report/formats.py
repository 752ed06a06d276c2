"""The file formats of a run, by name: each a module of this folder with `render(run) -> str`, loaded when it is asked for."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradcheck.results import RunResult

FORMATS = {
    "json": "the run as JSON",
    "html": "the run as one self-contained page",
    "markdown": "the run as Markdown, for the summary of a CI step",
    "junit-xml": "the run as JUnit XML",
    "sarif": "what is not ok as SARIF 2.1.0, for code scanning",
}  # what is written; the module is named after the format, with _ for -


def render(name: str, run: RunResult) -> str:
    """Return the text of one format."""
    file = "html.page" if name == "html" else name.replace("-", "_")
    module = importlib.import_module(f"gradcheck.report.{file}")
    return _writable(module.render(run))


def _writable(text: str) -> str:
    """The same where it can be encoded; half a surrogate pair, as in a name that was no text, becomes a sign for that."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def write(run: RunResult, places: Mapping[str, str]) -> None:
    """Write a file for each format that is asked for; one that cannot be written does not keep the others from it.

    Args:
        places: paths by format.

    Raises:
        UsageError: where some cannot be written, with a line for each.
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

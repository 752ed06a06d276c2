"""The report of a takeover as JSON, as Markdown for the summary of a CI step, and as one self-contained page."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping

from gradcheck.report import files
from gradcheck.report.display import to_display
from gradcheck.report.html.page import load_template
from gradcheck.report.markdown import escape_text, format_code, take_fitting
from gradcheck.takeover.records import TakeoverRun
from gradcheck.takeover.sections import (
    Entry,
    Section,
    build_sections,
    describe_category,
    describe_prediction,
    describe_times,
    describe_totals,
)
from gradcheck.untrusted_text import escape_ci_commands

MARKDOWN_LIMIT = 900_000  # bytes: GitHub allows 1024 kB for the summary of a step
MAX_CALLS = 5000  # rows in the page's table of every call


def render_json(run: TakeoverRun) -> str:
    """Return the JSON text, ending in a newline."""
    return json.dumps(run.to_dict(), indent=1) + "\n"


def render_html(run: TakeoverRun) -> str:
    """Return the page, which has the styles of the report of a run."""
    run = to_display(run)
    page = load_template("takeover.html.j2").render(
        run=run,
        totals=describe_totals(run),
        prediction=describe_prediction(run),
        times=describe_times(run),
        sections=build_sections(run),
        describe_category=describe_category,
        max_calls=MAX_CALLS,
    )
    return escape_ci_commands(page)


def render_markdown(run: TakeoverRun) -> str:
    """Return the report as Markdown."""
    run = to_display(run)
    head = ["## gradcheck takeover\n", f"**{escape_text(describe_totals(run))}**\n"]
    head += [f"{describe_prediction(run)}\n"] if run.mode == "predict" else []
    lines, _ = take_fitting((line for section in build_sections(run) for line in _format_section(section)), MARKDOWN_LIMIT)
    return escape_ci_commands("\n".join([*head, *lines, "", describe_times(run), ""]))


def _format_section(section: Section) -> Iterator[str]:
    yield f"\n### {escape_text(section.title)}\n\n{escape_text(section.explanation)}\n"
    yield "| where | calls | line | checker | what |\n|---|--:|---|---|---|"
    yield from map(_format_row, section.entries)


def _format_row(entry: Entry) -> str:
    what = escape_text(entry.text) + (f"<br>{format_code(entry.command)}" if entry.command else "")
    subject, place, checker = (format_code(text) if text else "" for text in (entry.subject, entry.place, entry.checker))
    return f"| {subject} | {entry.calls or ''} | {place} | {checker} | {what} |"


FORMATS: dict[str, Callable[[TakeoverRun], str]] = {"json": render_json, "markdown": render_markdown, "html": render_html}


def write(run: TakeoverRun, paths: Mapping[str, str]) -> None:
    """Write a file for each format.

    Raises:
        UsageError: if a file cannot be written.
    """
    for name, path in paths.items():
        files.write(path, FORMATS[name](run))

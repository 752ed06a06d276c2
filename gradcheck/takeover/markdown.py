"""The report of a takeover as Markdown, for the summary of a CI step."""

from __future__ import annotations

from collections.abc import Iterator

from gradcheck.report.display import to_display
from gradcheck.report.markdown import escape_text, format_code, take_fitting
from gradcheck.takeover.records import TakeoverRun
from gradcheck.takeover.sections import Entry, Section, build_sections, describe_prediction, describe_times, describe_totals
from gradcheck.untrusted_text import escape_ci_commands

LIMIT = 900_000  # bytes: GitHub allows 1024 kB for the summary of a step


def render(run: TakeoverRun) -> str:
    """Return the report."""
    run = to_display(run)
    head = ["## gradcheck takeover\n", f"**{escape_text(describe_totals(run))}**\n"]
    head += [f"{describe_prediction(run)}\n"] if run.mode == "predict" else []
    lines, _ = take_fitting((line for section in build_sections(run) for line in _format_section(section)), LIMIT)
    return escape_ci_commands("\n".join([*head, *lines, "", describe_times(run), ""]))


def _format_section(section: Section) -> Iterator[str]:
    yield f"\n### {escape_text(section.title)}\n\n{escape_text(section.explanation)}\n"
    yield "| where | calls | line | checker | what |\n|---|--:|---|---|---|"
    yield from map(_format_row, section.entries)


def _format_row(entry: Entry) -> str:
    what = escape_text(entry.text) + (f"<br>{format_code(entry.command)}" if entry.command else "")
    subject, place, checker = (format_code(text) if text else "" for text in (entry.subject, entry.place, entry.checker))
    return f"| {subject} | {entry.calls or ''} | {place} | {checker} | {what} |"

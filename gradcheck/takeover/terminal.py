"""The report of a takeover for the terminal, readable at 80 columns."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.text import Text

from gradcheck.glossary.verdicts import Verdict
from gradcheck.report.display import to_display
from gradcheck.report.terminal.layout import STYLES, indent
from gradcheck.report.terminal.run_tables import to_string
from gradcheck.takeover.records import TakeoverRun
from gradcheck.takeover.sections import (
    Entry,
    Section,
    build_sections,
    count_of,
    describe_prediction,
    describe_times,
    describe_totals,
)

MAX_ENTRIES = 10  # entries of a section; the files have all of them


def render(run: TakeoverRun, *, width: int = 80, color: bool = False) -> str:
    """Return the report.

    Args:
        color: whether to use colours.
    """
    run = to_display(run)
    parts: list[RenderableType] = [Text(describe_totals(run), "bold")]
    parts += [Text(prediction)] if (prediction := describe_prediction(run)) else []
    several = len({call.checker for call in run.calls}) > 1
    for section in build_sections(run):
        parts += [Text(), *_render_section(section, names_checkers=several)]
    if run.calls:
        parts += [Text(), Text(describe_times(run), "dim")]
    return to_string(parts, width, color).rstrip("\n")


def _render_section(section: Section, *, names_checkers: bool) -> Iterator[RenderableType]:
    style = STYLES[Verdict(section.verdict)] if section.verdict else "bold"
    yield Text(section.title, style)
    yield indent(Text(section.explanation, "dim"))
    for entry in section.entries[:MAX_ENTRIES]:
        yield from _render_entry(entry, names_checker=names_checkers or not entry.subject)
    left = len(section.entries) - MAX_ENTRIES
    if left > 0:
        yield indent(Text(f"and {left} more; the JSON, Markdown and HTML reports list all", "dim"))


def _render_entry(entry: Entry, *, names_checker: bool) -> Iterator[RenderableType]:
    head = Text(entry.subject)
    head.append(f"  {count_of(entry.calls, 'call')}" if entry.calls > 1 else "", "dim")
    head.append(f"  {entry.place}" if entry.place else "", "dim")
    head.append(f"  {entry.checker}" if names_checker else "", "dim")
    yield indent(head)
    yield indent(Text(entry.text), 4)
    if entry.command:
        yield Text(f"    again: {entry.command}", "dim", no_wrap=True)  # one line, to copy

"""Summary of a search: its statistics, the smallest input that fails, and a test to paste."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.text import Text

from gradcheck.report.terminal.layout import indent
from gradcheck.results import CheckResult, Search

STOP_PHRASES = {"budget": "stopped when the budget was spent", "interrupted": "interrupted"}


def render_search(result: CheckResult) -> Iterator[RenderableType]:
    """Render the summary of a search for the terminal; nothing if there was none."""
    search = result.search
    if search is None:
        return
    yield indent(Text(describe_counts(search)))
    yield from (indent(Text(f"rejected: {region}", "dim")) for region in search.regions)
    if not result.example:
        return
    yield indent(Text("the smallest input that fails:", "bold"))
    yield from (indent(Text(f"{name} = {text}"), 4) for name, text in search.inputs)
    yield indent(Text("as a test:", "bold"))
    # The test is meant to be pasted, so its lines are neither indented nor wrapped.
    yield from (Text(line, no_wrap=True) for line in result.example.rstrip().split("\n"))


def describe_counts(search: Search) -> str:
    """Say in one line how many inputs passed, failed, were inconclusive or were rejected."""
    kinds = ("passed", "inconclusive", "failed", "rejected")
    counts = ", ".join(f"{getattr(search, kind)} {kind}" for kind in kinds if getattr(search, kind))
    first_failure = f"; the first that failed was number {search.before}" if search.before else ""
    stopped = f"; {STOP_PHRASES[search.stopped]}" if search.stopped else ""
    return f"{search.examples} inputs tried: {counts or 'none finished'}{first_failure}{stopped}"

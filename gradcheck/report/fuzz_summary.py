"""What a search tried, the smallest input that fails, and the test to paste."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.padding import Padding
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from gradcheck.results import CheckResult, Search

STOPPED = {"budget": "stopped when the budget was spent", "interrupted": "interrupted"}


def blocks(result: CheckResult) -> Iterator[RenderableType]:
    """The story of a search; nothing where there was none."""
    search = result.search
    if search is None:
        return
    yield _indented(Text(counted(search)))
    yield from (_indented(Text(f"rejected: {region}", "dim")) for region in search.regions)
    if not result.example:
        return
    yield _indented(Text("the smallest input that fails:", "bold"))
    yield from (_indented(Text(f"{name} = {text}"), 4) for name, text in search.inputs)
    yield _indented(Text("as a test:", "bold"))
    yield from (Text(line, no_wrap=True) for line in result.example.rstrip().split("\n"))  # to be pasted: not broken


def counted(search: Search) -> str:
    """How many examples came out how, in a line."""
    kinds = ("passed", "inconclusive", "failed", "rejected")
    told = ", ".join(f"{getattr(search, kind)} {kind}" for kind in kinds if getattr(search, kind))
    first = f"; the first that failed was number {search.before}" if search.before else ""
    end = f"; {STOPPED[search.stopped]}" if search.stopped else ""
    return f"{search.examples} inputs tried: {told or 'none finished'}{first}{end}"


def _indented(text: RenderableType, by: int = 2) -> Padding:
    return Padding(text, (0, 0, 0, by))

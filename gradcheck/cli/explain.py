"""`gradcheck explain`."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from gradcheck.cli.app import app, exit_on_error, write_and_flush

if TYPE_CHECKING:
    from rich.console import RenderableType


@app.command()
def explain(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            help="Pages of the guide, such as quick-start or inputs, or reasons, diagnoses and contracts that a report names,"
            " such as kink-subgradient, factor or state. Default: list all.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Print pages of the guide: how to do something, or what a reason, a diagnosis or a contract means."""
    with exit_on_error():
        from gradcheck.cli.guide_pages import ALIASES, list_pages, name_linked_pages, read_pages

        pages = read_pages()
        if not names:
            text = list_pages(pages, shutil.get_terminal_size().columns)
            if sys.stdout.isatty():
                _page(text)
            else:
                write_and_flush(sys.stdout, text)
            return
        known = {page.name for page in pages}
        names = [ALIASES.get(name.lower(), name) for name in names]
        texts = [page.text for name in names for page in pages if page.name == name]
        texts += [_describe_fact(name, sorted(known)) for name in names if name not in known]
        _print_markdown(name_linked_pages("\n".join(texts)))


def _describe_fact(name: str, page_names: Sequence[str]) -> str:
    """Return what a fact in the table of rules means.

    Raises:
        UsageError: if there is no such fact either; the message names the nearest pages.
    """
    import difflib

    from gradcheck.errors import UsageError
    from gradcheck.verdict.facts import Fact

    facts = {fact.name: fact.value for fact in Fact}
    if name in facts:
        return f"**{name}**: {facts[name]}.\n`gradcheck explain verdicts` says which verdict it leads to.\n"
    near = difflib.get_close_matches(name.lower(), page_names, 3, 0.5) or difflib.get_close_matches(name.upper(), facts, 1)
    hint = f"near it: {', '.join(near)}" if near else "`gradcheck explain` lists all"
    raise UsageError(f"the guide has no page {name!r}; {hint}")


def _print_markdown(text: str) -> None:
    """Print Markdown: rendered, and page by page, on a terminal; otherwise as it is."""
    if not sys.stdout.isatty():
        write_and_flush(sys.stdout, text)
        return
    from rich.markdown import Markdown

    _page(Markdown(text))


def _page(text: RenderableType) -> None:
    """Print on a terminal, page by page."""
    from rich.console import Console

    os.environ.setdefault("LESS", "FRX")  # as git does: show colours, and quit at once if all fits on the screen
    console = Console(highlight=False)
    with console.pager(styles=not console.no_color):
        console.print(text, width=min(console.width, 100), markup=False)

"""`gradcheck diff`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from gradcheck.cli.app import EXIT_FAIL, app, messages, put
from gradcheck.cli.output import as_read


@app.command(name="diff")
def diff_(
    old: Annotated[str, typer.Argument(metavar="OLD.json", help="A run that was written with --json.")],
    new: Annotated[str, typer.Argument(metavar="NEW.json", help="Another of the same cases.")],
    markdown: Annotated[str | None, typer.Option("--markdown", help="Also write it as Markdown; '-' for stdout alone.")] = None,
) -> None:
    """Say what a new run has that an old one had not. Exit code 1 where a case fails that did not, or in another place."""
    with messages(), as_read(old, new):
        from gradcheck.report import diff, files
        from gradcheck.report.load import read

        found = diff.diff(read(old), read(new))
        if markdown not in (None, "-"):
            files.write(markdown, diff.render_markdown(found))
        put(sys.stdout, diff.render_markdown(found) if markdown == "-" else diff.render(found))
    raise typer.Exit(EXIT_FAIL if found.failures else 0)

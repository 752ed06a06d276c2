"""`gradcheck diff`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from gradcheck.cli.app import app, exit_on_error, write_and_flush
from gradcheck.cli.output import refuse_inconsistent_runs
from gradcheck.errors import ExitCode


@app.command(name="diff")
def diff_(
    old: Annotated[str, typer.Argument(metavar="OLD.json", help="A run that `gradcheck run --json` wrote.")],
    new: Annotated[str, typer.Argument(metavar="NEW.json", help="A later run of the same cases.")],
    markdown: Annotated[
        str | None, typer.Option("--markdown", help="Also write Markdown to this path; '-': only to stdout.")
    ] = None,
) -> None:
    """Compare two runs. Exit code 1 if a case fails that did not fail before, or fails in another place."""
    with exit_on_error(), refuse_inconsistent_runs(old, new):
        from gradcheck.report import diff, files
        from gradcheck.report.load import read_run

        difference = diff.compare_runs(read_run(old), read_run(new))
        if markdown not in (None, "-"):
            files.write(markdown, diff.render_markdown(difference))
        write_and_flush(sys.stdout, diff.render_markdown(difference) if markdown == "-" else diff.render(difference))
    raise typer.Exit(ExitCode.FAIL if difference.failures else ExitCode.OK)

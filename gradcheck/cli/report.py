"""`gradcheck report`."""

from __future__ import annotations

from typing import Annotated

import typer

from gradcheck.cli import output
from gradcheck.cli.app import app, messages
from gradcheck.cli.option_groups import grouped
from gradcheck.cli.options import Shown


@app.command()
@grouped
def report(
    run: Annotated[str, typer.Argument(metavar="RUN.json", help="What `gradcheck run --json` wrote; '-' for stdin.")],
    *,
    shown: Shown,
) -> None:
    """Render a run that was written as JSON: the table, where no file is asked for. Exit code 0 whatever the run found."""
    with messages(), output.as_read(run):
        from gradcheck.report.load import read

        found, files = read(run), shown.files
        output.report(found, shown, files, table=not (files or shown.github))

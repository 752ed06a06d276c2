"""`gradcheck report`."""

from __future__ import annotations

from typing import Annotated

import typer

from gradcheck.cli import output
from gradcheck.cli.app import app, messages
from gradcheck.cli.choices import Shown
from gradcheck.cli.groups import grouped


@app.command()
@grouped
def report(
    run: Annotated[str, typer.Argument(metavar="RUN.json", help="What `gradcheck run --json` wrote; '-' for stdin.")],
    *,
    shown: Shown,
) -> None:
    """Render a run that was written as JSON: the table, where no file is asked for. Exit code 0 whatever the run found."""
    with messages():
        from gradcheck.errors import UsageError
        from gradcheck.report.read import read

        found, files = read(run), shown.files
        try:
            output.report(found, shown, files, table=not (files or shown.github))
        except (ValueError, TypeError, LookupError, ArithmeticError) as error:  # of parts that do not fit together
            told = f"{type(error).__name__}: {error}"
            raise UsageError(f"{run} cannot be rendered ({told}): was it changed by hand?") from None

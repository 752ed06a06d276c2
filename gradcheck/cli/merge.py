"""`gradcheck merge`."""

from __future__ import annotations

from typing import Annotated

import typer

from gradcheck.cli import output
from gradcheck.cli.app import app, messages
from gradcheck.cli.option_groups import grouped
from gradcheck.cli.options import Shown
from gradcheck.cli.run import exit_code


@app.command()
@grouped
def merge(
    file: Annotated[list[str], typer.Argument(help="What `gradcheck run --shard i/n --json FILE` wrote, of all n parts.")],
    *,
    shown: Shown,
) -> None:
    """Put the parts of a run together; fail where one is missing. Ends as the whole run would have."""
    with messages(), output.as_read(*file):
        from gradcheck.report.load import read
        from gradcheck.run import shard

        files = shown.files
        result = shard.merged([(path, read(path)) for path in file])
        output.report(result, shown, files, github=output.in_workflow())
    raise typer.Exit(exit_code(result, strict=bool(result.config.get("strict"))))

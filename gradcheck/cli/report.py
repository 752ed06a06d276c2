"""`gradcheck report`."""

from __future__ import annotations

from typing import Annotated

import typer

from gradcheck.cli import output
from gradcheck.cli.app import app, exit_on_error
from gradcheck.cli.option_groups import spread_option_groups
from gradcheck.cli.options import OutputOptions


@app.command()
@spread_option_groups
def report(
    run: Annotated[str, typer.Argument(metavar="RUN.json", help="A file that `gradcheck run --json` wrote; '-' for stdin.")],
    *,
    output_options: OutputOptions,
) -> None:
    """Render a run from its JSON: as a table, or as the files you ask for. The exit code is 0 whatever the run found."""
    with exit_on_error(), output.refuse_inconsistent_runs(run):
        from gradcheck.report.load import read_run

        result, paths = read_run(run), output_options.report_paths
        output.write_reports(result, output_options, paths, table=not (paths or output_options.github))

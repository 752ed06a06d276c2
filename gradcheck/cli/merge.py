"""`gradcheck merge`."""

from __future__ import annotations

from typing import Annotated

import typer

from gradcheck.cli import output
from gradcheck.cli.app import app, exit_on_error
from gradcheck.cli.option_groups import spread_option_groups
from gradcheck.cli.options import OutputOptions
from gradcheck.cli.run import exit_code_of


@app.command()
@spread_option_groups
def merge(
    file: Annotated[
        list[str], typer.Argument(help="The files that `gradcheck run --shard i/n --json FILE` wrote, all n of them.")
    ],
    *,
    output_options: OutputOptions,
) -> None:
    """Merge the parts of a sharded run; all must be there. Exits with the code of an unsharded run."""
    with exit_on_error(), output.refuse_inconsistent_runs(*file):
        from gradcheck.report.load import read_run
        from gradcheck.run import shard

        paths = output_options.report_paths
        result = shard.merge_parts([(path, read_run(path)) for path in file])
        output.write_reports(result, output_options, paths, github=output.in_github_workflow())
    raise typer.Exit(exit_code_of(result, strict=result.strict, report_only=result.report_only))

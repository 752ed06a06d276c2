"""`gradcheck watch`."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from gradcheck.cli import output
from gradcheck.cli.app import app, exit_on_error, write_and_flush, write_message
from gradcheck.cli.option_groups import spread_option_groups
from gradcheck.cli.options import OutputOptions
from gradcheck.cli.run import exit_code_of
from gradcheck.errors import ExitCode

if TYPE_CHECKING:
    from gradcheck.harvest.join import Joined

EPILOG = """Examples:

gradcheck watch -- python train.py --epochs 1

gradcheck watch --html watched.html -- pytest tests/test_layers.py
"""


@app.command(context_settings={"allow_interspersed_args": False}, epilog=EPILOG)
@spread_option_groups
def watch(
    command: Annotated[list[str], typer.Argument(help="The program, with its arguments: -- python train.py")],
    *,
    include: Annotated[
        list[str] | None, typer.Option(help="An installed package whose code counts as yours. Repeatable.")
    ] = None,
    budget: Annotated[str, typer.Option(help="Time for all checks of a process: 60s, 5min.")] = "60s",
    seed: Annotated[int, typer.Option(help="Seed of all random numbers.")] = 0,
    rtol: Annotated[
        float | None, typer.Option(help="The relative error that matters. Default: 1e-7 in float64, 1e-4 in float32.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 4 if a verdict is INCONCLUSIVE.")] = False,
    draft: Annotated[
        str | None, typer.Option(help="Write the drafted cases and configuration to this path instead of printing them.")
    ] = None,
    output_options: OutputOptions,
) -> None:
    """Run a program, and check the derivatives of yours that it calls, on its own inputs; exit with its code if it fails."""
    with exit_on_error():
        from gradcheck.harvest.parent import run_watched
        from gradcheck.options import Options, override_options
        from gradcheck.run.parse_quantities import parse_seconds
        from gradcheck.run.provenance import format_command

        paths = output.require_writable(output_options.report_paths)
        options = {"seed": seed, "rtol": rtol}
        override_options(Options(), options)
        settings = {
            "include": include or [],
            "budget": parse_seconds(budget),
            "options": options,
            "replay": shlex.join(["gradcheck", "watch", "--seed", str(seed), "--", *command]),
        }
        outcome = run_watched(command, settings, _stdout_of_program())
        joined = outcome.joined
        for message in outcome.messages:
            write_message(f"gradcheck: {message}")
        if joined.run is not None:
            run = replace(joined.run, command=format_command(sys.argv))
            output.write_reports(run, output_options, paths, github=output.in_github_workflow())
            _write_drafts(joined, draft, is_silent=output_options.quiet, to_stderr="-" in paths.values())
    raise typer.Exit(outcome.exit_code or _code_of_checks(joined, strict=strict))


def _code_of_checks(joined: Joined, *, strict: bool) -> ExitCode:
    """Return the exit code of the checks: of a run, and 5 if nothing was called."""
    if joined.errors:
        return ExitCode.ERROR
    return ExitCode.NOTHING_COLLECTED if joined.run is None else exit_code_of(joined.run, strict=strict)


def _stdout_of_program() -> int | None:
    """Return the descriptor of stdout: that of number 1 leads to stderr, so that our data are alone on stdout."""
    try:
        return sys.stdout.fileno()
    except (OSError, ValueError, AttributeError):  # the caller reads it in this process
        return None


def _write_drafts(joined: Joined, path: str | None, *, is_silent: bool, to_stderr: bool) -> None:
    """Write the drafted cases and the configuration to a file, or print them below the table."""
    from gradcheck.harvest import draft
    from gradcheck.report import files

    parts = [draft.format_cases(joined.drafts), draft.format_configuration(joined.drafts)]
    text = "\n".join(part for part in parts if part)
    if path is not None:
        files.write(path, text)
        write_message(f"gradcheck: drafted cases written to {path}")
    elif not is_silent:
        write_and_flush(sys.stderr if to_stderr else sys.stdout, f"\n{text}")

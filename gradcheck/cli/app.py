"""The typer application that each command adds itself to, and what all commands share: error messages and output streams."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TextIO

import typer
from typer.core import TyperCommand

from gradcheck.errors import ExitCode, GradcheckError, TargetError, UsageError
from gradcheck.options import FOREIGN_OPTIONS
from gradcheck.untrusted_text import escape_ci_commands, escape_control_characters, filter_descriptor, in_github_workflow

if TYPE_CHECKING:
    from gradcheck.run.plan import Request

HELP = "Says whether a derivative is right, where it is wrong, and why, with no tolerance to tune."
app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=HELP,
    epilog="Exit codes: 0 all pass; 1 a FAIL; 2 usage; 3 a target raised; 4 --strict and not decided; 5 nothing collected.",
)


class Command(TyperCommand):
    """A command that says what to do instead of an option that other checkers have."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words of the command line."""
        for word in args:
            name = word.partition("=")[0].removeprefix("--").replace("-", "_")
            if word.startswith("--") and name in FOREIGN_OPTIONS:
                exit_with_message(f"gradcheck: no option {word.partition('=')[0]}: {FOREIGN_OPTIONS[name]}", ExitCode.USAGE)
        return super().parse_args(ctx, args)


def _print_version(requested: bool) -> None:
    """Print the version and exit, if it was asked for."""
    if requested:
        from importlib.metadata import version

        write_and_flush(sys.stdout, f"gradcheck {version('gradcheck')}\n")
        raise typer.Exit


@app.callback(help=HELP)
def root_command(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Show the version and exit.")
    ] = False,
) -> None:
    """Say whether a derivative is right, where it is wrong, and why."""


TARGETS_HELP = "module, module:name, path/file.py or path/file.py:name. A file may be a notebook (.ipynb)."
Targets = Annotated[list[str] | None, typer.Argument(help=TARGETS_HELP)]


@contextmanager
def exit_on_error() -> Iterator[None]:
    """Turn an error that ends a command into one message on stderr and the exit code of its kind."""
    try:
        yield
    except GradcheckError as error:
        frames = f"\n{error.frames}" if isinstance(error, TargetError) and error.frames else ""
        exit_with_message(f"gradcheck: {error}{frames}", error.exit_code)
    except KeyboardInterrupt:
        exit_with_message("gradcheck: interrupted before any case was finished", ExitCode.INTERRUPTED)
    except BrokenPipeError:
        raise typer.Exit(ExitCode.ERROR) from None  # nobody reads our output any more


def keep_stdout_for_data() -> None:
    """Let `sys.stdout` alone lead to stdout; descriptor 1, which C code and child processes write to, leads to stderr.

    In a GitHub workflow, commands in what is written to the descriptor are made harmless on the way.
    """
    stdout = sys.__stdout__
    if stdout is None or sys.stdout is not stdout:  # there is none, or the caller reads it
        return
    with suppress(OSError, ValueError):  # a stream is closed
        stdout.flush()
        data = open(os.dup(1), "w", encoding=stdout.encoding, errors=stdout.errors)  # noqa: PTH123, SIM115
        os.dup2(2, 1)
        if in_github_workflow():
            filter_descriptor(1)
        sys.stdout = sys.__stdout__ = data  # type: ignore[misc]


def exit_with_message(message: str, code: int) -> NoReturn:
    """Write a message to stderr and exit."""
    write_message(message)
    raise typer.Exit(code)


def write_message(message: str) -> None:
    """Write a message to stderr; control characters that come from the user's code are visible."""
    write_and_flush(sys.stderr, escape_control_characters(message) + "\n")


def exit_nothing_collected(request: Request) -> NoReturn:
    """Exit because there is no case to run; the message lists what could have been named instead."""
    from gradcheck.run.plan import explain_empty_plan

    exit_with_message(f"gradcheck: {explain_empty_plan(request, 'gradcheck run')}", ExitCode.NOTHING_COLLECTED)


def write_and_flush(stream: TextIO, text: str, *, has_ci_commands: bool = False) -> None:
    """Write a text and flush, so that a full disk raises here and not when Python exits.

    Args:
        stream: stdout or stderr.
        has_ci_commands: whether the text holds our own commands to a CI service; in any other text they are made harmless.

    Raises:
        UsageError: if the text cannot be written.
        BrokenPipeError: if nobody reads the stream any more.
    """
    text = text if has_ci_commands else escape_ci_commands(text)
    try:
        try:
            stream.write(text)
        except UnicodeEncodeError:  # the terminal lacks a character, or a name holds bytes that are no text
            stream.write(text.encode(stream.encoding, "replace").decode(stream.encoding))
        stream.flush()
    except OSError as error:
        # Python would try to write the rest of the buffer when it exits, and fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        if isinstance(error, BrokenPipeError):
            raise
        raise UsageError(
            f"cannot write to {'stderr' if stream is sys.stderr else 'stdout'}: {error.strerror or error}"
        ) from None

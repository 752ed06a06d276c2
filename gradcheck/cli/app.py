"""The application that commands add themselves to, and what all of them share: messages, streams, exit codes."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, NoReturn, TextIO

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradcheck.run.plan import Request

HELP = "Says whether a derivative is right, where it is wrong, and why, with no tolerance to tune."
app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=HELP,
    epilog="Exit codes: 0 all pass; 1 a FAIL; 2 usage; 3 a target raised; 4 INCONCLUSIVE under --strict; 5 nothing collected.",
)

EXIT_FAIL, EXIT_USAGE, EXIT_ERROR, EXIT_INCONCLUSIVE, EXIT_NOTHING, EXIT_INTERRUPTED = 1, 2, 3, 4, 5, 130


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        put(sys.stdout, f"gradcheck {version('gradcheck')}\n")
        raise typer.Exit


@app.callback(help=HELP)
def common(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Say the version and exit.")
    ] = False,
) -> None:
    """Say whether a derivative is right, where it is wrong, and why."""


Targets = Annotated[list[str] | None, typer.Argument(help="module, module:name, path/file.py or path/file.py:name")]


@contextmanager
def messages() -> Iterator[None]:
    """Turn what goes wrong before any case runs into one message and the right exit code."""
    from gradcheck.errors import GradcheckError, TargetError

    try:
        yield
    except GradcheckError as error:
        frames = f"\n{error.frames}" if isinstance(error, TargetError) and error.frames else ""
        stop(f"gradcheck: {error}{frames}", error.exit_code)
    except KeyboardInterrupt:
        stop("gradcheck: interrupted before any case was finished", EXIT_INTERRUPTED)
    except BrokenPipeError:
        raise typer.Exit(EXIT_ERROR) from None  # the reader has gone: nothing more to say to it


def stop(message: str, code: int) -> NoReturn:
    """End with a message and an exit code."""
    sys.stderr.write(message + "\n")
    raise typer.Exit(code)


def nothing(request: Request) -> NoReturn:
    """End because nothing was collected, with what could have been named."""
    from gradcheck.run.plan import no_case

    stop(f"gradcheck: {no_case(request, 'gradcheck run')}", EXIT_NOTHING)


def put(stream: TextIO, text: str) -> None:
    """Write at once, so that a full disk is told here and not by a traceback when Python ends."""
    from gradcheck.errors import UsageError

    try:
        try:
            stream.write(text)
        except UnicodeEncodeError:  # a terminal of few characters, or a name that was no text
            stream.write(text.encode(stream.encoding, "replace").decode(stream.encoding))
        stream.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # nor is what is left in its buffer to be tried again
        if isinstance(error, BrokenPipeError):
            raise
        raise UsageError(f"cannot write to {stream.name}: {error.strerror or error}") from None

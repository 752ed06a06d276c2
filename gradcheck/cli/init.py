"""`gradcheck init`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from gradcheck.cli.app import app, exit_on_error, exit_with_message, write_and_flush, write_message
from gradcheck.errors import ExitCode
from gradcheck.untrusted_text import user_output_on_stderr


@app.command()
def init(
    package: Annotated[
        str | None, typer.Argument(help="Package, module, path/file.py or path/file.ipynb. Default: the project's package.")
    ] = None,
    write: Annotated[
        bool, typer.Option("--write", help="Write the draft to pyproject.toml if it exists, else to gradcheck.toml.")
    ] = False,
) -> None:
    """Draft a configuration from the layers, Functions and declared cases of a package."""
    with exit_on_error():
        from gradcheck.run.config import draft

        folder = Path.cwd()
        path = draft.choose_file(folder)
        with user_output_on_stderr():
            name = draft.resolve_package(package, folder) if package else draft.find_package(folder)
            targets, refused = draft.draft_targets(name)
        for reason in refused:
            write_message(f"gradcheck: skipped: {reason}")
        if not targets:
            exit_with_message(
                f"gradcheck: {name} holds no custom layer, autograd.Function or declared case", ExitCode.NOTHING_COLLECTED
            )
        text = draft.to_toml(targets, refused, "tool.gradcheck." if path.name == "pyproject.toml" else "")
        if write:
            _append_configuration(path, text)
        else:
            write_and_flush(sys.stdout, text)
        unfinished = sum(target.has_placeholder for target in targets)
        done = f"written to {path.name}" if write else f"not written; --write adds them to {path.name}"
        write_message(f"gradcheck: {len(targets)} targets, {unfinished} of them to be filled in; {done}")


def _append_configuration(path: Path, text: str) -> None:
    """Append a configuration to a file; an existing configuration is never replaced.

    Raises:
        UsageError: if the folder has a configuration already, or the file cannot be written.
    """
    from gradcheck.errors import UsageError
    from gradcheck.report import files
    from gradcheck.run.config.find import find_nearest

    existing = find_nearest(path.parent)
    if existing is not None and existing.parent == path.parent:
        raise UsageError(
            f"{existing.name} already has a configuration, which is left unchanged: leave out --write and copy what is new"
        )
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    files.write(str(path), before + ("\n" if before.endswith("\n") else "\n\n" if before else "") + text)

"""`gradcheck init`."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated

import typer

from gradcheck.cli.app import EXIT_NOTHING, app, messages, put, stop


@app.command()
def init(
    package: Annotated[str | None, typer.Argument(help="Package, module or path/file.py. Default: the project's own.")] = None,
    write: Annotated[
        bool, typer.Option("--write", help="Write it: into pyproject.toml where there is one, else into gradcheck.toml.")
    ] = False,
) -> None:
    """Draft a configuration from the layers, Functions and declared cases of a package."""
    with messages():
        from gradcheck.run.config import draft

        folder = Path.cwd()
        place = draft.place(folder)
        with redirect_stdout(sys.stderr):
            name = package or draft.package_of(folder)
            targets, refused = draft.drafted(name)
        for reason in refused:
            sys.stderr.write(f"gradcheck: not looked at: {reason}\n")
        if not targets:
            stop(f"gradcheck: {name} holds no custom layer, autograd.Function or declared case", EXIT_NOTHING)
        text = draft.text_of(targets, refused, "tool.gradcheck." if place.name == "pyproject.toml" else "")
        if write:
            _added(place, text)
        else:
            put(sys.stdout, text)
        open_ = sum(target.unknown for target in targets)
        done = f"written to {place.name}" if write else f"for {place.name}, and --write puts it there"
        sys.stderr.write(f"gradcheck: {len(targets)} targets, {open_} of them to be filled in; {done}\n")


def _added(place: Path, text: str) -> None:
    """Put a configuration behind what a file holds; never in the place of one.

    Raises:
        UsageError: where there is one already, or the file cannot be written.
    """
    from gradcheck.errors import UsageError
    from gradcheck.report import files
    from gradcheck.run.config.read import nearest

    there = nearest(place.parent)
    if there is not None and there.parent == place.parent:
        raise UsageError(
            f"{there.name} has a configuration, and it stays as it is: leave out --write and take over what is new"
        )
    before = place.read_text(encoding="utf-8") if place.exists() else ""
    files.write(str(place), before + ("\n" if before.endswith("\n") else "\n\n" if before else "") + text)

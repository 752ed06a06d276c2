"""The side of the watched program: watch this process from its start, and check what it called when it ends."""

from __future__ import annotations

import atexit
import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from gradcheck.harvest.watch import Watched

if TYPE_CHECKING:
    from gradcheck.harvest.join import Part

ENVIRONMENT = "GRADCHECK_WATCH"  # the variable that holds the settings as JSON
FRAMEWORKS = ("torch", "jax")


def watch_process() -> None:
    """Watch this process, if the environment says so."""
    text = os.environ.get(ENVIRONMENT)
    if not text:
        return
    settings = json.loads(text)
    watched = Watched(tuple(settings["include"]))
    pid = os.getpid()
    file = None

    def note_first_record() -> None:
        nonlocal file
        with suppress(OSError):
            _path(settings, "started").touch()
        file = getattr(sys.modules.get("__main__"), "__file__", None)

    def finish() -> None:
        if os.getpid() == pid:  # and not in a fork of this process
            restore_file(sys.modules["__main__"], file)
            _check_and_leave(watched, settings)

    def finish_before_framework() -> None:
        # A framework, and Python's own weak references, clean up when Python ends: what was registered last comes first.
        atexit.unregister(finish)
        atexit.register(finish)

    watched.harvest.on_first_record = note_first_record
    watched.on_framework_loaded = finish_before_framework
    finish_before_framework()
    watched.start()


def restore_file(main: ModuleType, file: str | None) -> None:
    """Put back where the code of a program is, which Python removes when the program ends."""
    if file is not None and getattr(main, "__file__", None) is None:
        main.__file__ = file


def _path(settings: Mapping[str, Any], suffix: str) -> Path:
    return Path(settings["folder"]) / f"{os.getpid()}.{suffix}"


def _check_and_leave(watched: Watched, settings: Mapping[str, Any]) -> None:
    """Check the calls of this process, and leave the results to the command line."""
    watched.stop()
    # Python forgets that Ctrl-C has ended the program once other code runs, and would exit with another code.
    interrupted = getattr(sys, "last_type", None) is KeyboardInterrupt
    part = {**make_part(watched, settings), "pid": os.getpid(), "interrupted": interrupted}
    leave_part(part, settings)


def leave_part(part: Part, settings: Mapping[str, Any]) -> None:
    """Write the results for the command line, which may have ended before a process that the program has left behind."""
    written = _path(settings, "part")
    with suppress(OSError):
        written.write_text(json.dumps(part), encoding="utf-8")
        written.rename(_path(settings, "json"))


@contextmanager
def _silence() -> Iterator[None]:
    """Drop what is written: what functions print when they are evaluated again is not output of the program."""
    saved = {}
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123 - a device
        with suppress(OSError, ValueError):  # a stream may be closed
            sys.stdout.flush()
            sys.stderr.flush()
            saved = {descriptor: os.dup(descriptor) for descriptor in (1, 2)}
            for descriptor in saved:
                os.dup2(nowhere.fileno(), descriptor)
        try:
            with redirect_stdout(nowhere), redirect_stderr(nowhere):
                yield
        finally:
            for descriptor, copy in saved.items():
                os.dup2(copy, descriptor)
                os.close(copy)


def make_part(watched: Watched, settings: Mapping[str, Any]) -> Part:
    """Check the calls of this process, and draft cases; a mistake of ours becomes the part's 'error'.

    Args:
        settings: 'budget', 'options' and 'replay'.
    """
    loaded = [name for name in FRAMEWORKS if name in sys.modules]
    part: Part = {"loaded": loaded, "not_recorded": watched.not_recorded}
    if watched.harvest.records or watched.harvest.deferred:
        with _silence():
            part |= _check_and_draft(watched, settings)
    return part


def _check_and_draft(watched: Watched, settings: Mapping[str, Any]) -> Part:
    from gradcheck.harvest import draft
    from gradcheck.harvest.check import check_records
    from gradcheck.options import Options, override_options

    try:
        drafts = [asdict(drafted) for drafted in draft.draft_records(watched.harvest)]
        options = override_options(Options(), settings["options"])
        run = check_records(watched.harvest, options, settings["budget"], settings["replay"])
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}
    return {"run": run.to_dict(), "drafts": drafts, "not_recorded": watched.not_recorded}

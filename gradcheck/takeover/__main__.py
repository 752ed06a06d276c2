"""`python -m gradcheck.takeover script.py`: run a script or a module with both checkers on every call."""

from __future__ import annotations

import argparse
import importlib.util
import os
import runpy
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from gradcheck.errors import ExitCode, UsageError
from gradcheck.report import files
from gradcheck.run.parse_quantities import parse_seconds
from gradcheck.takeover import reports, terminal
from gradcheck.takeover.records import DEFAULT_BUDGET, MODES, TakeoverRun
from gradcheck.takeover.session import Takeover

PROGRAM = "python -m gradcheck.takeover"
USAGE = "%(prog)s [options] script.py [args ...] | -m module [args ...]"


def main(words: Sequence[str] | None = None) -> None:
    """Run a script or a module; report to stderr, and exit as the script does."""
    arguments = _parse(sys.argv[1:] if words is None else list(words))
    try:
        _ensure_exists(arguments.module, arguments.program[0])
        budget = parse_seconds(arguments.budget)
        paths = {name: getattr(arguments, name) for name in reports.FORMATS if getattr(arguments, name)}
        for path in paths.values():
            files.ensure_writable(path)
        paths = {name: str(Path(path).resolve()) for name, path in paths.items()}  # the script may change the folder
    except UsageError as error:
        sys.exit(_fail(str(error)))
    program = shlex.join([*["-m"] * arguments.module, *arguments.program])
    takeover = Takeover(arguments.mode, budget, command=f"{PROGRAM} {program}", rerun=f"{PROGRAM} --mode enforce {program}")
    takeover.start()
    try:
        _run(arguments.module, arguments.program)
    finally:
        takeover.stop()
        _report(takeover.collect(), paths)


def _report(run: TakeoverRun, paths: Mapping[str, str]) -> None:
    """Write the report to stderr, and to files."""
    width = max(shutil.get_terminal_size((80, 24)).columns, 40)
    color = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    sys.stderr.write(terminal.render(run, width=width, color=color) + "\n")
    try:
        reports.write(run, paths)
    except UsageError as error:
        _fail(str(error))


def _parse(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=PROGRAM, usage=USAGE, description=(__doc__ or "").partition(": ")[2])
    parser.add_argument(
        "--mode", choices=MODES, default="report", help="whose outcome holds, or how long it would take; default: report"
    )
    parser.add_argument(
        "--budget", default=f"{DEFAULT_BUDGET:g}s", help="time of gradcheck for each call, such as 5s; default: %(default)s"
    )
    for name in reports.FORMATS:
        parser.add_argument(f"--{name}", metavar="PATH", help=f"write the report as {name} to this path")
    parser.add_argument("-m", dest="module", action="store_true", help="run a module instead of a script")
    parser.add_argument("program", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    arguments = parser.parse_args(words)
    if not arguments.program:
        parser.error("expected a script, or -m and a module")
    return arguments


def _ensure_exists(module: bool, name: str) -> None:
    """Refuse a script or a module that does not exist, in the words of Python.

    Raises:
        UsageError: if there is none.
    """
    if not module and not Path(name).exists():
        raise UsageError(f"can't open file {name!r}: No such file or directory")
    try:
        found = not module or importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # of a package
        found = False
    if not found:
        raise UsageError(f"No module named {name!r}")


def _run(module: bool, program: list[str]) -> None:
    """Run a program as Python would, as `__main__` and with its own arguments."""
    sys.argv[:] = program
    if module:
        runpy.run_module(program[0], run_name="__main__", alter_sys=True)
        return
    sys.path[0:1] = [str(Path(program[0]).resolve().parent)]
    runpy.run_path(program[0], run_name="__main__")


def _fail(message: str) -> int:
    sys.stderr.write(f"gradcheck: {message}\n")
    return ExitCode.USAGE


if __name__ == "__main__":
    main()

"""`gradcheck run`."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from gradcheck.cli.app import (
    EXIT_ERROR,
    EXIT_FAIL,
    EXIT_INCONCLUSIVE,
    EXIT_INTERRUPTED,
    EXIT_USAGE,
    app,
    messages,
    nothing,
    put,
)
from gradcheck.cli.choices import Carried, Gate, How, Shown, What, options_given, requested
from gradcheck.cli.groups import grouped, typed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from gradcheck.options import Options
    from gradcheck.results import RunResult
    from gradcheck.run.plan import Request
    from gradcheck.targets.case import Case


@app.command()
@grouped
def run(
    target: Annotated[list[str] | None, typer.Argument(help="module, module:name, path/file.py or path/file.py:name")] = None,
    *,
    what: What,
    how: How,
    carried: Carried,
    gate: Gate,
    shown: Shown,
) -> None:
    """Check derivatives."""
    with messages(), _undisturbed() as ending:
        from gradcheck.options import Options, overridden
        from gradcheck.run.plan import replay_command, seconds

        request = requested(target or (), what, carried.keyword)
        options = overridden(Options(stories=shown.verbose > 1), options_given(how))
        limits = Limits(carried.jobs or 1, seconds(carried.timeout) if carried.timeout else None, carried.fail_fast)
        replay = replay_command(options, [*typed(what), *typed(replace(how, seed=None))])
        strict = bool(gate.strict)
        result = _carried_out(request, options, limits, {"strict": strict}, replay, ending)
        report(result, shown)
    raise typer.Exit(exit_code(result, strict=strict))


class Limits(NamedTuple):
    """How a run is carried out: processes, seconds a case may take, and whether it ends at the first failure."""

    jobs: int
    timeout: float | None
    fail_fast: bool


def _carried_out(
    request: Request,
    options: Options,
    limits: Limits,
    chosen: Mapping[str, Any],
    replay: Callable[[Case], str],
    ending: Callable[[], None],
) -> RunResult:
    from gradcheck.run.plan import plan
    from gradcheck.run.runner import run as run_cases

    with redirect_stdout(sys.stderr):  # what the user's code prints is no data of ours
        cases = plan(request)
        if not cases:
            nothing(request)
        with _progress(len(cases)) as started:
            return run_cases(
                cases,
                options,
                replay=replay,
                request=request,
                **limits._asdict(),
                config={**asdict(options), **asdict(request), **chosen},
                started=started,
                ending=ending,
            )


def exit_code(run: RunResult, *, strict: bool) -> int:
    """The exit code of a run."""
    from gradcheck.results import Reason, Verdict

    if run.interrupted:
        return EXIT_INTERRUPTED
    errors = [r for r in run.results if r.outcome is Verdict.ERROR]
    if any(r.outcome is Verdict.FAIL for r in run.results):
        return EXIT_FAIL
    if errors:
        return EXIT_USAGE if all(r.reason is Reason.BAD_INPUT for r in errors) else EXIT_ERROR
    if strict and run.verdict is Verdict.INCONCLUSIVE:
        return EXIT_INCONCLUSIVE
    return 0


@contextmanager
def _undisturbed() -> Iterator[Callable[[], None]]:
    """Yield what makes this process deaf to Ctrl-C until the end of the block: what was found is then put away whole."""
    before = signal.getsignal(signal.SIGINT)
    ours = before is signal.default_int_handler and threading.current_thread() is threading.main_thread()

    def begin() -> None:
        if ours:
            signal.signal(signal.SIGINT, signal.SIG_IGN)

    try:
        yield begin
    finally:
        if ours:
            signal.signal(signal.SIGINT, before)


def report(run: RunResult, shown: Shown) -> None:
    """Write what is asked for. The table is shown although a file could not be written: that is said below it."""
    from gradcheck.report import formats

    to_stdout = [name for name, path in shown.files.items() if path == "-"]
    try:
        for name in to_stdout:
            put(sys.stdout, formats.render(name, run))
        formats.write(run, {name: path for name, path in shown.files.items() if path != "-"})
    finally:
        _show(run, shown.verbosity, to_stderr=bool(to_stdout))


def _show(run: RunResult, verbosity: int, *, to_stderr: bool) -> None:
    from gradcheck.report import terminal

    stream = sys.stderr if to_stderr else sys.stdout
    color = stream.isatty() and not os.environ.get("NO_COLOR")
    width = max(shutil.get_terminal_size((100, 24)).columns, 60)
    put(stream, terminal.render(run, width=width, color=color, verbosity=verbosity))


@contextmanager
def _progress(total: int) -> Iterator[Callable[[Case], None]]:
    """A bar on stderr; nothing off a terminal."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from gradcheck.report import bar

    with bar.shown(total) as started:
        yield lambda case: started(case.name)

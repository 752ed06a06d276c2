"""`gradcheck run`."""

from __future__ import annotations

import signal
import sys
import threading
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from gradcheck.cli import output
from gradcheck.cli.app import (
    EXIT_ERROR,
    EXIT_FAIL,
    EXIT_INCONCLUSIVE,
    EXIT_INTERRUPTED,
    EXIT_USAGE,
    Targets,
    app,
    messages,
    nothing,
)
from gradcheck.cli.baseline import baseline_of, known_before, updated
from gradcheck.cli.option_groups import grouped, typed
from gradcheck.cli.options import (
    Carried,
    Gate,
    How,
    Shown,
    What,
    configured,
    entries_behind,
    limits_of,
    options_given,
    recorded,
    requested,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gradcheck.options import Options
    from gradcheck.results import Intent, RunResult
    from gradcheck.run.plan import Request
    from gradcheck.targets.case import Case


@app.command()
@grouped
def run(
    target: Targets = None,
    *,
    what: What,
    how: How,
    carried: Carried,
    gate: Gate,
    shown: Shown,
) -> None:
    """Check derivatives."""
    with messages(), undisturbed() as ending:
        files = output.ready(shown.files)
        chosen = _chosen(target or [], what, how, carried, gate, stories=shown.verbose > 1)
        result = _carried_out(chosen, ending)
        try:
            if chosen.baseline and gate.update_baseline:
                result = updated(result, chosen.known, chosen.baseline, gate.reason or "", strict=chosen.strict)
        finally:
            output.report(result, shown, files, github=output.in_workflow())
    raise typer.Exit(exit_code(result, strict=chosen.strict))


@dataclass(frozen=True)
class Chosen:
    """What a run is made from: the command line, and behind it the configuration.

    Attributes:
        limits: how it is carried out, as for `runner.run`.
        part: index and number of parts; None: the whole.
        sized: whether sizes are configured for all targets, so that one of them need not have them all.
    """

    request: Request
    options: Options
    limits: dict[str, Any]
    part: tuple[int, int] | None
    sized: bool
    strict: bool
    baseline: Path | None
    known: dict[str, Intent]
    replay: Callable[[Case], str]


def _chosen(targets: list[str], what: What, how: How, carried: Carried, gate: Gate, *, stories: bool) -> Chosen:
    from gradcheck.options import Options, overridden
    from gradcheck.run import shard
    from gradcheck.run.plan import replay_command

    config, given = configured(carried.config), options_given(how)
    options = overridden(Options(stories=stories), {**config.options, **given})
    where = ("--config", carried.config) if carried.config else ()
    path, limits = baseline_of(gate, carried, config), limits_of(carried, config)
    root = "" if limits["executor"] == "loky" else str(Path.cwd())  # a cluster's workers start somewhere else
    return Chosen(
        request=requested(targets, what, carried.keyword, entries_behind(config, given), root),
        options=options,
        limits=limits,
        part=shard.read(carried.shard) if carried.shard is not None else None,
        sized="dims" in config.options and "dims" not in given,
        strict=config.running.get("strict", False) if gate.strict is None else gate.strict,
        baseline=path,
        known=known_before(path, gate),
        replay=replay_command(options, [*typed(what), *typed(replace(how, seed=None)), *where]),
    )


def _carried_out(chosen: Chosen, ending: Callable[[], None]) -> RunResult:
    from gradcheck.results import Shard
    from gradcheck.run import baseline, shard
    from gradcheck.run.plan import covers, plan
    from gradcheck.run.runner import run as run_cases

    request, (index, total) = chosen.request, chosen.part or (1, 1)
    with redirect_stdout(sys.stderr):  # what the user's code prints is no data of ours
        cases = plan(request)
        if not cases:
            nothing(request)
        part = Shard(index, total, tuple(case.name for case in cases))
        own = shard.taken(cases, part)
        with progress(len(own)) as started:
            found = run_cases(
                own,
                chosen.options,
                replay=chosen.replay,
                request=request,
                **chosen.limits,
                alone=len(cases) == 1 and not chosen.sized,
                known=chosen.known,
                config={**recorded(request, chosen.options), "strict": chosen.strict},
                started=started,
                ending=ending,
            )
    gone = baseline.gone(chosen.known, part.cases, lambda name: covers(request, name) and shard.of(name, total) == index)
    return replace(found, results=(*found.results, *gone), shard=part if chosen.part else None)


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
def undisturbed() -> Iterator[Callable[[], None]]:
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


@contextmanager
def progress(total: int) -> Iterator[Callable[[Case], None]]:
    """A bar on stderr; nothing off a terminal."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from gradcheck.report.terminal import progress_bar

    with progress_bar.shown(total) as started:
        yield lambda case: started(case.name)

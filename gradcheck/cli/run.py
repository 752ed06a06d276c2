"""`gradcheck run`."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import typer

from gradcheck.cli import output
from gradcheck.cli.app import Command, Targets, app, exit_nothing_collected, exit_on_error
from gradcheck.cli.option_groups import command_words, spread_option_groups
from gradcheck.cli.options import (
    ExecutionOptions,
    OutputOptions,
    PassOptions,
    RunCheckOptions,
    RunTargetOptions,
    StepOptions,
    build_request,
    load_config,
    parse_check_options,
    record_settings,
    resolve_execution,
)
from gradcheck.cli.run_baseline import find_baseline, read_known_failures, update_baseline
from gradcheck.errors import ExitCode
from gradcheck.options import Options
from gradcheck.untrusted_text import user_output_on_stderr

if TYPE_CHECKING:
    from gradcheck.results import Intent, RunResult
    from gradcheck.run.plan import Request
    from gradcheck.targets.case import Case


EXAMPLES = """Examples:

gradcheck run mine.py

gradcheck run torch.nn.functional:softplus --input 'normal(4, 3)'

gradcheck run layers.py:Attention --init dim=8 --input 'normal(2, 5, 8)' --dtype float32
"""


@app.command(cls=Command, epilog=EXAMPLES)
@spread_option_groups
def run(
    target: Targets = None,
    *,
    target_options: RunTargetOptions,
    check_options: RunCheckOptions,
    execution: ExecutionOptions,
    passing: PassOptions,
    output_options: OutputOptions,
) -> None:
    """Check the derivatives of targets."""
    carry_out(target or [], target_options, check_options, execution, passing, output_options)


def carry_out(
    targets: list[str],
    target_options: RunTargetOptions,
    check_options: RunCheckOptions,
    execution: ExecutionOptions,
    passing: PassOptions,
    output_options: OutputOptions,
    step: StepOptions | None = None,
) -> None:
    """Plan and run the cases, write the reports and exit.

    Args:
        targets: what to check; none: all that the configuration lists.
        target_options, check_options, execution, passing, output_options: the options of the command line.
        step: the options of `gradcheck step`; None for `gradcheck run`.
    """
    with exit_on_error(), interrupt_guard() as ignore_interrupts:
        paths = output.require_writable(output_options.report_paths)
        stories = output_options.verbose > 1
        every_entry = output_options.verbose > 0 or "html" in paths
        settings = _resolve_settings(
            targets, target_options, check_options, execution, passing, step, stories=stories, every_entry=every_entry
        )
        result = _run_cases(settings, ignore_interrupts)
        try:
            if settings.baseline and passing.update_baseline:
                result = update_baseline(result, settings.baseline, passing.reason or "", strict=settings.strict)
        finally:
            output.write_reports(result, output_options, paths, github=output.in_github_workflow())
    raise typer.Exit(exit_code_of(result, strict=settings.strict, report_only=settings.report_only))


@dataclass(frozen=True)
class RunSettings:
    """The settings of a run: those of the command line, and of the configuration where the command line sets none.

    Attributes:
        execution: how to carry out the run, as keyword arguments of `runner.run`.
        shard: index, from 1, and number of parts; None: run all cases.
        has_default_sizes: whether the configuration sets sizes for all targets, so that a single target need not have each.
        strict: whether an INCONCLUSIVE case fails the run.
        report_only: whether neither FAIL nor INCONCLUSIVE fails the run.
        baseline: the path of the baseline, if there is one.
        known_failures: what the baseline lists, by case.
        replay: returns the command that repeats a case.
        typed: the options of the command line that may have several values.
    """

    request: Request
    options: Options
    execution: dict[str, Any]
    shard: tuple[int, int] | None
    has_default_sizes: bool
    strict: bool
    report_only: bool
    baseline: Path | None
    known_failures: dict[str, Intent]
    replay: Callable[[Case], str]
    typed: dict[str, Any]

    @property
    def passing(self) -> dict[str, bool]:
        """What passes, by the keys of the JSON report."""
        return {"strict": self.strict, "report_only": self.report_only}


def _resolve_settings(
    targets: list[str],
    target_options: RunTargetOptions,
    check_options: RunCheckOptions,
    execution: ExecutionOptions,
    passing: PassOptions,
    step: StepOptions | None,
    *,
    stories: bool,
    every_entry: bool,
) -> RunSettings:
    """Combine the command line and the configuration; the command line takes precedence."""
    from gradcheck import sweeps
    from gradcheck.options import Options, override_options
    from gradcheck.run import shard
    from gradcheck.run.plan import build_replay_command

    config, overrides = load_config(execution.config), parse_check_options(check_options)
    run_options = {**config.options, **overrides}
    options = override_options(Options(stories=stories, every_entry=every_entry), sweeps.choose_common(run_options))
    baseline_path, run_arguments = find_baseline(passing, execution, config), resolve_execution(execution, config)
    # The workers of a cluster start in another folder, so they need the folder that relative paths start from.
    root = "" if run_arguments["executor"] == "loky" else str(Path.cwd())
    config_words = ("--config", execution.config) if execution.config else ()
    # Whether a failure is known depends on the baseline; that of the configuration is found again.
    baseline_words = ("--baseline", passing.baseline) if passing.baseline is not None else ()
    check_words = command_words(replace(check_options, seed=None))
    step_words = command_words(replace(step, seed=None)) if step else ()
    replay_words = [*command_words(target_options), *check_words, *step_words, *config_words, *baseline_words]
    entries = [entry for entry in config.override_entries(overrides) if step is None or entry.request.step]
    request = build_request(targets, target_options, execution.keyword, entries, root, replay_words, run_options)
    return RunSettings(
        request=replace(request, step=step is not None, laws=tuple(step.law or ()) if step else ()),
        options=options,
        execution=run_arguments,
        shard=shard.parse_shard(execution.shard) if execution.shard is not None else None,
        has_default_sizes="dims" in config.options and "dims" not in overrides,
        strict=config.execution.get("strict", False) if passing.strict is None else passing.strict,
        report_only=config.execution.get("report_only", False) if passing.report_only is None else passing.report_only,
        baseline=baseline_path,
        known_failures=read_known_failures(baseline_path, passing),
        replay=build_replay_command(
            options, replay_words, sweeps.list_axes(run_options).get("seed", ()), steps=step is not None
        ),
        typed={name: value for name, value in overrides.items() if name in sweeps.OPTIONS},
    )


def _run_cases(settings: RunSettings, ignore_interrupts: Callable[[], None]) -> RunResult:
    """Plan the cases and run those of this shard; add a FAIL for each baseline entry without a case."""
    from gradcheck import sweeps
    from gradcheck.results import Shard
    from gradcheck.run import baseline, grid, shard
    from gradcheck.run.plan import covers, plan
    from gradcheck.run.runner import run as run_cases

    request, (index, total) = settings.request, settings.shard or (1, 1)
    with user_output_on_stderr():
        cases = plan(request)
        if not cases:
            exit_nothing_collected(request)
        grid.refuse_unused_options(cases, settings.typed)
        base_names = {case.base_name for case in cases}
        part = Shard(index, total, tuple(case.name for case in cases))
        cases_of_part = shard.select_cases(cases, part)
        with show_progress(len(cases_of_part)) as progress:
            result = run_cases(
                cases_of_part,
                settings.options,
                replay=settings.replay,
                request=request,
                **settings.execution,
                alone=len(base_names) == 1 and not settings.has_default_sizes,
                known_failures=settings.known_failures,
                config=record_settings(request, settings.options) | settings.passing,
                **progress,
                on_end=ignore_interrupts,
            )

    def would_plan(name: str) -> bool:
        # With another grid on the command line, a cell of the baseline is not planned, and not gone either.
        is_regridded = bool(settings.typed) and sweeps.strip_cell(name) in base_names
        return covers(request, name) and shard.index_of(name, total) == index and not is_regridded

    missing = baseline.report_missing_cases(settings.known_failures, part.cases, would_plan)
    return replace(result, results=(*result.results, *missing), shard=part if settings.shard else None)


def exit_code_of(run: RunResult, *, strict: bool, report_only: bool = False) -> ExitCode:
    """Return the exit code of a run; a FAIL takes precedence over an ERROR.

    Args:
        strict: whether an INCONCLUSIVE verdict, or a derivative that was not checked, fails the run.
        report_only: whether neither these nor a FAIL fails the run.
    """
    from gradcheck.results import Reason, Verdict

    if run.interrupted:
        return ExitCode.INTERRUPTED
    errors = [result for result in run.results if result.outcome is Verdict.ERROR]
    if not report_only and any(result.outcome is Verdict.FAIL for result in run.results):
        return ExitCode.FAIL
    if errors:
        return ExitCode.USAGE if all(result.reason is Reason.BAD_INPUT for result in errors) else ExitCode.ERROR
    if strict and not report_only and (run.verdict is Verdict.INCONCLUSIVE or run.unchecked):
        return ExitCode.INCONCLUSIVE
    return ExitCode.OK


@contextmanager
def interrupt_guard() -> Iterator[Callable[[], None]]:
    """Have SIGTERM end the run as Ctrl-C does, with the reports of what is finished.

    Yields a function that makes this process ignore both until the end of the block, so that reports are written whole.
    Nothing is changed in a thread, or for a signal for which the caller has installed a handler of its own.
    """
    defaults = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    previous = {number: handler for number, handler in defaults.items() if signal.getsignal(number) is handler}
    if threading.current_thread() is not threading.main_thread():
        previous = {}

    def ignore_interrupts() -> None:
        for number in previous:
            signal.signal(number, signal.SIG_IGN)

    try:
        if signal.SIGTERM in previous:
            signal.signal(signal.SIGTERM, _interrupt)
        yield ignore_interrupts
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Do what Ctrl-C would do now."""
    on_interrupt = signal.getsignal(signal.SIGINT)
    (on_interrupt if callable(on_interrupt) else signal.default_int_handler)(number, frame)


@contextmanager
def show_progress(total: int) -> Iterator[dict[str, Any]]:
    """Show a progress bar on stderr if it is a terminal; yield the arguments of `runner.run` that keep it up to date."""
    if not sys.stderr.isatty():
        yield {}
        return
    from gradcheck.report.terminal import progress_bar

    with progress_bar.show_progress(total) as (start_case, finish_case):
        yield {"on_start": lambda case: start_case(case.name), "on_finish": finish_case}

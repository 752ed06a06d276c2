"""`gradcheck run`."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from gradcheck.cli import asked
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

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from gradcheck.options import Options
    from gradcheck.results import RunResult
    from gradcheck.run.plan import Request
    from gradcheck.targets.case import Case


@app.command()
def run(
    target: Annotated[list[str] | None, typer.Argument(help="module, module:name, path/file.py or path/file.py:name")] = None,
    inputs: asked.Inputs = None,
    init: asked.Init = None,
    dim: asked.Dim = None,
    gradient: asked.Gradient = None,
    jacobian: asked.Jacobian = None,
    vjp: asked.Vjp = None,
    jvp: asked.Jvp = None,
    wrt: asked.Wrt = None,
    framework: asked.Framework = None,
    trials: Annotated[int, typer.Option(help="How many times inputs are drawn.")] = 1,
    seed: asked.Seed = 0,
    rtol: asked.Rtol = None,
    dtype: asked.Dtype = None,
    mode: Annotated[str, typer.Option(help="auto, full (every partial derivative) or probe (random directions).")] = "auto",
    budget: Annotated[
        str | None, typer.Option(help="What a trial may take before random directions do: 30s, 5min. Default: 30s.")
    ] = None,
    memory: Annotated[
        str | None, typer.Option(help="What a trial may hold besides the target: 500MB, 4GiB. Default: 2GiB.")
    ] = None,
    jobs: Annotated[int, typer.Option("-j", "--jobs", min=1, help="Processes to spread the cases over.")] = 1,
    timeout: Annotated[
        str | None, typer.Option(help="What a case may take, imports included, before it is ended: 90s, 5min.")
    ] = None,
    keyword: asked.Keyword = None,
    fail_fast: Annotated[bool, typer.Option("--fail-fast", "-x", help="Stop at the first failure.")] = False,
    verbose: asked.Verbose = 0,
    quiet: asked.Quiet = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 4 where a verdict is INCONCLUSIVE.")] = False,
    no_contracts: asked.NoContracts = False,
    no_contract: asked.NoContract = None,
    by_layer: Annotated[bool, typer.Option("--by-layer", help="Also check every layer of a module by itself.")] = False,
    straight_through: asked.StraightThrough = False,
    checks: Annotated[
        str | None, typer.Option(help="Further checks, with commas: differential, descent, laws, sensitivity.")
    ] = None,
    optimizer: Annotated[
        str | None, typer.Option(help="module:name of a step(parameters, gradients, learning_rate), or torch.optim:Adam.")
    ] = None,
    partner: Annotated[
        list[str] | None, typer.Option(help="module:name of a function of the same inputs, for the laws. Repeatable.")
    ] = None,
    json: asked.Json = None,
    html: Annotated[str | None, typer.Option("--html", help="Write the run as one self-contained page to this path.")] = None,
) -> None:
    """Check derivatives."""
    with messages(), undisturbed() as ending:
        from gradcheck.options import Options
        from gradcheck.run.plan import Request, bytes_of, dims, seconds

        request = Request(
            targets=tuple(target or ()),
            inputs=tuple(inputs or ()),
            init=tuple(init or ()),
            claims=asked.claims({"gradient": gradient, "jacobian": jacobian, "vjp": vjp, "jvp": jvp}),
            wrt=tuple(wrt or ()),
            framework=framework,
            optimizer=optimizer,
            partners=tuple(partner or ()),
            keyword=keyword,
        )
        options = Options(
            trials=trials,
            seed=seed,
            rtol=rtol,
            mode=mode,
            dtype=dtype,
            budget=seconds(budget) if budget else None,
            memory=bytes_of(memory) if memory else None,
            contracts=not no_contracts,
            no_contract=tuple(no_contract or ()),
            by_layer=by_layer,
            straight_through=straight_through,
            stories=verbose > 1,
            checks=tuple(name.strip() for name in checks.split(",")) if checks else (),
            dims=dims(dim or ()),
        )
        limits = Limits(jobs, seconds(timeout) if timeout else None, fail_fast, strict)
        result = _carried_out(request, options, limits, dim or [], ending)
        reported(result, {"json": json, "html": html}, -1 if quiet else verbose)
    raise typer.Exit(exit_code(result, strict=strict))


class Limits(NamedTuple):
    """How a run is carried out: processes, seconds a case may take, and what ends or fails it."""

    jobs: int
    timeout: float | None
    fail_fast: bool
    strict: bool


def _carried_out(request: Request, options: Options, limits: Limits, dim: list[str], ending: Callable[[], None]) -> RunResult:
    from gradcheck.run.plan import plan
    from gradcheck.run.runner import run as run_cases

    with redirect_stdout(sys.stderr):  # what the user's code prints is no data of ours
        cases = plan(request)
        if not cases:
            nothing(request)
        with progress(len(cases)) as started:
            return run_cases(
                cases,
                options,
                replay=replayed_by(request, options, dim),
                request=request,
                jobs=limits.jobs,
                timeout=limits.timeout,
                fail_fast=limits.fail_fast,
                config={"targets": list(request.targets), "strict": limits.strict, **chosen(request, options)},
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


def chosen(request: Request, options: Options) -> dict[str, Any]:
    """What the user chose, for the record."""
    from dataclasses import asdict

    named = {"optimizer": request.optimizer, "partners": list(request.partners)}
    return {**asdict(options), **named, "dims": {name: list(bounds) for name, bounds in options.dims.items()}}


def replayed_by(request: Request, options: Options, dim: Sequence[str]) -> Callable[[Case], str]:
    """The function from a case to the command that checks it again, by itself."""
    from gradcheck.run.plan import replay_command

    given: list[str] = []
    lists = {
        "--input": request.inputs,
        "--init": request.init,
        "--wrt": request.wrt,
        "--dim": dim,
        "--partner": request.partners,
    }
    for flag, values in lists.items():
        given += [word for value in values for word in (flag, value)]
    for kind, text in request.claims:
        given += [f"--{kind}", text]
    single = {name: getattr(options, name) for name in ("rtol", "dtype", "mode", "trials")}
    single |= {"framework": request.framework, "checks": ",".join(options.checks) or None, "optimizer": request.optimizer}
    single |= {"budget": options.budget and f"{options.budget:g}s", "memory": options.memory and f"{options.memory:.0f}B"}
    defaults = {"mode": "auto", "trials": 1}
    given += [word for name, value in single.items() if value != defaults.get(name) for word in (f"--{name}", str(value))]
    given += [] if options.contracts else ["--no-contracts"]
    given += [word for name in options.no_contract for word in ("--no-contract", name)]
    given += ["--straight-through"] if options.straight_through else []
    given += ["--by-layer"] if options.by_layer else []
    return replay_command(options, given)


def reported(run: RunResult, files: Mapping[str, str | None], verbosity: int) -> None:
    """The table is shown although a file could not be written: that is said below it."""
    from gradcheck.report import formats

    to_stdout = [name for name, path in files.items() if path == "-"]
    try:
        for name in to_stdout:
            put(sys.stdout, formats.render(name, run))
        formats.write(run, {name: path for name, path in files.items() if path not in (None, "-")})
    finally:
        _show(run, verbosity, to_stderr=bool(to_stdout))


def _show(run: RunResult, verbosity: int, *, to_stderr: bool) -> None:
    from gradcheck.report import terminal

    stream = sys.stderr if to_stderr else sys.stdout
    color = stream.isatty() and not os.environ.get("NO_COLOR")
    width = max(shutil.get_terminal_size((100, 24)).columns, 60)
    put(stream, terminal.render(run, width=width, color=color, verbosity=verbosity))


@contextmanager
def progress(total: int) -> Iterator[Callable[[Case], None]]:
    """A bar on stderr; nothing off a terminal."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from gradcheck.report import bar

    with bar.shown(total) as started:
        yield lambda case: started(case.name)

"""Run cases, one after the other or in several processes, and collect their results."""

from __future__ import annotations

import platform
import time
from contextlib import suppress
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradcheck.checks.derivative.mode import is_close_call
from gradcheck.results import CheckResult, RunResult, Verdict
from gradcheck.run import baseline, provenance
from gradcheck.run.case import check_case_safely
from gradcheck.run.workers import cluster, local
from gradcheck.run.workers.worker import Work, installed_version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from gradcheck.options import Options
    from gradcheck.run.plan import Request
    from gradcheck.targets.case import Case


def run(
    cases: Sequence[Case],
    options: Options,
    *,
    replay: Callable[[Case], str],
    request: Request | None = None,
    jobs: int | None = None,
    executor: str = "loky",
    address: str | None = None,
    timeout: float | None = None,
    fail_fast: bool = False,
    alone: bool | None = None,
    known_failures: baseline.KnownFailures | None = None,
    config: dict[str, Any] | None = None,
    on_start: Callable[[Case], None] = lambda _: None,
    on_finish: Callable[[], None] = lambda: None,
    on_end: Callable[[], None] = lambda: None,
    check_one: Callable[..., CheckResult] = check_case_safely,
) -> RunResult:
    """Check every case. A case that breaks does not affect the others, and Ctrl-C keeps the results of finished cases.

    Args:
        replay: returns the command that repeats a case.
        request: what the cases were planned from; needed for other processes and for a timeout.
        jobs: number of processes; seeds, order and results do not depend on it. None: one on this machine, all of a cluster's.
        executor: 'loky' for processes of this machine, or the kind of a cluster: 'dask' or 'ray'.
        address: the address of the cluster.
        timeout: seconds that a case may take; None: no limit.
        fail_fast: stop at the first outcome that is FAIL or ERROR.
        alone: whether the options are meant for a single case, so that an option that does not fit it is an error; None: if
            there is a single case.
        known_failures: what the baseline lists, by case.
        config: what the user chose, for the JSON report.
        on_start: called with each case when it begins.
        on_finish: called when a case is finished.
        on_end: called when no further case will begin, because all are finished or the user pressed Ctrl-C.
        check_one: checks a case in this process: `check_one(case, options, alone=...)` returns its result.
    """
    start_time = time.perf_counter()
    root = find_repository_root()
    start = provenance.describe_start(root, time.time())
    results: dict[int, CheckResult] = {}
    interrupted = False
    alone = len(cases) == 1 if alone is None else alone
    worker_arguments: dict[str, Any] = {"timeout": timeout, "on_start": on_start, "on_end": on_end}
    try:
        if request is not None and executor != "loky":
            work = Work(request, options, alone)
            finished = cluster.check_cases(cases, work, kind=executor, address=address, jobs=jobs, **worker_arguments)
        elif request is not None and ((jobs or 1) > 1 or timeout is not None):
            finished = local.check_cases(cases, Work(request, options, alone), jobs=jobs or 1, **worker_arguments)
        else:
            finished = _check_in_turn(cases, options, alone, on_start, check_one)
        for number, result in finished:
            with_replay = replace(result, replay=result.replay or f"{replay(cases[number])}{_pin_mode(result, options)}")
            results[number] = baseline.attach_known_failure(with_replay, known_failures or {})
            on_finish()
            if result.search and result.search.stopped == "interrupted":
                interrupted = True
                break
            if fail_fast and results[number].outcome in (Verdict.FAIL, Verdict.ERROR):
                break
    except KeyboardInterrupt:
        interrupted = len(results) < len(cases)
    on_end()
    return RunResult(
        gradcheck_version=installed_version(),
        environment=describe_environment(),
        seed=options.seed,
        config=config or {},
        results=tuple(results[number] for number in sorted(results)),
        seconds=time.perf_counter() - start_time,
        interrupted=interrupted,
        planned=len(cases),
        root=root,
        **start,
    )


def _check_in_turn(
    cases: Sequence[Case],
    options: Options,
    alone: bool,
    on_start: Callable[[Case], None],
    check_one: Callable[..., CheckResult],
) -> Iterator[tuple[int, CheckResult]]:
    """Check the cases one after the other in this process; yield the number and the result of each."""
    for number, case in enumerate(cases):
        on_start(case)
        yield number, check_one(case, options, alone=alone)


def _pin_mode(result: CheckResult, options: Options) -> str:
    """Return the option that has a replay use the mode of this check, if the time might choose another."""
    return f" --mode {result.mode}" if is_close_call(options, result.mode, result.notes, result.seconds) else ""


def find_repository_root() -> str:
    """Return the nearest folder upwards that holds a `.git`; without one, the working directory."""
    start = Path.cwd()
    return str(next((folder for folder in (start, *start.parents) if (folder / ".git").exists()), start))


def describe_environment() -> dict[str, str]:
    """Return the versions of Python, the platform, and the array libraries that are installed.

    Whether they are loaded does not matter: that depends on the process in which the cases were checked.
    """
    versions: dict[str, str] = {}
    for name in ("numpy", "torch", "jax"):
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return {"python": platform.python_version(), "platform": platform.platform(terse=True), **versions}

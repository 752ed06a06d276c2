"""Cases over several processes. One that dies or hangs costs its case alone.

Nothing of the user's is sent to a worker: it plans the same request again and takes the case by its number.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
import threading
import time
from collections import deque
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gradcheck.errors import UsageError
from gradcheck.results import CheckResult, Reason
from gradcheck.run.one import attempted, failed_to_start
from gradcheck.run.plan import Request, plan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from loky import ProcessPoolExecutor

    from gradcheck.options import Options
    from gradcheck.targets.case import Case

DIED = "the process of this case ended without an answer (killed, perhaps for its memory, or crashed)"


def results(
    cases: Sequence[Case],
    options: Options,
    request: Request,
    *,
    jobs: int,
    timeout: float | None = None,
    started: Callable[[Case], None] = lambda _: None,
    ending: Callable[[], None] = lambda: None,
) -> Iterator[tuple[int, CheckResult]]:
    """Check every case; yield its number and result as they come.

    Args:
        request: what the cases were planned from.
        jobs: processes at a time.
        timeout: seconds that a case may take; None: as long as it likes.
        started: told of each case as it begins.
        ending: told when no further case will begin, before the last processes are ended.
    """
    waiting, suspects = deque(range(len(cases))), deque[int]()
    while waiting or suspects:
        alone = bool(suspects)  # what ran when a process died is run again, one by one, to see which of them it was
        queue, width = (suspects, 1) if alone else (waiting, min(jobs, len(waiting)))
        executor, over = _executor(width), True
        try:
            for number, outcome in _until_one_dies(executor, queue, cases, options, request, width, timeout, started):
                if isinstance(outcome, CheckResult):
                    yield number, outcome
                elif outcome is Reason.TIMEOUT:
                    yield number, _lost(cases[number], options, outcome, f"it took longer than {timeout:g} s")
                elif isinstance(outcome, BaseException):
                    yield number, failed_to_start(cases[number], options, outcome)
                elif outcome is Reason.WORKER_DIED and width == 1:
                    yield number, _lost(cases[number], options, outcome, DIED)
                else:
                    (suspects if outcome is Reason.WORKER_DIED else waiting).append(number)
            over = not (waiting or suspects)
        finally:
            if over:
                ending()
            executor.shutdown(wait=True, kill_workers=True)


def _until_one_dies(
    executor: ProcessPoolExecutor,
    queue: deque[int],
    cases: Sequence[Case],
    options: Options,
    request: Request,
    width: int,
    timeout: float | None,
    started: Callable[[Case], None],
) -> Iterator[tuple[int, CheckResult | BaseException | Reason | None]]:
    """Numbers with a result, or what the worker raised.

    A death or a timeout ends it: then with a reason, and None for what is to be run again.
    """
    running: dict[Future[CheckResult], tuple[int, float]] = {}
    while queue or running:
        while queue and len(running) < width:
            number = queue.popleft()
            try:
                with _unheard():
                    job = executor.submit(_checked, request, number, cases[number].name, options, len(cases) == 1)
            except BrokenExecutor:  # a process died just now: those that ran will say so
                queue.appendleft(number)
                break
            started(cases[number])
            running[job] = number, time.monotonic()
        if not running:
            return
        deadline = None if timeout is None else max(min(t for _, t in running.values()) + timeout - time.monotonic(), 0.0)
        done, _ = wait(running, timeout=deadline, return_when=FIRST_COMPLETED)
        if any(isinstance(job.exception(), BrokenExecutor) for job in done):
            yield from ((number, _outcome(job)) for job, (number, _) in _ended(running))
            return
        for job in done:
            yield running.pop(job)[0], _outcome(job)
        overdue = [j for j, (_, t) in running.items() if timeout is not None and time.monotonic() - t >= timeout]
        if overdue:
            yield from ((number, Reason.TIMEOUT if job in overdue else None) for job, (number, _) in running.items())
            return


@contextmanager
def _unheard() -> Iterator[None]:
    """Processes that begin here never hear Ctrl-C, which a terminal sends to all of them: this one ends them, quietly.

    They inherit that it is ignored; told so only once they run, they would hear it while they load.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = _hear_nothing()
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _hear_nothing() -> Any:
    return signal.signal(signal.SIGINT, signal.SIG_IGN)


def _outcome(job: Future[CheckResult]) -> CheckResult | BaseException | Reason:
    """A result, what the worker raised, or that it died."""
    error = job.exception()
    if isinstance(error, KeyboardInterrupt):
        raise error
    return job.result() if error is None else Reason.WORKER_DIED if isinstance(error, BrokenExecutor) else error


def _ended(running: dict[Future[CheckResult], tuple[int, float]]) -> list[tuple[Future[CheckResult], tuple[int, float]]]:
    """The jobs of an executor that is broken: each has a result, or the error that broke it."""
    wait(running)
    return list(running.items())


def _executor(jobs: int) -> ProcessPoolExecutor:
    from loky import ProcessPoolExecutor

    threads = str(max((os.cpu_count() or 1) // jobs, 1))
    return ProcessPoolExecutor(
        max_workers=jobs,
        initializer=_hear_nothing,  # for those that loky puts in the place of others later
        env={"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", threads)},
    )


def _lost(case: Case, options: Options, reason: Reason, message: str) -> CheckResult:
    return replace(failed_to_start(case, options, RuntimeError()), reason=reason, message=message, traceback="")


def _checked(request: Request, number: int, name: str, options: Options, alone: bool) -> CheckResult:
    """What a worker does; what the user's code prints goes to stderr."""
    with redirect_stdout(sys.stderr):
        return attempted(_found(_planned(request), number, name), options, alone=alone)


def _found(cases: list[Case], number: int, name: str) -> Case:
    """The case of that name, wherever planning put it here: a set of names has another order in each process."""
    for case in (*cases[number : number + 1], *cases):
        if case.name == name:
            return case
    raise UsageError(f"{name} is not among the cases that another process finds; declare the same ones each time")


@functools.lru_cache(maxsize=1)
def _planned(request: Request) -> list[Case]:
    return plan(request)

"""Cases over several processes of this machine. One that dies or hangs costs its case alone."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import deque
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from gradcheck.run.workers.worker import (
    DIED,
    Outcome,
    Work,
    checked,
    told,
    too_long,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from loky import ProcessPoolExecutor

    from gradcheck.results import CheckResult
    from gradcheck.targets.case import Case


def results(
    cases: Sequence[Case],
    work: Work,
    *,
    jobs: int,
    timeout: float | None = None,
    started: Callable[[Case], None] = lambda _: None,
    ending: Callable[[], None] = lambda: None,
) -> Iterator[tuple[int, CheckResult]]:
    """Check every case; yield its number and result as they come.

    Args:
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
            for number, outcome in _until_one_dies(executor, queue, cases, work, width, timeout, started):
                if outcome is None:
                    waiting.append(number)
                elif outcome is DIED and width > 1:
                    suspects.append(number)
                else:
                    yield number, told(cases[number], work.options, outcome)
            over = not (waiting or suspects)
        finally:
            if over:
                ending()
            executor.shutdown(wait=True, kill_workers=True)


def _until_one_dies(
    executor: ProcessPoolExecutor,
    queue: deque[int],
    cases: Sequence[Case],
    work: Work,
    width: int,
    timeout: float | None,
    started: Callable[[Case], None],
) -> Iterator[tuple[int, Outcome | None]]:
    """Numbers with a result, or what the worker raised.

    A death or a timeout ends it: then with what is lost, and None for what is to be run again.
    """
    running: dict[Future[CheckResult], tuple[int, float]] = {}
    while queue or running:
        while queue and len(running) < width:
            number = queue.popleft()
            try:
                with _unheard():
                    job = executor.submit(checked, work, cases[number].name)
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
        late = {j for j, (_, t) in running.items() if timeout is not None and time.monotonic() - t >= timeout}
        if late and timeout is not None:
            yield from ((number, too_long(timeout) if job in late else None) for job, (number, _) in running.items())
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


def _outcome(job: Future[CheckResult]) -> Outcome:
    """A result, what the worker raised, or that it died."""
    error = job.exception()
    if isinstance(error, KeyboardInterrupt):
        raise error
    return job.result() if error is None else DIED if isinstance(error, BrokenExecutor) else error


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

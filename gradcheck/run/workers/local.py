"""Run cases in several processes of this machine. A process that dies or hangs affects only its own case."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import threading
import time
import warnings
from collections import deque
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradcheck.last_place import Watch, read_place
from gradcheck.run.workers.worker import (
    WORKER_DIED,
    Outcome,
    Work,
    check_named_case,
    timeout_outcome,
    to_result,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from loky import ProcessPoolExecutor

    from gradcheck.results import CheckResult
    from gradcheck.targets.case import Case

MAX_GROWTH = "4e9"  # bytes by which a process may grow before it is replaced


def check_cases(
    cases: Sequence[Case],
    work: Work,
    *,
    jobs: int,
    timeout: float | None = None,
    on_start: Callable[[Case], None] = lambda _: None,
    on_end: Callable[[], None] = lambda: None,
) -> Iterator[tuple[int, CheckResult]]:
    """Check every case; yield its number and result when it is finished.

    Args:
        cases: the cases.
        work: what the workers need.
        jobs: number of processes at a time.
        timeout: seconds that a case may take; None: no limit.
        on_start: called with each case when it begins.
        on_end: called when no further case will begin, before the last processes are killed.
    """
    waiting, suspects = deque(range(len(cases))), deque[int]()
    while waiting or suspects:
        # When a process dies, each case that was running may be the cause. We run them again one by one to find out.
        queue, width = (suspects, 1) if suspects else (waiting, min(jobs, len(waiting)))
        executor, is_last, folder = _make_executor(width), True, tempfile.mkdtemp()
        try:
            for number, outcome in _run_until_death(executor, queue, cases, work, width, timeout, folder, on_start):
                if outcome is None:
                    waiting.append(number)
                elif outcome is WORKER_DIED and width > 1:
                    suspects.append(number)
                else:
                    yield number, to_result(cases[number], work.options, outcome)
            is_last = not (waiting or suspects)
        finally:
            if is_last:
                on_end()
            executor.shutdown(wait=True, kill_workers=True)
            shutil.rmtree(folder, ignore_errors=True)


def _run_until_death(
    executor: ProcessPoolExecutor,
    queue: deque[int],
    cases: Sequence[Case],
    work: Work,
    width: int,
    timeout: float | None,
    folder: str,
    on_start: Callable[[Case], None],
) -> Iterator[tuple[int, Outcome | None]]:
    """Run cases until all are finished, a process dies or a case times out; yield the number and outcome of each.

    After a death or a timeout, all processes are useless. The cases that were lost have their outcome, and those that have to
    run again have the outcome None.
    """
    running: dict[Future[CheckResult], tuple[int, float]] = {}
    watches: dict[int, Watch] = {}
    while queue or running:
        while queue and len(running) < width:
            number, began = queue.popleft(), time.monotonic()
            if timeout is not None:
                watches[number] = Watch(str(Path(folder, str(number))), began + timeout)
            try:
                with _interrupts_ignored():
                    job = executor.submit(check_named_case, work, cases[number].name, watches.get(number))
            except BrokenExecutor:  # a process has just died; the running jobs will raise the same error
                queue.appendleft(number)
                break
            on_start(cases[number])
            running[job] = number, began
        if not running:
            return
        remaining = None if timeout is None else max(min(t for _, t in running.values()) + timeout - time.monotonic(), 0.0)
        done, _ = wait(running, timeout=remaining, return_when=FIRST_COMPLETED)
        if any(isinstance(job.exception(), BrokenExecutor) for job in done):
            yield from ((number, _outcome(job)) for job, (number, _) in _wait_for_all(running))
            return
        for job in done:
            yield running.pop(job)[0], _outcome(job)
        late = {job for job, (_, start) in running.items() if timeout is not None and time.monotonic() - start >= timeout}
        if late and timeout is not None:
            for job, (number, _) in running.items():
                yield number, timeout_outcome(timeout, read_place(watches.get(number))) if job in late else None
            return


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Have processes that start in this block ignore Ctrl-C, which a terminal sends to all processes; this one kills them.

    They inherit the setting from this process. If they made it themselves, Ctrl-C could still hit them while they load.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = _ignore_interrupts()
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def _ignore_interrupts() -> Any:
    return signal.signal(signal.SIGINT, signal.SIG_IGN)


def _outcome(job: Future[CheckResult]) -> Outcome:
    """Return the outcome of a finished job: its result, what the worker raised, or that it died."""
    error = job.exception()
    if isinstance(error, KeyboardInterrupt):
        raise error
    return job.result() if error is None else WORKER_DIED if isinstance(error, BrokenExecutor) else error


def _wait_for_all(running: dict[Future[CheckResult], tuple[int, float]]) -> list[tuple[Future[CheckResult], tuple[int, float]]]:
    """Return all jobs of a broken executor; each has a result, or the error that broke the executor."""
    wait(running)
    return list(running.items())


def _make_executor(jobs: int) -> ProcessPoolExecutor:
    """Return an executor whose processes share the processors among their threads."""
    from loky import ProcessPoolExecutor

    threads = str(max((os.cpu_count() or 1) // jobs, 1))
    # loky replaces a process that has grown by 300 MB, as each does that loads a framework after its first case.
    warnings.filterwarnings("ignore", r"A worker (stopped|was restarted)", UserWarning)
    return ProcessPoolExecutor(
        max_workers=jobs,
        initializer=_ignore_interrupts,  # for processes that loky starts later to replace others
        env={
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", threads),
            "LOKY_MAX_MEMORY_LEAK_SIZE": os.environ.get("LOKY_MAX_MEMORY_LEAK_SIZE", MAX_GROWTH),
        },
    )

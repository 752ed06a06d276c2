"""Run cases on the workers of a dask or ray cluster. A case whose worker dies is tried again on another."""

from __future__ import annotations

import importlib
import time
from collections import Counter, deque
from typing import TYPE_CHECKING, Any

from gradcheck.errors import UsageError
from gradcheck.results import Reason
from gradcheck.run.workers.worker import (
    WORKER_DIED,
    LostCase,
    Outcome,
    Work,
    timeout_outcome,
    to_result,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import ModuleType

    from gradcheck.results import CheckResult
    from gradcheck.targets.case import Case

CLUSTER_KINDS = ("dask", "ray")  # each is a module of this folder; they have the same functions
MAX_TRIES = 3  # A case is tried up to this many times if its worker dies.
MAX_IDLE_SECONDS = 60.0  # The remaining cases are given up after this time without any worker.
POLL_SECONDS = 1.0  # One look at the running cases waits for up to this time.

Running = dict[Any, tuple[int, float]]  # by job: the number of its case, and the time when it began


def check_cases(
    cases: Sequence[Case],
    work: Work,
    *,
    kind: str,
    address: str | None,
    jobs: int | None = None,
    timeout: float | None = None,
    on_start: Callable[[Case], None] = lambda _: None,
    on_end: Callable[[], None] = lambda: None,
) -> Iterator[tuple[int, CheckResult]]:
    """Check every case; yield its number and result when it is finished. The result of a lost case is an ERROR.

    Args:
        cases: the cases.
        work: what the workers need.
        kind: one of CLUSTER_KINDS.
        address: the address of the cluster.
        jobs: number of cases at a time; None: as many as there are workers.
        timeout: seconds that a case may take; None: no limit.
        on_start: called with each case when it begins.
        on_end: called when no further case will begin.

    Raises:
        UsageError: if there is no cluster at the address.
    """
    if kind not in CLUSTER_KINDS:
        raise UsageError(f"--executor {kind}: expected one of loky, {', '.join(CLUSTER_KINDS)}")
    if not address:
        raise UsageError(f"--executor {kind} needs the cluster's --address")
    cluster = importlib.import_module(f"gradcheck.run.workers.{kind}")
    pool, waiting, tries, running = cluster.connect(address), deque(range(len(cases))), Counter[int](), Running()
    last_active = time.monotonic()
    try:
        while waiting or running:
            slots = min(cluster.free_slots(pool), (jobs or len(cases)) - len(running), len(waiting))
            for number in [waiting.popleft() for _ in range(slots)]:
                running[cluster.submit(pool, work, cases[number].name)] = number, time.monotonic()
                on_start(cases[number])
            last_active = time.monotonic() if running else last_active
            for number, outcome in _collect_outcomes(cluster, pool, running, timeout):
                tries[number] += 1
                if outcome is WORKER_DIED and tries[number] < MAX_TRIES:
                    waiting.append(number)
                else:
                    yield number, to_result(cases[number], work.options, outcome)
            if not running and time.monotonic() - last_active > MAX_IDLE_SECONDS:
                no_worker = LostCase(Reason.WORKER_DIED, f"no worker is left at {address}")
                yield from ((number, to_result(cases[number], work.options, no_worker)) for number in waiting)
                return
    finally:
        on_end()
        cluster.close(pool, list(running))


def _collect_outcomes(cluster: ModuleType, pool: Any, running: Running, timeout: float | None) -> Iterator[tuple[int, Outcome]]:
    """Yield the number and outcome of each case that finishes within POLL_SECONDS, and of each that exceeds its timeout."""
    for job, outcome in cluster.collect_finished(pool, list(running), POLL_SECONDS):
        yield running.pop(job)[0], outcome
    for job in [job for job, (_, began) in running.items() if timeout is not None and time.monotonic() - began > timeout]:
        cluster.kill(pool, job)
        assert timeout is not None
        yield running.pop(job)[0], timeout_outcome(timeout)

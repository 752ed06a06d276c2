"""Cases over the workers of a cluster, dask's or ray's. A worker that dies costs no case: it is tried again on another."""

from __future__ import annotations

import importlib
import time
from collections import Counter, deque
from typing import TYPE_CHECKING, Any

from gradcheck.errors import UsageError
from gradcheck.results import Reason
from gradcheck.run.workers.worker import (
    DIED,
    Lost,
    Outcome,
    Work,
    told,
    too_long,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import ModuleType

    from gradcheck.results import CheckResult
    from gradcheck.targets.case import Case

KINDS = ("dask", "ray")  # each a module of this folder, with the same functions
TRIES = 3  # of a case whose worker dies
PATIENCE = 60.0  # seconds without any worker before what is left is given up
TICK = 1.0  # seconds between two looks at the workers

Running = dict[Any, tuple[int, float]]  # by job: the case's number, and when it began


def results(
    cases: Sequence[Case],
    work: Work,
    *,
    kind: str,
    address: str | None,
    jobs: int | None = None,
    timeout: float | None = None,
    started: Callable[[Case], None] = lambda _: None,
    ending: Callable[[], None] = lambda: None,
) -> Iterator[tuple[int, CheckResult]]:
    """Check every case; yield its number and result as they come. What is lost is an ERROR.

    Args:
        jobs: cases at a time; None: as many as there are workers.
        timeout: seconds that a case may take.
        started, ending: as for `parallel.results`.

    Raises:
        UsageError: where no cluster is at that address.
    """
    if kind not in KINDS:
        raise UsageError(f"--executor {kind}: expected one of loky, {', '.join(KINDS)}")
    if not address:
        raise UsageError(f"--executor {kind} needs the cluster's --address")
    cluster = importlib.import_module(f"gradcheck.run.workers.{kind}")
    pool, waiting, tries, running = cluster.connect(address), deque(range(len(cases))), Counter[int](), Running()
    seen = time.monotonic()
    try:
        while waiting or running:
            room = min(cluster.room(pool), (jobs or len(cases)) - len(running), len(waiting))
            for number in [waiting.popleft() for _ in range(room)]:
                running[cluster.submit(pool, work, cases[number].name)] = number, time.monotonic()
                started(cases[number])
            seen = time.monotonic() if running else seen
            for number, outcome in _ended(cluster, pool, running, timeout):
                tries[number] += 1
                if outcome is DIED and tries[number] < TRIES:
                    waiting.append(number)
                else:
                    yield number, told(cases[number], work.options, outcome)
            if not running and time.monotonic() - seen > PATIENCE:
                left = Lost(Reason.WORKER_DIED, f"no worker is left at {address}")
                yield from ((number, told(cases[number], work.options, left)) for number in waiting)
                return
    finally:
        ending()
        cluster.close(pool, list(running))


def _ended(cluster: ModuleType, pool: Any, running: Running, timeout: float | None) -> Iterator[tuple[int, Outcome]]:
    """What came to an end by itself within a tick, and what took too long."""
    for job, outcome in cluster.finished(pool, list(running), TICK):
        yield running.pop(job)[0], outcome
    for job in [job for job, (_, began) in running.items() if timeout is not None and time.monotonic() - began > timeout]:
        cluster.end(pool, job)
        assert timeout is not None
        yield running.pop(job)[0], too_long(timeout)

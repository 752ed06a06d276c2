"""Workers of a dask cluster. We give each worker one case at a time, by its address, so that a death concerns a known case."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gradcheck.errors import UsageError
from gradcheck.run.workers.worker import (
    WORKER_DIED,
    Outcome,
    Work,
    check_remotely,
    installed_version,
)

if TYPE_CHECKING:
    from distributed import Client, Future


@dataclass(frozen=True)
class DaskPool:
    """A connection to a dask cluster.

    Attributes:
        client: the connection.
        worker_of: the address of the worker of each job.
        stuck: the addresses of workers that cannot be restarted and get no further job.
    """

    client: Client
    worker_of: dict[Future, str] = field(default_factory=dict)
    stuck: set[str] = field(default_factory=set)


def connect(address: str) -> DaskPool:
    """Connect to the scheduler at an address such as `tcp://127.0.0.1:8786`.

    Raises:
        UsageError: if dask is not installed, or no scheduler answers.
    """
    try:
        from distributed import Client
        from distributed.comm import get_address_host_port
    except ModuleNotFoundError:
        raise UsageError("--executor dask needs dask.distributed: pip install 'gradcheck[dask]'") from None
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)  # we report lost workers as results
    try:
        get_address_host_port(address)  # a Client with an invalid address would be left half-constructed
        return DaskPool(Client(address, timeout=10, set_as_default=False))
    except (OSError, ValueError, TypeError) as error:
        raise UsageError(f"--address {address}: no dask scheduler answers there ({type(error).__name__}: {error})") from None


def free_slots(pool: DaskPool) -> int:
    """Return the number of free workers."""
    return len(_free_workers(pool))


def submit(pool: DaskPool, work: Work, name: str) -> Future:
    """Submit a case to a free worker."""
    worker = _free_workers(pool)[0]
    job = pool.client.submit(
        check_remotely, work, name, installed_version(), workers=[worker], allow_other_workers=False, pure=False
    )
    pool.worker_of[job] = worker
    return job


def collect_finished(pool: DaskPool, jobs: Sequence[Future], seconds: float) -> Iterator[tuple[Future, Outcome]]:
    """Wait for a first job, at most for some seconds; yield the finished jobs, and those whose worker is gone."""
    from distributed import wait

    if not jobs:
        time.sleep(seconds)
    with suppress(Exception), pool.client.as_current():  # errors are read from each job below
        wait(jobs, timeout=seconds, return_when="FIRST_COMPLETED")
    alive = _live_workers(pool)
    for job in jobs:
        if job.done() or pool.worker_of[job] not in alive:
            yield job, _outcome(job)
            _forget(pool, job)


def kill(pool: DaskPool, job: Future) -> None:
    """Kill the worker of a job. Dask's nanny starts another one; a worker without a nanny gets no further job."""
    worker = pool.worker_of[job]
    _forget(pool, job)
    try:
        pool.client.restart_workers([worker], timeout=30)
    except Exception:
        pool.stuck.add(worker)


def close(pool: DaskPool, jobs: Sequence[Future]) -> None:
    """Cancel unfinished jobs and close the connection."""
    for job in jobs:
        _forget(pool, job)
    pool.client.close()


def _forget(pool: DaskPool, job: Future) -> None:
    del pool.worker_of[job]
    with suppress(Exception):  # the scheduler may be gone
        job.cancel()


def _free_workers(pool: DaskPool) -> list[str]:
    return sorted(_live_workers(pool) - {*pool.worker_of.values()} - pool.stuck)


def _live_workers(pool: DaskPool) -> set[str]:
    """Return the addresses of the workers; none if the scheduler is gone."""
    try:
        return {*pool.client.nthreads()}
    except Exception:
        return set()


def _outcome(job: Future) -> Outcome:
    from distributed import KilledWorker

    outcome: Outcome = WORKER_DIED
    if job.status == "finished":
        try:
            outcome = job.result()
        except Exception as error:  # for example, the result cannot be unpickled
            outcome = error
    elif job.status == "error" and not isinstance(job.exception(), KilledWorker):
        outcome = job.exception()
    return outcome

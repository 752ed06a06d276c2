"""Workers of a dask cluster. Each is given one case at a time, by its address, so that it is known whom a death concerns."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gradcheck.errors import UsageError
from gradcheck.run.workers.worker import (
    DIED,
    Outcome,
    Work,
    checked_alike,
    version,
)

if TYPE_CHECKING:
    from distributed import Client, Future


@dataclass(frozen=True)
class Pool:
    """A connection, the worker of each job, and the workers that no job may be given any more."""

    client: Client
    places: dict[Future, str] = field(default_factory=dict)
    stuck: set[str] = field(default_factory=set)


def connect(address: str) -> Pool:
    """Connect to the scheduler at an address such as `tcp://127.0.0.1:8786`.

    Raises:
        UsageError: where dask is not installed, or no scheduler answers.
    """
    try:
        from distributed import Client
        from distributed.comm import get_address_host_port
    except ModuleNotFoundError:
        raise UsageError("--executor dask needs dask.distributed: pip install 'gradcheck[dask]'") from None
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)  # what becomes of workers is told as results
    try:
        get_address_host_port(address)  # of what is no address a client would be left half made
        return Pool(Client(address, timeout=10, set_as_default=False))
    except (OSError, ValueError, TypeError) as error:
        raise UsageError(f"--address {address}: no dask scheduler answers there ({type(error).__name__}: {error})") from None


def room(pool: Pool) -> int:
    """How many workers are free."""
    return len(_free(pool))


def submit(pool: Pool, work: Work, name: str) -> Future:
    """Give a case to a worker that is free."""
    place = _free(pool)[0]
    job = pool.client.submit(checked_alike, work, name, version(), workers=[place], allow_other_workers=False, pure=False)
    pool.places[job] = place
    return job


def finished(pool: Pool, jobs: Sequence[Future], seconds: float) -> Iterator[tuple[Future, Outcome]]:
    """Wait for the first of some jobs, at most so long; yield those that are finished, and those whose worker is gone."""
    from distributed import wait

    if not jobs:
        time.sleep(seconds)
    with suppress(Exception), pool.client.as_current():  # what went wrong is asked of each job
        wait(jobs, timeout=seconds, return_when="FIRST_COMPLETED")
    alive = _workers(pool)
    for job in jobs:
        if job.done() or pool.places[job] not in alive:
            yield job, _outcome(job)
            _forget(pool, job)


def end(pool: Pool, job: Future) -> None:
    """End what a worker is at, together with its process; its nanny starts another. One without a nanny is given up."""
    place = pool.places[job]
    _forget(pool, job)
    try:
        pool.client.restart_workers([place], timeout=30)
    except Exception:
        pool.stuck.add(place)


def close(pool: Pool, jobs: Sequence[Future]) -> None:
    """Give up what is not finished, and the connection."""
    for job in jobs:
        _forget(pool, job)
    pool.client.close()


def _forget(pool: Pool, job: Future) -> None:
    del pool.places[job]
    with suppress(Exception):  # where the scheduler is gone
        job.cancel()


def _free(pool: Pool) -> list[str]:
    return sorted(_workers(pool) - {*pool.places.values()} - pool.stuck)


def _workers(pool: Pool) -> set[str]:
    """Addresses of the workers; none where the scheduler is gone."""
    try:
        return {*pool.client.nthreads()}
    except Exception:
        return set()


def _outcome(job: Future) -> Outcome:
    from distributed import KilledWorker

    found: Outcome = DIED
    if job.status == "finished":
        try:
            found = job.result()
        except Exception as error:  # that cannot be sent, say
            found = error
    elif job.status == "error" and not isinstance(job.exception(), KilledWorker):
        found = job.exception()
    return found

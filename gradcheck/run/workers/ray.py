"""Workers of a ray cluster: ray starts a process for each case that a processor is free for."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from gradcheck.errors import UsageError
from gradcheck.run.workers.worker import (
    DIED,
    Outcome,
    Work,
    checked_alike,
    version,
)


@dataclass(frozen=True)
class Pool:
    """A connection, and what is running."""

    ray: Any
    running: set[Any]


def connect(address: str) -> Pool:
    """Connect to the cluster at an address such as `127.0.0.1:6379`, or `auto`; or stay where this process is connected.

    Raises:
        UsageError: where ray is not installed, or no cluster answers.
    """
    try:
        import ray
    except ModuleNotFoundError:
        raise UsageError("--executor ray needs ray: pip install 'gradcheck[ray]'") from None
    try:
        _answers(address)
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", ignore_reinit_error=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise UsageError(f"--address {address}: no ray cluster answers there ({type(error).__name__}: {error})") from None
    return Pool(ray, set())


def _answers(address: str) -> None:
    """Raise OSError at once where nobody listens at `host:port`: ray itself tries for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdecimal():
        socket.create_connection((host, int(port)), 5).close()


def room(pool: Pool) -> int:
    """How many processors are free for cases."""
    return max(int(pool.ray.cluster_resources().get("CPU", 0)) - len(pool.running), 0)


def submit(pool: Pool, work: Work, name: str) -> Any:
    """Give a case to the cluster."""
    job = pool.ray.remote(checked_alike).options(num_cpus=1, max_retries=0).remote(work, name, version())
    pool.running.add(job)
    return job


def finished(pool: Pool, jobs: Sequence[Any], seconds: float) -> Iterator[tuple[Any, Outcome]]:
    """Wait for the first of some jobs, at most so long; yield those that are finished, and those whose process is gone."""
    if not jobs:
        time.sleep(seconds)
        return
    done, _ = pool.ray.wait(list(jobs), num_returns=1, timeout=seconds)
    for job in done:
        pool.running.discard(job)
        yield job, _outcome(pool.ray, job)


def end(pool: Pool, job: Any) -> None:
    """End the process of a case."""
    pool.running.discard(job)
    pool.ray.cancel(job, force=True)


def close(pool: Pool, jobs: Sequence[Any]) -> None:
    """Give up what is not finished, and the connection."""
    for job in jobs:
        end(pool, job)
    pool.ray.shutdown()


def _outcome(ray: Any, job: Any) -> Outcome:
    found: Outcome
    try:
        found = ray.get(job)
    except ray.exceptions.RayTaskError as error:
        found = error.cause or error
    except ray.exceptions.RayError:
        found = DIED
    return found

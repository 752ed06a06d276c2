"""Workers of a ray cluster. Ray starts a process for each case, if a processor is free."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from gradcheck.errors import UsageError
from gradcheck.run.workers.worker import (
    WORKER_DIED,
    Outcome,
    Work,
    check_remotely,
    installed_version,
)


@dataclass(frozen=True)
class RayPool:
    """A connection to a ray cluster.

    Attributes:
        ray: the module `ray`, connected.
        running: the running jobs.
    """

    ray: Any
    running: set[Any]


def connect(address: str) -> RayPool:
    """Connect to the cluster at an address such as `127.0.0.1:6379`, or `auto`. An existing connection is kept.

    Raises:
        UsageError: if ray is not installed, or no cluster answers.
    """
    try:
        import ray
    except ModuleNotFoundError:
        raise UsageError("--executor ray needs ray: pip install 'gradcheck[ray]'") from None
    try:
        _require_answer(address)
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", ignore_reinit_error=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise UsageError(f"--address {address}: no ray cluster answers there ({type(error).__name__}: {error})") from None
    return RayPool(ray, set())


def _require_answer(address: str) -> None:
    """Raise OSError at once if nobody listens at `host:port`; ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdecimal():
        socket.create_connection((host, int(port)), 5).close()


def free_slots(pool: RayPool) -> int:
    """Return the number of processors that are free for cases."""
    return max(int(pool.ray.cluster_resources().get("CPU", 0)) - len(pool.running), 0)


def submit(pool: RayPool, work: Work, name: str) -> Any:
    """Submit a case to the cluster."""
    job = pool.ray.remote(check_remotely).options(num_cpus=1, max_retries=0).remote(work, name, installed_version())
    pool.running.add(job)
    return job


def collect_finished(pool: RayPool, jobs: Sequence[Any], seconds: float) -> Iterator[tuple[Any, Outcome]]:
    """Wait for a first job, at most for some seconds; yield the finished jobs, and those whose process is gone."""
    if not jobs:
        time.sleep(seconds)
        return
    done, _ = pool.ray.wait(list(jobs), num_returns=1, timeout=seconds)
    for job in done:
        pool.running.discard(job)
        yield job, _outcome(pool.ray, job)


def kill(pool: RayPool, job: Any) -> None:
    """Kill the process of a job."""
    pool.running.discard(job)
    pool.ray.cancel(job, force=True)


def close(pool: RayPool, jobs: Sequence[Any]) -> None:
    """Kill unfinished jobs and close the connection."""
    for job in jobs:
        kill(pool, job)
    pool.ray.shutdown()


def _outcome(ray: Any, job: Any) -> Outcome:
    outcome: Outcome
    try:
        outcome = ray.get(job)
    except ray.exceptions.RayTaskError as error:
        outcome = error.cause or error
    except ray.exceptions.RayError:
        outcome = WORKER_DIED
    return outcome

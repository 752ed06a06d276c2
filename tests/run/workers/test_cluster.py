"""Cases over the workers of a cluster: the same results, a worker that dies costs no case, and nothing is lost in silence."""

import socket
import textwrap
import time
from collections import Counter
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gradcheck.cli import app
from gradcheck.errors import UsageError
from gradcheck.options import Options
from gradcheck.run import runner
from gradcheck.run.plan import Request, plan
from gradcheck.run.workers import cluster, dask, ray
from gradcheck.run.workers.worker import (
    WORKER_DIED,
    Work,
    check_named_case,
    check_remotely,
)

SOURCE = """
    import os, signal
    from pathlib import Path
    import numpy as np
    from gradcheck import case, normal

    @case(x=normal(3), gradient=lambda x: 2 * x)
    def square(x):
        return np.sum(x**2)

    # Without the traced derivative no worker imports PyTorch.
    @case(x=normal(3), gradient=lambda x: 2 * x**2, options={"methods": ("analytic",)})
    def cube(x):
        return np.sum(x**3)
"""
DEADLY = """
    @case(x=normal(3), gradient=lambda x: 2 * x)
    def deadly_once(x):
        first = Path(__file__).with_name("first")
        if not first.exists():
            first.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return np.sum(x**2)
"""


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "cases_in_a_cluster.py"
    path.write_text(textwrap.dedent(SOURCE))
    return path


@pytest.fixture
def work(source):
    return Work(Request((str(source),)), Options(seed=5))


class Workers:
    """Stands for the module of a kind: its workers check at once, die of some cases, and never finish others."""

    def __init__(self, monkeypatch, *, many=2, deadly=(), endless=(), raising=()):
        self.many, self.deadly, self.endless, self.raising = many, Counter(deadly), endless, raising
        self.submitted, self.ended, self.most, self.running = [], [], 0, 0
        for name in ("connect", "free_slots", "submit", "collect_finished", "kill", "close"):
            monkeypatch.setattr(dask, name, getattr(self, name))

    def connect(self, address):
        return address

    def free_slots(self, pool):
        return self.many - self.running

    def submit(self, pool, work, name):
        self.running += 1
        self.most = max(self.most, self.running)
        self.submitted.append((work, name))
        return len(self.submitted) - 1

    def collect_finished(self, pool, jobs, seconds):
        for job in jobs:
            work, name = self.submitted[job]
            short = name.rpartition(":")[2]
            if short in self.endless:
                continue
            self.running -= 1
            if self.deadly[short]:
                self.deadly[short] -= 1
                yield job, WORKER_DIED
            else:
                yield job, MemoryError("full") if short in self.raising else check_named_case(work, name)

    def kill(self, pool, job):
        self.ended.append(self.submitted[job][1])

    def close(self, pool, jobs):
        self.running = 0


def found(work, **limits):
    cases = plan(work.request)
    results = dict(cluster.check_cases(cases, work, kind="dask", address="here", **limits))
    return {cases[number].name.rpartition(":")[2]: result for number, result in results.items()}


def numbers(results):
    """The comparisons of each case as in JSON, where NaN equals itself."""
    return {r.case.rpartition(":")[2]: r.to_dict()["comparisons"] for r in results}


def reasons(results):
    return {name: result.reason.code for name, result in results.items()}


def test_results_are_those_of_this_process(monkeypatch, work):
    Workers(monkeypatch)
    there = found(work)
    here = runner.run(plan(work.request), work.options, replay=lambda _: "").results
    assert numbers(there.values()) == numbers(here)
    assert reasons(there) == {"square": "agrees", "cube": "disagrees"}


@pytest.mark.parametrize(("many", "jobs", "most"), [(2, None, 2), (2, 1, 1), (9, None, 2)])
def test_no_more_cases_run_than_there_are_workers_or_jobs(monkeypatch, work, many, jobs, most):
    workers = Workers(monkeypatch, many=many)
    found(work, jobs=jobs)
    assert workers.most == most


def test_a_case_whose_worker_dies_is_tried_again(monkeypatch, work):
    workers = Workers(monkeypatch, deadly={"square": cluster.MAX_TRIES - 1})
    assert reasons(found(work)) == {"square": "agrees", "cube": "disagrees"}
    assert len(workers.submitted) == cluster.MAX_TRIES + 1


def test_a_case_whose_workers_always_die_is_an_error(monkeypatch, work):
    Workers(monkeypatch, deadly={"square": 99})
    results = found(work)
    assert reasons(results) == {"square": "worker-died", "cube": "disagrees"}
    assert results["square"].verdict.value == "ERROR"


def test_what_a_worker_raises_is_an_error_of_the_case(monkeypatch, work):
    Workers(monkeypatch, raising=["cube"])
    assert reasons(found(work)) == {"square": "agrees", "cube": "internal"}


def test_a_case_over_its_timeout_is_ended(monkeypatch, work):
    workers = Workers(monkeypatch, endless=["cube"])
    results = found(work, timeout=1e-3)
    assert results["cube"].reason.code == "timeout"
    assert [name.rpartition(":")[2] for name in workers.ended] == ["cube"]


def test_without_any_worker_every_case_is_an_error(monkeypatch, work):
    Workers(monkeypatch, many=0)
    monkeypatch.setattr(cluster, "MAX_IDLE_SECONDS", 0.0)
    results = found(work)
    assert reasons(results) == {"square": "worker-died", "cube": "worker-died"}
    assert "no worker is left at here" in results["cube"].message


def test_a_worker_with_another_version_is_refused(work):
    with pytest.raises(
        UsageError, match=r"a worker has gradcheck .*, this process has 99: install the same version everywhere"
    ):
        check_remotely(work, "square", "99")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--executor", "dusk", "--address", "x"], "--executor dusk: expected one of loky, dask, ray"),
        (["--executor", "dask"], "--executor dask needs the cluster's --address"),
        (["--address", "tcp://127.0.0.1:8786"], "is the address of a cluster: add --executor dask or --executor ray"),
    ],
)
def test_an_executor_that_cannot_be_is_a_usage_error(source, words, message):
    done = CliRunner().invoke(app, ["run", str(source), *words])
    assert (done.exit_code, message in done.stderr) == (2, True)


@pytest.mark.parametrize("address", ["nowhere", "tcp://", "tcp://127.0.0.1", "://1:2"])
def test_dask_says_at_once_what_is_no_address(address):
    pytest.importorskip("distributed", reason="gradcheck[dask] is not installed")
    began = time.monotonic()
    with pytest.raises(UsageError, match=f"--address {address}: no dask scheduler answers there"):
        dask.connect(address)
    assert time.monotonic() - began < 5


def test_ray_says_at_once_that_nobody_answers():
    pytest.importorskip("ray", reason="gradcheck[ray] is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(UsageError, match="no ray cluster answers there"):
        ray.connect(f"127.0.0.1:{port}")


# --- real ones, on loopback


@pytest.fixture
def dask_address():
    distributed = pytest.importorskip("distributed", reason="gradcheck[dask] is not installed")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, host="127.0.0.1") as workers:
        yield workers.scheduler_address


@pytest.fixture
def ray_address(tmp_path, monkeypatch):
    there = pytest.importorskip("ray", reason="gradcheck[ray] is not installed")
    monkeypatch.setenv("HOME", str(tmp_path))  # where it keeps a token
    yield there.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR").address_info["address"]
    there.shutdown()


@pytest.mark.filterwarnings("ignore")  # theirs
@pytest.mark.parametrize("kind", ["dask", "ray"])
def test_two_real_workers_find_the_same_though_one_of_them_is_killed(request, source, kind):
    address = request.getfixturevalue(f"{kind}_address")
    source.write_text(textwrap.dedent(SOURCE + DEADLY))
    work = Work(Request((str(source),), root=str(Path.cwd())), Options(seed=5))
    cases = plan(work.request)
    there = dict(cluster.check_cases(cases, work, kind=kind, address=address))
    assert (source.parent / "first").exists()
    here = runner.run(cases, work.options, replay=lambda _: "").results
    assert numbers(there.values()) == numbers(here)
    assert [there[number].reason.code for number in range(3)] == ["agrees", "disagrees", "agrees"]

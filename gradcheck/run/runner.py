"""Run cases, one after the other or over several processes, and gather what they found."""

from __future__ import annotations

import platform
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradcheck.results import CheckResult, RunResult, Verdict
from gradcheck.run import baseline
from gradcheck.run.case import attempted
from gradcheck.run.workers import cluster, local
from gradcheck.run.workers.worker import Work
from gradcheck.run.workers.worker import version as version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from gradcheck.options import Options
    from gradcheck.run.plan import Request
    from gradcheck.targets.case import Case


def run(
    cases: Sequence[Case],
    options: Options,
    *,
    replay: Callable[[Case], str],
    request: Request | None = None,
    jobs: int | None = None,
    executor: str = "loky",
    address: str | None = None,
    timeout: float | None = None,
    fail_fast: bool = False,
    alone: bool | None = None,
    known: baseline.Known | None = None,
    config: dict[str, Any] | None = None,
    started: Callable[[Case], None] = lambda _: None,
    ending: Callable[[], None] = lambda: None,
    examine: Callable[..., CheckResult] = attempted,
) -> RunResult:
    """Check every case; one that breaks costs itself alone. Ctrl-C keeps what is finished.

    Args:
        replay: the command that repeats a case.
        request: what the cases were planned from; needed for other processes and for a timeout.
        jobs: processes; seeds, order and results do not depend on it. None: one here, as many as there are in a cluster.
        executor: 'loky' for processes of this machine, or the kind of a cluster, and `address` where that is.
        timeout: seconds that a case may take.
        fail_fast: stop at the first outcome that is FAIL or ERROR.
        alone: whether the options are meant for one case, so that what does not fit it is a mistake; None: where there is one.
        known: failures that are waited for.
        config: what the user chose, for the record.
        started: told of each case as it begins.
        ending: told when no further case will begin, because all are finished, or of Ctrl-C.
        examine: what is done with a case in this process: (case, options, alone=) -> its result.
    """
    began = time.perf_counter()
    found: dict[int, CheckResult] = {}
    interrupted = False
    alone = len(cases) == 1 if alone is None else alone
    limits: dict[str, Any] = {"timeout": timeout, "started": started, "ending": ending}
    try:
        if request is not None and executor != "loky":
            work = Work(request, options, alone)
            coming = cluster.results(cases, work, kind=executor, address=address, jobs=jobs, **limits)
        elif request is not None and ((jobs or 1) > 1 or timeout is not None):
            coming = local.results(cases, Work(request, options, alone), jobs=jobs or 1, **limits)
        else:
            coming = _one_by_one(cases, options, alone, started, examine)
        for number, result in coming:
            told = replace(result, replay=result.replay or replay(cases[number]))
            found[number] = baseline.applied(told, known or {})
            if result.search and result.search.stopped == "interrupted":
                interrupted = True
                break
            if fail_fast and found[number].outcome in (Verdict.FAIL, Verdict.ERROR):
                break
    except KeyboardInterrupt:
        interrupted = len(found) < len(cases)
    ending()
    return RunResult(
        gradcheck_version=version(),
        environment=environment(),
        seed=options.seed,
        config=config or {},
        results=tuple(found[number] for number in sorted(found)),
        seconds=time.perf_counter() - began,
        interrupted=interrupted,
        planned=len(cases),
        root=root(),
    )


def _one_by_one(
    cases: Sequence[Case],
    options: Options,
    alone: bool,
    started: Callable[[Case], None],
    examine: Callable[..., CheckResult],
) -> Iterator[tuple[int, CheckResult]]:
    for number, case in enumerate(cases):
        started(case)
        yield number, examine(case, options, alone=alone)


def root() -> str:
    """The repository's folder: the nearest that holds a .git; else the current one."""
    here = Path.cwd()
    return str(next((folder for folder in (here, *here.parents) if (folder / ".git").exists()), here))


def environment() -> dict[str, str]:
    """Versions that a derivative may depend on; only of what is loaded."""
    loaded: dict[str, str] = {n: str(sys.modules[n].__version__) for n in ("numpy", "torch", "jax") if n in sys.modules}
    return {"python": platform.python_version(), "platform": platform.platform(terse=True), **loaded}

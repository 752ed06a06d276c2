"""Run cases, one after the other or over several processes, and gather what they found."""

from __future__ import annotations

import platform
import sys
import time
from dataclasses import replace
from importlib import metadata
from typing import TYPE_CHECKING, Any

from gradcheck.results import CheckResult, RunResult, Verdict
from gradcheck.run import parallel
from gradcheck.run.one import attempted

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
    jobs: int = 1,
    timeout: float | None = None,
    fail_fast: bool = False,
    config: dict[str, Any] | None = None,
    started: Callable[[Case], None] = lambda _: None,
    ending: Callable[[], None] = lambda: None,
    examine: Callable[..., CheckResult] = attempted,
) -> RunResult:
    """Check every case; one that breaks costs itself alone. Ctrl-C keeps what is finished.

    Args:
        replay: the command that repeats a case.
        request: what the cases were planned from; needed for several processes and for a timeout.
        jobs: processes; seeds, order and results do not depend on it.
        timeout: seconds that a case may take.
        fail_fast: stop at the first outcome that is FAIL or ERROR.
        config: what the user chose, for the record.
        started: told of each case as it begins.
        ending: told when no further case will begin, because all are finished, or of Ctrl-C.
        examine: what is done with a case in this process: (case, options, alone=) -> its result.
    """
    began = time.perf_counter()
    found: dict[int, CheckResult] = {}
    interrupted = False
    apart = request is not None and (jobs > 1 or timeout is not None)
    try:
        for number, result in (
            parallel.results(cases, options, request, jobs=jobs, timeout=timeout, started=started, ending=ending)
            if apart and request is not None
            else _one_by_one(cases, options, started, examine)
        ):
            found[number] = replace(result, replay=result.replay or replay(cases[number]))
            if result.search and result.search.stopped == "interrupted":
                interrupted = True
                break
            if fail_fast and result.outcome in (Verdict.FAIL, Verdict.ERROR):
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
    )


def _one_by_one(
    cases: Sequence[Case], options: Options, started: Callable[[Case], None], examine: Callable[..., CheckResult]
) -> Iterator[tuple[int, CheckResult]]:
    for number, case in enumerate(cases):
        started(case)
        yield number, examine(case, options, alone=len(cases) == 1)


def version() -> str:
    """The installed version of gradcheck."""
    return metadata.version("gradcheck")


def environment() -> dict[str, str]:
    """Versions that a derivative may depend on; only of what is loaded."""
    loaded: dict[str, str] = {n: str(sys.modules[n].__version__) for n in ("numpy", "torch") if n in sys.modules}
    return {"python": platform.python_version(), "platform": platform.platform(terse=True), **loaded}

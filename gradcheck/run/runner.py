"""Run cases one after the other and gather what they found."""

from __future__ import annotations

import platform
import sys
import time
from dataclasses import replace
from importlib import metadata
from typing import TYPE_CHECKING, Any

from gradcheck.results import CheckResult, RunResult, Verdict
from gradcheck.run.one import check_case, failed_to_start

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gradcheck.options import Options
    from gradcheck.targets.case import Case


def run(
    cases: Sequence[Case],
    options: Options,
    *,
    replay: Callable[[Case], str],
    fail_fast: bool = False,
    config: dict[str, Any] | None = None,
    started: Callable[[Case], None] = lambda _: None,
) -> RunResult:
    """Check every case; one that breaks costs itself alone. Ctrl-C keeps what is finished.

    Args:
        replay: the command that repeats a case.
        fail_fast: stop at the first outcome that is FAIL or ERROR.
        config: what the user chose, for the record.
        started: told of each case as it begins.
    """
    began = time.perf_counter()
    results: list[CheckResult] = []
    interrupted = False
    for case in cases:
        started(case)
        try:
            result = check_case(case, options, case.target, alone=len(cases) == 1)
        except KeyboardInterrupt:
            interrupted = True
            break
        except Exception as error:
            result = failed_to_start(case, options, error)
        results.append(replace(result, replay=replay(case)))
        if fail_fast and result.outcome in (Verdict.FAIL, Verdict.ERROR):
            break
    return RunResult(
        gradcheck_version=version(),
        environment=environment(),
        seed=options.seed,
        config=config or {},
        results=tuple(results),
        seconds=time.perf_counter() - began,
        interrupted=interrupted,
        planned=len(cases),
    )


def version() -> str:
    """The installed version of gradcheck."""
    return metadata.version("gradcheck")


def environment() -> dict[str, str]:
    """Versions that a derivative may depend on; only of what is loaded."""
    loaded: dict[str, str] = {n: str(sys.modules[n].__version__) for n in ("numpy", "torch") if n in sys.modules}
    return {"python": platform.python_version(), "platform": platform.platform(terse=True), **loaded}

"""What a process does that checks cases for another: nothing of the user's is sent to it, it plans the same request again."""

from __future__ import annotations

import functools
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from importlib import metadata
from typing import TYPE_CHECKING

from gradcheck.errors import UsageError
from gradcheck.results import CheckResult, Reason
from gradcheck.run.case import attempted, failed_to_start
from gradcheck.run.plan import Request, plan

if TYPE_CHECKING:
    from gradcheck.options import Options
    from gradcheck.targets.case import Case


@dataclass(frozen=True)
class Lost:
    """Why there is no answer."""

    reason: Reason
    message: str


Outcome = CheckResult | BaseException | Lost  # what a process sent, what it raised, or how it was lost
DIED = Lost(Reason.WORKER_DIED, "the process of this case ended without an answer (killed, perhaps for its memory, or crashed)")


def too_long(timeout: float) -> Lost:
    """What becomes of a case that is not finished in time."""
    return Lost(Reason.TIMEOUT, f"it took longer than {timeout:g} s")


@dataclass(frozen=True)
class Work:
    """What to check, beside the name of a case.

    Attributes:
        request: what the cases were planned from.
        alone: as for `check_case`.
    """

    request: Request
    options: Options
    alone: bool = False


def checked(work: Work, name: str) -> CheckResult:
    """Check one case; what the user's code prints goes to stderr."""
    with redirect_stdout(sys.stderr):
        case = _planned(work.request).get(name)
        if case is None:
            raise UsageError(f"{name} is not among the cases that another process finds; declare the same ones each time")
        return attempted(case, work.options, alone=work.alone)


def checked_alike(work: Work, name: str, wanted: str) -> CheckResult:
    """The same on another machine, which may have another gradcheck."""
    if version() != wanted:
        raise UsageError(f"a worker has gradcheck {version()}, and this is {wanted}: install the same everywhere")
    return checked(work, name)


def version() -> str:
    """The installed version of gradcheck."""
    return metadata.version("gradcheck")


@functools.lru_cache(maxsize=1)
def _planned(request: Request) -> dict[str, Case]:
    return {case.name: case for case in plan(request)}


def told(case: Case, options: Options, outcome: Outcome) -> CheckResult:
    """The result of a case, whatever became of it."""
    if isinstance(outcome, CheckResult):
        return outcome
    if isinstance(outcome, BaseException):
        return failed_to_start(case, options, outcome)
    result = failed_to_start(case, options, RuntimeError())
    return replace(result, reason=outcome.reason, message=outcome.message, traceback="")

"""The work of a worker process. It gets no object of the user, but plans the request again and checks one of the cases."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from importlib import metadata
from typing import TYPE_CHECKING

from gradcheck.errors import UsageError
from gradcheck.last_place import Watch, watching
from gradcheck.results import CheckResult, Reason
from gradcheck.run.case import check_case_safely, result_of_exception
from gradcheck.run.plan import Request, plan
from gradcheck.untrusted_text import user_output_on_stderr

if TYPE_CHECKING:
    from gradcheck.options import Options
    from gradcheck.targets.case import Case


@dataclass(frozen=True)
class LostCase:
    """The reason why a case has no result.

    Attributes:
        reason: the reason of its ERROR.
        message: the message of its ERROR.
    """

    reason: Reason
    message: str


Outcome = CheckResult | BaseException | LostCase  # the result, what the worker raised, or how the case was lost
WORKER_DIED = LostCase(
    Reason.WORKER_DIED,
    "the process of this case ended without a result (it crashed or was killed, perhaps because memory ran out)",
)


def timeout_outcome(timeout: float, place: str = "") -> LostCase:
    """Return the outcome of a case that takes longer than its timeout.

    Args:
        timeout: in seconds.
        place: where the user's code was then; '' if that is not known.
    """
    stopped = f"; it was stopped at {place}" if place else ""
    return LostCase(Reason.TIMEOUT, f"it took longer than {timeout:g} s, imports included{stopped}")


@dataclass(frozen=True)
class Work:
    """The data that a worker needs to check cases, in addition to their names.

    Attributes:
        request: what the cases were planned from.
        options: how to check them.
        alone: whether the options are meant for a single case, as for `check_case`.
    """

    request: Request
    options: Options
    alone: bool = False


def check_named_case(work: Work, name: str, watch: Watch | None = None) -> CheckResult:
    """Check the case with a name; what the user's code prints goes to stderr.

    Args:
        work: what to check.
        name: of the case.
        watch: records where the user's code is at the deadline.

    Raises:
        UsageError: if this process plans no case of that name.
    """
    with user_output_on_stderr(), watching(watch):
        case = _plan_by_name(work.request).get(name)
        if case is None:
            raise UsageError(
                f"{name} is not among the cases that another process finds; declare the same cases in every process"
            )
        return check_case_safely(case, work.options, alone=work.alone)


def check_remotely(work: Work, name: str, expected_version: str) -> CheckResult:
    """Check the case with a name on another machine, which may have another version of gradcheck.

    Raises:
        UsageError: if the versions differ, or this process plans no case of that name.
    """
    if installed_version() != expected_version:
        raise UsageError(
            f"a worker has gradcheck {installed_version()}, this process has {expected_version}: "
            "install the same version everywhere"
        )
    return check_named_case(work, name)


def installed_version() -> str:
    """Return the installed version of gradcheck."""
    return metadata.version("gradcheck")


@functools.lru_cache(maxsize=1)
def _plan_by_name(request: Request) -> dict[str, Case]:
    """Return the cases of a request by name; cached, as a worker checks many cases of one request."""
    return {case.name: case for case in plan(request)}


def to_result(case: Case, options: Options, outcome: Outcome) -> CheckResult:
    """Return the result of a case; it is an ERROR if the worker raised or the case was lost."""
    if isinstance(outcome, CheckResult):
        return outcome
    if isinstance(outcome, BaseException):
        return result_of_exception(case, options, outcome)
    result = result_of_exception(case, options, RuntimeError())
    return replace(result, reason=outcome.reason, message=outcome.message, traceback="")

"""The time that a trial may take, and the derivative of a trial to prepare, such as the tracing of NumPy code."""

from __future__ import annotations

import math
import time
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# Seconds of processor time, which do not depend on the load of the machine.
SECONDS: ContextVar[float] = ContextVar("seconds", default=30.0)
# When the trial must end, on the clock of `time.perf_counter`.
DEADLINE: ContextVar[float] = ContextVar("deadline", default=math.inf)


class OverBudgetError(BaseException):
    """A trial took far longer than predicted, and the user set a budget. No handler of the user's exceptions may catch it."""


@contextmanager
def limit_preparation(seconds: float | None) -> Iterator[None]:
    """Set the time for the block; None: the default."""
    token = SECONDS.set(SECONDS.get() if seconds is None else seconds)
    try:
        yield
    finally:
        SECONDS.reset(token)


@contextmanager
def limit_trial(seconds: float) -> Iterator[None]:
    """Set the time after which `refuse_after_deadline` raises in the block."""
    token = DEADLINE.set(min(DEADLINE.get(), time.perf_counter() + seconds))
    try:
        yield
    finally:
        DEADLINE.reset(token)


def refuse_after_deadline() -> None:
    """Raise if the time of the trial is used up; called before each evaluation of the function or of a claim.

    Raises:
        OverBudgetError: if it is.
    """
    if time.perf_counter() > DEADLINE.get():
        raise OverBudgetError

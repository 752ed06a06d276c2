"""The time that the derivative of a trial may take to prepare, such as the tracing of NumPy code."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# Seconds of processor time, which do not depend on the load of the machine.
SECONDS: ContextVar[float] = ContextVar("seconds", default=30.0)


@contextmanager
def limit_preparation(seconds: float | None) -> Iterator[None]:
    """Set the time for the block; None: the default."""
    token = SECONDS.set(SECONDS.get() if seconds is None else seconds)
    try:
        yield
    finally:
        SECONDS.reset(token)

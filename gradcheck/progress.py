"""How far a check has come, for whoever wants to show it: a listener of the moment, and none where nobody set one."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar

Listener = Callable[[str, int, int], None]  # what is being looked at, how much of it is done, of how much
LISTENER: ContextVar[Listener | None] = ContextVar("listener", default=None)


def tell(what: str, done: int, total: int) -> None:
    """Say how far the check has come."""
    listener = LISTENER.get()
    if listener is not None:
        listener(what, done, total)

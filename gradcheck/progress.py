"""Progress of a running check: reported to the listener of the current context, if one is set."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar

# Called with the name of the part that is being checked, the number of its units that are done, and their total number.
Listener = Callable[[str, int, int], None]
LISTENER: ContextVar[Listener | None] = ContextVar("listener", default=None)


def report_progress(what: str, done: int, total: int) -> None:
    """Report to the listener that `done` of `total` units of a part are checked.

    Args:
        what: name of the part, such as a leaf.
        done: number of units that are done; 0 starts a new part.
        total: number of units of the part.
    """
    listener = LISTENER.get()
    if listener is not None:
        listener(what, done, total)

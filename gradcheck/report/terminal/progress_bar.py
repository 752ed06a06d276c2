"""A bar for each case and for the leaf that is looked at, with the rate and the time that is left."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from gradcheck.progress import LISTENER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DELAY = 1.0  # seconds before anything is shown


class _Rate(ProgressColumn):
    """How many a second."""

    def render(self, task: Task) -> Text:
        """Return the rate, where there is one."""
        return Text(f"{task.speed:.3g}/s" if task.speed else "", "dim")


@contextmanager
def shown(total: int) -> Iterator[Callable[[str], None]]:
    """Show progress on stderr once a run takes over a second; yields what is to be told of each case as it begins.

    Args:
        total: how many cases there are.
    """
    columns = (BarColumn(24), MofNCompleteColumn(), _Rate(), TimeElapsedColumn(), TimeRemainingColumn())
    progress = Progress(*columns, TextColumn("{task.description}", markup=False), console=Console(stderr=True), transient=True)
    cases, leaf = progress.add_task("", total=total), progress.add_task("", total=None, visible=False)
    begun = -1

    def started(name: str) -> None:
        nonlocal begun
        begun += 1
        progress.update(cases, completed=begun, description=name)

    def heard(what: str, done: int, count: int) -> None:
        if done == 0:
            progress.reset(leaf, total=count, description=f"  {what}", visible=True)
        progress.update(leaf, completed=done)

    token = LISTENER.set(heard)
    timer = threading.Timer(DELAY, progress.start)
    timer.start()
    try:
        yield started
    finally:
        LISTENER.reset(token)
        timer.cancel()
        timer.join()
        progress.stop()

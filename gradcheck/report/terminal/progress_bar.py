"""A progress bar for the cases and one for the leaf being checked, with the rate and the remaining time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

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
from gradcheck.report.display import to_display

DELAY_SECONDS = 1.0  # A run that ends sooner shows no bar.


class _RateColumn(ProgressColumn):
    """The number of units per second."""

    def render(self, task: Task) -> Text:
        """Return the rate; '' if it is not known yet."""
        return Text(f"{task.speed:.3g}/s" if task.speed else "", "dim")


@contextmanager
def show_progress(total: int) -> Iterator[tuple[Callable[[str], None], Callable[[], None]]]:
    """Show progress on stderr once a run takes over a second.

    Yields the function to call with the name of each case that starts, and the function to call when a case is finished.

    Args:
        total: the number of cases.
    """
    columns = (BarColumn(24), MofNCompleteColumn(), _RateColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    progress = Progress(*columns, TextColumn("{task.description}", markup=False), console=Console(stderr=True), transient=True)
    cases, leaf = progress.add_task("", total=total), progress.add_task("", total=None, visible=False)

    def start_case(name: str) -> None:
        progress.update(cases, description=to_display(name, single_line=True))

    def update_leaf(what: str, done: int, count: int) -> None:
        if done == 0:
            progress.reset(leaf, total=count, description=f"  {to_display(what, single_line=True)}", visible=True)
        progress.update(leaf, completed=done)

    token = LISTENER.set(update_leaf)
    timer = threading.Timer(DELAY_SECONDS, progress.start)
    timer.start()
    try:
        yield start_case, lambda: progress.advance(cases)
    finally:
        LISTENER.reset(token)
        timer.cancel()
        timer.join()
        progress.stop()

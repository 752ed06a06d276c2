"""What is collected from a running program: one record for each kind of call of a target, within a budget of memory."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradcheck.backends.recorded_layer import RecordedCall

MAX_RECORDS = 8  # kinds of calls that are recorded of one target
MAX_BYTES = 64 * 2**20  # of all copies of inputs, parameters and cotangents together
OPERATOR = "operator"  # kind of a record
MAIN_MODULES = ("__main__", "__mp_main__")  # the program, also in a worker that multiprocessing has spawned
FOREIGN_PACKAGES = ("torch", "jax", "jaxlib", "gradcheck", "pytest_gradcheck")
INSTALLED_FOLDERS = ("site-packages", "dist-packages")


@dataclass(eq=False)
class Record:
    """The first call of a kind: with inputs of these dtypes, shapes and layouts.

    Attributes:
        target: what was called: a Function, an operator, a copy of a module, or a rule of JAX.
        home: the module that defines it, and its qualified name there.
        kind: what it is, for readers, such as 'autograd.Function'.
        call: copies of the inputs, and the cotangents that the program sends back.
        source: what says where the target is written, if that is not the target.
        parts: the homes of the other targets that this call calls.
        size: bytes of the copies.
    """

    target: Any
    home: tuple[str, str]
    kind: str
    call: RecordedCall
    source: Any = None
    parts: set[tuple[str, str]] = field(default_factory=set)
    size: int = 0

    @property
    def name(self) -> str:
        """The text that names the target, such as 'layers:Swish'."""
        return join_home(self.home)


class Harvest:
    """The records of a program.

    Attributes:
        records: in the order of the calls.
        left_out: why a target has no record, or lacks one, by its name.
        max_bytes: of all copies together.
        on_first_record: called when there is a first call to check, in each process.
        deferred: what makes further records when the program has ended.
    """

    def __init__(self, include: tuple[str, ...] = (), *, max_bytes: int = MAX_BYTES) -> None:
        self.records: list[Record] = []
        self.left_out: dict[str, str] = {}
        self.max_bytes = max_bytes
        self.on_first_record: Callable[[], object] = lambda: None
        self.deferred: list[Callable[[], object]] = []
        self._noted_in: int | None = None  # the process, which may be a fork of the one that began
        self._include = include
        self._bytes_left = max_bytes
        self._lock = threading.Lock()

    def is_from_user(self, module: str) -> bool:
        """Say whether code of a module is the user's: neither of Python nor of an installed package, or named in `include`."""
        package = module.partition(".")[0]
        if package in self._include:
            return True
        if package in FOREIGN_PACKAGES or (package in sys.stdlib_module_names and package != "__main__"):
            return False
        file = getattr(sys.modules.get(module), "__file__", None) or ""
        return not any(f"/{folder}/" in file.replace("\\", "/") for folder in INSTALLED_FOLDERS)

    def reserve(self, record: Record, size: int) -> bool:
        """Take bytes from the budget for a record; return whether there were enough."""
        has_room = self.take(size)
        record.size += size * has_room
        return has_room

    def take(self, size: int) -> bool:
        """Take bytes from the budget; return whether there were enough."""
        with self._lock:
            has_room = size <= self._bytes_left
            self._bytes_left -= size * has_room
            return has_room

    def complete(self) -> None:
        """Make the records that need a part of the program to run once more; a second call does nothing."""
        while self.deferred:
            self.deferred.pop()()

    def add(self, record: Record) -> None:
        """Keep a record."""
        self.note_first()
        with self._lock:
            self.records.append(record)

    def note_first(self) -> None:
        """Note that there is something to check."""
        if self._noted_in != os.getpid():
            self._noted_in = os.getpid()
            self.on_first_record()

    def count(self, home: tuple[str, str]) -> int:
        """Count the records of a target."""
        return sum(record.home == home for record in self.records)

    def discard(self, record: Record) -> None:
        """Drop a record and give its bytes back, because its call raised."""
        with self._lock:
            self._bytes_left += record.size
            self.records = [kept for kept in self.records if kept is not record]

    def leave_out(self, home: tuple[str, str], why: str) -> None:
        """Note why a call has no record; the first reason of a target stays."""
        self.left_out.setdefault(join_home(home), why)


def join_home(home: tuple[str, str]) -> str:
    """Return the text that names a target by its module and its name; spawned workers call the program otherwise."""
    module, name = home
    return f"{'__main__' if module in MAIN_MODULES else module}:{name}"


def is_called_by_gradcheck() -> bool:
    """Say whether a check is running in this thread: its calls are not the program's."""
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_globals.get("__name__") == "gradcheck.run.case":
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False

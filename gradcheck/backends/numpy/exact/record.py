"""What a trace of NumPy code notes while it goes on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from gradcheck.exact.branches import Branches
from gradcheck.exact.graph import MAX_NUMBERS, MAX_OPERATORS, NotAvailable
from gradcheck.exact.identity import Equality


@dataclass
class TraceRecord:
    """What a trace noted.

    Attributes:
        branches: what the floating-point values chose.
        equalities: where the operands of a comparison are equal.
        demotions: the dtypes of less precision than float64 that hold numbers of the inputs.
        operators: the number of operations.
        numbers: in all their results together.
    """

    branches: Branches = field(default_factory=Branches)
    equalities: list[Equality] = field(default_factory=list)
    demotions: set[str] = field(default_factory=set)
    operators: int = 0
    numbers: int = 0

    def count(self, numbers: int) -> None:
        """Count an operation.

        Raises:
            NotAvailable: if the graph is too large.
        """
        self.operators += 1
        self.numbers += numbers
        if self.operators > MAX_OPERATORS or self.numbers > MAX_NUMBERS:
            raise NotAvailable(f"a graph of more than {MAX_OPERATORS:,} operators or {MAX_NUMBERS:,} numbers")


active_record: ContextVar[TraceRecord] = ContextVar("record")


@contextmanager
def recording() -> Iterator[TraceRecord]:
    """Note in a new record what happens to traced arrays."""
    token = active_record.set(TraceRecord())
    try:
        yield active_record.get()
    finally:
        active_record.reset(token)


def is_recording() -> bool:
    """Say whether a trace goes on."""
    return active_record.get(None) is not None

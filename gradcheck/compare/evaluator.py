"""The function as the evidence sees it: counted, and never raising."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.backends.program import Unavailable
from gradcheck.errors import NoMemoryError
from gradcheck.evidence.line import F64, Phi
from gradcheck.tracebacks import one_line, out_of_memory

if TYPE_CHECKING:
    from gradcheck.backends.program import Program


CHUNK = 2**22  # bytes of inputs and outputs that are evaluated at once
WORTH_IT = 8  # lines side by side: for fewer vmap is not tried
SAME = 1e-13  # relative: how far other kernels round
SOONER = 0.8  # of the time that the lines take one by one


@dataclass(frozen=True)
class Batching:
    """Whether many points are evaluated at once, and why, in words."""

    used: bool
    why: str


class Evaluator:
    """Evaluates a program; where the function raises or changes its output's size off the primal, all outputs are NaN.

    `count` is of its calls, `seconds` the time that the last of them took, `batching` how many lines are evaluated at once,
    once that was tried, `remarks` what a reader should be told of the evaluations.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self.count = 1  # the primal itself
        self.raised: Exception | None = None
        self.seconds = 0.0
        self.began = time.perf_counter()
        self.batching: Batching | None = None
        self.remarks: list[str] = []

    def __call__(self, point: F64) -> F64:
        """Return the outputs at a point, (M,)."""
        self.count += 1
        began = time.perf_counter()
        try:
            found = self.program.evaluate(point)
        except Exception as error:
            _within_memory(error)
            self.raised, found = error, np.empty(0)
        self.seconds = time.perf_counter() - began
        return found if found.shape == self.program.value.shape else np.full(self.program.value.shape, np.nan)

    @property
    def spent(self) -> float:
        """Seconds since the check began."""
        return time.perf_counter() - self.began

    def line(self, tangent: F64) -> Phi:
        """The line t -> f(x + t u)."""
        return lambda t: self(self.program.point + t * tangent)

    def barely(self, tangent: F64) -> Phi:
        """The same line, evaluated as barely as the backend can; what it returns is to be used before the next call."""
        program = self.program
        along = program.along or (lambda u: lambda t: [program.evaluate(program.point + t * u)])
        values = along(tangent)

        def phi(t: float) -> F64:
            self.count += 1
            try:
                found = values(t)
            except Exception as error:
                _within_memory(error)
                self.raised, found = error, []
            if sum(part.size for part in found) != program.value.size:
                return np.full(program.value.shape, np.nan)
            return found[0] if len(found) == 1 else np.concatenate(found)

        return phi

    def lines(self, tangents: F64) -> Callable[[float], F64]:
        """Several lines side by side, t -> the outputs on each, (L, M): at once where that gives the same, and sooner.

        The first evaluation is made in both ways, and decides it for all that follow.
        """
        alone, many = [self.barely(tangent) for tangent in tangents], self.program.many
        size = max(1, CHUNK // (8 * (self.program.point.size + self.program.value.size)))

        def one_by_one(t: float) -> F64:
            return np.stack([line(t).copy() for line in alone])

        def at_once(t: float) -> F64:
            assert many is not None
            parts = [tangents[low : low + size] for low in range(0, len(tangents), size)]
            found = [many(self.program.point + t * part) for part in parts]
            self.count += len(tangents)
            return np.concatenate(found)

        def values(t: float) -> F64:
            if self.batching is None and many is not None and min(size, len(tangents)) >= WORTH_IT:
                self.batching, found = _faster(at_once, one_by_one, t)
                return found
            if self.batching and self.batching.used:
                with suppress(Unavailable):  # one point where the function raises takes the others with it
                    return at_once(t)
            return one_by_one(t)

        return values

    def lines_of_entries(self, start: int, displacements: F64) -> Sequence[Phi]:
        """The lines that move a single entry each, made when they are asked for."""
        return _Lines(self, start, displacements)

    def line_of_entry(self, position: int, displacement: float) -> Phi:
        """The line that moves a single entry."""

        def phi(t: float) -> F64:
            point = self.program.point.copy()
            point[position] += t * displacement
            return self(point)

        return phi


def _within_memory(error: Exception) -> None:
    """Go on after an error of the function's own.

    Raises:
        NoMemoryError: where it is that memory has run out, which says nothing of the point.
    """
    if out_of_memory(error):
        raise NoMemoryError(f"the target ran out of memory ({one_line(error, 160)})") from None


class _Lines(Sequence[Phi]):
    def __init__(self, evaluator: Evaluator, start: int, displacements: F64) -> None:
        self.evaluator, self.start, self.displacements = evaluator, start, displacements

    def __len__(self) -> int:
        return int(self.displacements.size)

    def __getitem__(self, i: Any) -> Any:
        return self.evaluator.line_of_entry(self.start + i, float(self.displacements[i]))


def _faster(at_once: Callable[[float], F64], one_by_one: Callable[[float], F64], t: float) -> tuple[Batching, F64]:
    """Which way to take, and the values at t one by one."""
    began = time.perf_counter()
    values = one_by_one(t)
    alone = time.perf_counter() - began
    try:
        at_once(t)  # what is done once does not count
        began = time.perf_counter()
        again = at_once(t)
        together = time.perf_counter() - began
    except Unavailable as why:
        return Batching(False, f"evaluated one by one, as vmap cannot: {why}"), values
    with np.errstate(all="ignore"):
        same = np.nanmax(np.abs(again - values), initial=0.0) <= SAME * np.nanmax(np.abs(values), initial=0.0)
    speed = f"{alone / together:.1f} times as fast"
    if not same:
        return Batching(False, "evaluated one by one: through vmap the values are others"), values
    if together > SOONER * alone:
        return Batching(False, f"evaluated one by one: vmap is only {speed}"), values
    return Batching(True, f"evaluated {len(values)} at a time through vmap, {speed}"), values

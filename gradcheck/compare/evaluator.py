"""The function as the evidence sees it: every evaluation is counted, and none raises."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.backends.batching import MAX_BATCH_BYTES, MAX_BATCH_TIME, MIN_BATCH_SIZE
from gradcheck.backends.program import Unavailable
from gradcheck.errors import NoMemoryError
from gradcheck.evidence.line import F64, Phi
from gradcheck.tracebacks import is_out_of_memory, summarise_error

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gradcheck.backends.program import Program
    from gradcheck.compare.trial_recorder import Recorder


# The kernels that vmap uses may round differently by this much, relative to the largest value.
MAX_BATCH_DIFFERENCE = 1e-13
# A line that is remembered keeps at most about this many numbers.
MAX_REMEMBERED = 2**20
# An evaluation that uses the processor for less than this part of its time waits for something; else the machine was busy.
MIN_CPU_SHARE = 1 / 8


@dataclass(frozen=True)
class Batching:
    """Whether many points are evaluated at once, and why, for the report."""

    used: bool
    why: str


class Evaluator:
    """Evaluates a program and never raises: if the function raises or its output changes size, all outputs are NaN.

    Attributes:
        program: the program that is evaluated.
        recorder: counts the evaluations.
        last_error: the exception of the last evaluation that raised.
        seconds: the shortest time that an evaluation at a single point took, without what other processes took of it.
        start_time: when the evaluator was made, on the clock of `time.perf_counter`.
        batching: whether many points are evaluated at once; None until that was tried.
    """

    def __init__(self, program: Program, recorder: Recorder) -> None:
        self.program, self.recorder = program, recorder
        self.last_error: Exception | None = None
        self.seconds = 0.0
        self.start_time = time.perf_counter()
        self.batching: Batching | None = None

    def __call__(self, point: F64) -> F64:
        """Return the outputs at a point, (M,)."""
        self.recorder.count()
        start_time, start_cpu_time = time.perf_counter(), time.process_time()
        try:
            outputs = self.program.evaluate(point)
        except Exception as error:
            _raise_if_out_of_memory(error)
            self.last_error, outputs = error, np.empty(0)
        elapsed, cpu_time = time.perf_counter() - start_time, time.process_time() - start_cpu_time
        is_waiting = cpu_time < MIN_CPU_SHARE * elapsed  # for a device or another process
        self.seconds = min(self.seconds or math.inf, elapsed if is_waiting else min(elapsed, cpu_time))
        return outputs if outputs.shape == self.program.value.shape else np.full(self.program.value.shape, np.nan)

    @property
    def elapsed(self) -> float:
        """Seconds since the check began."""
        return time.perf_counter() - self.start_time

    def line(self, tangent: F64) -> Phi:
        """Return the line t -> f(x + t u)."""
        return lambda t: self(self.program.point + t * tangent)

    def line_without_copies(self, tangent: F64) -> Phi:
        """Return the line t -> f(x + t u) in the fastest way that the backend has.

        The next call may overwrite the outputs.
        """
        program = self.program
        evaluate_along = program.capabilities.evaluate_along or (lambda u: lambda t: [program.evaluate(program.point + t * u)])
        output_leaves = evaluate_along(tangent)

        def phi(t: float) -> F64:
            self.recorder.count()
            try:
                outputs = output_leaves(t)
            except Exception as error:
                _raise_if_out_of_memory(error)
                self.last_error, outputs = error, []
            if sum(part.size for part in outputs) != program.value.size:
                return np.full(program.value.shape, np.nan)
            return outputs[0] if len(outputs) == 1 else np.concatenate(outputs)

        return phi

    def lines(self, tangents: F64) -> Callable[[float], F64]:
        """Return several lines together, t -> the outputs on each, (L, M).

        They are evaluated at once if that gives the same values faster. The first evaluation is made in both ways and decides
        it for all that follow.
        """
        phis, evaluate_many = [self.line_without_copies(u) for u in tangents], self.program.capabilities.evaluate_many
        chunk = max(1, MAX_BATCH_BYTES // (8 * (self.program.point.size + self.program.value.size)))

        def one_by_one(t: float) -> F64:
            return np.stack([phi(t).copy() for phi in phis])

        def at_once(t: float) -> F64:
            assert evaluate_many is not None
            parts = [tangents[low : low + chunk] for low in range(0, len(tangents), chunk)]
            outputs = [evaluate_many(self.program.point + t * part) for part in parts]
            self.recorder.count(len(tangents))
            return np.concatenate(outputs)

        def evaluate(t: float) -> F64:
            if self.batching is None and evaluate_many is not None and min(chunk, len(tangents)) >= MIN_BATCH_SIZE:
                self.batching, outputs = _choose_batching(at_once, one_by_one, t)
                return outputs
            if self.batching and self.batching.used:
                with suppress(Unavailable):  # one point where the function raises takes the others with it
                    return at_once(t)
            return one_by_one(t)

        return evaluate

    def lines_of_entries(self, start: int, displacements: F64) -> Sequence[Phi]:
        """Return the lines that move a single entry each; a line is made when it is used.

        Args:
            start: position of the first entry in the flat vector.
            displacements: how far each line moves its entry per unit of t, (L,).
        """
        return _EntryLines(self, start, displacements)

    def line_of_entry(self, position: int, displacement: float) -> Phi:
        """Return the line that moves a single entry, by `displacement` per unit of t."""

        def phi(t: float) -> F64:
            point = self.program.point.copy()
            point[position] += t * displacement
            return self(point)

        return phi


def remember_line(phi: Phi, base: F64) -> Phi:
    """Return a line that evaluates the function once at each t; it remembers the outputs that move, if they are few.

    Args:
        phi: the line.
        base: phi(0).
    """
    remembered: dict[float, tuple[NDArray[np.intp], F64]] = {}

    def remembering_phi(t: float) -> F64:
        if t not in remembered:
            outputs = phi(t)
            moved = np.flatnonzero(outputs != base)
            if moved.size * (len(remembered) + 1) <= MAX_REMEMBERED:
                remembered[t] = moved, outputs[moved]
            return outputs
        outputs = base.copy()
        moved, values = remembered[t]
        outputs[moved] = values
        return outputs

    return remembering_phi


def _raise_if_out_of_memory(error: Exception) -> None:
    """Raise if an error of the function says nothing about the point, because memory ran out.

    Raises:
        NoMemoryError: if memory ran out.
    """
    if is_out_of_memory(error):
        raise NoMemoryError(f"the target ran out of memory ({summarise_error(error, 160)})") from None


class _EntryLines(Sequence[Phi]):
    """The lines that move a single entry each."""

    def __init__(self, evaluator: Evaluator, start: int, displacements: F64) -> None:
        self.evaluator, self.start, self.displacements = evaluator, start, displacements

    def __len__(self) -> int:
        return int(self.displacements.size)

    def __getitem__(self, i: Any) -> Any:
        return self.evaluator.line_of_entry(self.start + i, float(self.displacements[i]))


def _choose_batching(at_once: Callable[[float], F64], one_by_one: Callable[[float], F64], t: float) -> tuple[Batching, F64]:
    """Choose how to evaluate several lines; also return their values at t, evaluated one by one."""
    start_time = time.perf_counter()
    values = one_by_one(t)
    single_seconds = time.perf_counter() - start_time
    try:
        at_once(t)  # the first call may compile or allocate, so it is not timed
        start_time = time.perf_counter()
        batch_values = at_once(t)
        batch_seconds = time.perf_counter() - start_time
    except Unavailable as why:
        return Batching(False, f"evaluated one by one, as vmap cannot: {why}"), values
    with np.errstate(all="ignore"):
        difference = np.nanmax(np.abs(batch_values - values), initial=0.0)
        agree = difference <= MAX_BATCH_DIFFERENCE * np.nanmax(np.abs(values), initial=0.0)
    speed = f"{single_seconds / batch_seconds:.1f} times as fast"
    if not agree:
        return Batching(False, "evaluated one by one: vmap gives different values"), values
    if batch_seconds > MAX_BATCH_TIME * single_seconds:
        return Batching(False, f"evaluated one by one: vmap is only {speed}"), values
    return Batching(True, f"evaluated {len(values)} at a time through vmap, {speed}"), values

"""The function as the evidence sees it: counted, and never raising."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.evidence import noise, probes
from gradcheck.evidence.line import F64, Phi, Setting, slack_for
from gradcheck.seeds import generator

if TYPE_CHECKING:
    from gradcheck.backends.program import Program


PRECISE = 2.0**-52
FEW = 32  # numbers to differentiate: only so few can lie on the grid of the function's values by accident
DIRECTIONS = 3  # along which noise is measured in lower precision, where it varies more from one direction to another


class Evaluator:
    """Evaluates a program; where the function raises or changes its output's size off the primal, all outputs are NaN.

    `count` is of its calls, `seconds` the time that the last of them took.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self.count = 1  # the primal itself
        self.raised: Exception | None = None
        self.seconds = 0.0

    def __call__(self, point: F64) -> F64:
        """Return the outputs at a point, (M,)."""
        self.count += 1
        began = time.perf_counter()
        try:
            found = self.program.evaluate(point)
        except Exception as error:
            self.raised, found = error, np.empty(0)
        self.seconds = time.perf_counter() - began
        return found if found.shape == self.program.value.shape else np.full(self.program.value.shape, np.nan)

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
                self.raised, found = error, []
            if sum(part.size for part in found) != program.value.size:
                return np.full(program.value.shape, np.nan)
            return found[0] if len(found) == 1 else np.concatenate(found)

        return phi

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


class _Lines(Sequence[Phi]):
    def __init__(self, evaluator: Evaluator, start: int, displacements: F64) -> None:
        self.evaluator, self.start, self.displacements = evaluator, start, displacements

    def __len__(self) -> int:
        return int(self.displacements.size)

    def __getitem__(self, i: Any) -> Any:
        return self.evaluator.line_of_entry(self.start + i, float(self.displacements[i]))


def every_entry(program: Program, rng: np.random.Generator) -> F64:
    """A tangent that moves every entry by about its scale."""
    parts = [program.point[leaf.span] for leaf in program.leaves]
    return np.concatenate([rng.standard_normal(x.shape) * probes.scales_of(x) for x in parts])


def setting_for(evaluator: Evaluator, comparisons: int, label: object, spread: F64) -> Setting:
    """Measure the noise once, along directions that move every entry; each output is a channel.

    They are not rounded to exact displacements: what the rounding of the inputs does to the values is noise too.

    Args:
        comparisons: how many there will be; the more, the wider the bounds.
        label: the random stream's name.
        spread: what repeated evaluations at the primal differ by, (M,).
    """
    program = evaluator.program
    finest = probes.finest_step(program.eps)
    found, spacings = spread, len(noise.SPACINGS) if program.point.size <= FEW else 1
    for k in range(1 if program.eps <= PRECISE else DIRECTIONS):
        line = evaluator.line(every_entry(program, generator(0, "noise", label, k)))
        found = np.maximum(found, noise.measure(line, program.value, finest, program.eps, spacings=spacings))
    return Setting(program.value, found, program.eps, None, finest, slack_for(comparisons))

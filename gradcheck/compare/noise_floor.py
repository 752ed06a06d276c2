"""TODO: describe."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gradcheck.compare.evaluator import Evaluator
from gradcheck.evidence import directions, internal_rounding, noise
from gradcheck.evidence.line import F64, Phi, Setting, slack_for
from gradcheck.seeds import generator

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gradcheck.backends.program import Program

PRECISE = 2.0**-52
FEW = 32  # numbers to differentiate: only so few can lie on the grid of the function's values by accident
GLANCE = 2.0**-16  # a spacing at which most of what shows at coarse steps does
CANCELLED = 8.0  # units in an output's last place: with more noise it is the difference of larger terms
DIRECTIONS = 3  # along which noise is measured in lower precision, where it varies more from one direction to another


def every_entry(program: Program, rng: np.random.Generator) -> F64:
    """A tangent that moves every entry by about its scale."""
    parts = [program.point[leaf.span] for leaf in program.leaves]
    return np.concatenate([rng.standard_normal(x.shape) * directions.scales_of(x) for x in parts])


def _cancelled(program: Program, line: Phi) -> F64:
    """The noise of outputs far smaller than their leaf that are so because larger terms cancel, (M,); 0 of all others.

    At fine steps it need not show: of 1 + tanh(x) beside -1 only every millionth step moves. Where several such outputs tell it
    at coarse steps, what is usual among them holds for those in which the function's own curve hides it.
    """
    found, size, most = np.zeros(program.value.shape), np.abs(program.value), largest_terms(program)
    small = size < directions.SMALL * most
    if not np.any(small):
        return found
    with np.errstate(all="ignore"):
        around = np.fmax.reduce([size, *(np.abs(line(t)) for t in (-internal_rounding.FARTHEST, internal_rounding.FARTHEST))])

    def told_by(seen: F64) -> NDArray[np.bool_]:
        told = small & (seen > CANCELLED * program.eps * around) & (seen <= noise.LIKELY * program.eps * most)
        return np.asarray(told)

    with np.errstate(all="ignore"):
        if not np.any(told_by(noise.like_rounding(line, program.value, GLANCE))):
            return found
        seen = internal_rounding.levels(line, program.value)
    clear = told_by(seen)
    for leaf in program.outputs:
        own, told = seen[leaf.span], clear[leaf.span]
        if np.any(told):
            found[leaf.span] = np.where(small[leaf.span], np.where(told, own, np.median(own[told])), 0.0)
    return found


def largest_terms(program: Program) -> F64:
    """How large the terms may be that an output is the sum of, (M,): as its leaf is, or the inputs."""
    inputs = max((directions.scale_of(program.point[leaf.span]) for leaf in program.leaves), default=0.0)
    scales = [max(inputs, directions.scale_of(program.value[leaf.span])) for leaf in program.outputs]
    return np.repeat(scales, [leaf.entries * leaf.width for leaf in program.outputs])


def setting_for(evaluator: Evaluator, comparisons: int, label: object, spread: F64) -> Setting:
    """Measure the noise once, along directions that move every entry; each output is a channel.

    They are not rounded to exact displacements: what the rounding of the inputs does to the values is noise too.

    Args:
        comparisons: how many there will be; the more, the wider the bounds.
        label: the random stream's name.
        spread: what repeated evaluations at the primal differ by, (M,).
    """
    program = evaluator.program
    finest = directions.finest_step(program.eps)
    found, spacings = spread, len(noise.SPACINGS) if program.point.size <= FEW else 1
    for k in range(1 if program.eps <= PRECISE else DIRECTIONS):
        line = evaluator.line(every_entry(program, generator(0, "noise", label, k)))
        seen = noise.measure(line, program.value, finest, program.eps, spacings=spacings, coarsest=program.rounding)
        found = np.maximum(found, seen)
        if program.eps <= PRECISE:
            found = np.maximum(found, _cancelled(program, line))
    return Setting(program.value, found, program.eps, None, finest, slack_for(comparisons), program.rounding)

"""How far a claim is from the derivative of the traced operators: in high precision, or without python-flint in float64."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.exact import floating
from gradcheck.exact.high_precision import Point
from gradcheck.seeds import make_generator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradcheck.backends.flat import F64, Leaf
    from gradcheck.backends.program import Claim, ExactProgram, Program
    from gradcheck.compare.trial import Trial
    from gradcheck.exact.high_precision import Measurement

# A difference of a claim from the derivative counts from this many times the rounding that moved inputs show, and from this
# many times the largest derivative of the leaf.
MIN_RATIO_TO_ROUNDING = 8.0
# Without a FAIL of the numerical method, one by the identity needs a difference of this many times the rounding.
MIN_RATIO_TO_ROUNDING_OF_FAIL = 1e3
MIN_RELATIVE_DIFFERENCE = 1e-14
# In float64 the difference is measured at this many points next to the primal, each with its own cotangent moved alike.
MEASUREMENTS = 4
NUDGE = 2.0**-48
# In high precision an agreement must hold at this many points near the primal too, if the fields do not know it.
NEARBY_POINTS, DISTANCE = 2, 2.0**-10
# Of larger leaves this many entries are looked at: those that differ most in float64.
MAX_ENTRIES = 32


@dataclass(frozen=True)
class Difference:
    """A difference of a claim from the derivative.

    Attributes:
        claimed: the claim.
        derivative: the derivative.
        abs_err: their difference.
        rel_err: their difference, divided by the larger of them.
        bound: how far their difference may be off.
        is_clear: whether no rounding explains it.
        place: its entry of the leaf or of the outputs; None if it is of a sum of entries.
        of_outputs: whether the entry is one of the outputs, as in forward mode.
    """

    claimed: float
    derivative: float
    abs_err: float
    rel_err: float
    bound: float
    is_clear: bool
    place: int | None
    of_outputs: bool


def _draw_numbers(draw: np.random.Generator, size: int) -> F64:
    return np.asarray(draw.uniform(0.5, 1.0, size) * draw.choice([-1.0, 1.0], size))


def _move_nearby(draw: np.random.Generator, at: F64) -> F64:
    return at + DISTANCE * _draw_numbers(draw, at.size) * np.where(at == 0, 1.0, at)


class PreciseComparison:
    """The claims of a traced program, compared with the derivative of its operators in high precision.

    Args:
        trial: what is checked.
        claim: by reverse or forward mode.
        program: traced with that claim.
        most: numbers in the graph.

    Raises:
        NotAvailable: if python-flint is missing, or the graph is too large.
    """

    def __init__(self, trial: Trial, claim: Claim, program: ExactProgram, most: int) -> None:
        self.program, self.target, self.forward = program, trial.program, claim.vjp is None
        self.draw = make_generator(trial.options.seed, trial.label, "high precision", claim.method)
        self.vector = self._draw_numbers(self.target.point.size if self.forward else self.target.value.size)
        self.most = most
        self.primal = self._make_point(self.target.point)
        self.moved = [_move_nearby(self.draw, self.target.point) for _ in range(NEARBY_POINTS)]
        self.nearby = [self._make_point(at) for at in self.moved]

    def _draw_numbers(self, size: int) -> F64:
        return _draw_numbers(self.draw, size)

    def _make_point(self, at: F64) -> Point:
        leaves = self.target.leaves
        vectors = _split(self.vector, leaves if self.forward else self.target.outputs)
        return Point(self.program.identity, _split(at, leaves), vectors, self.most)

    def keeps_equal_numbers(self) -> bool:
        """Say whether no branch depends on numbers that are equal at the primal only."""
        return all(point.keeps_equal_numbers() for point in self.nearby)

    def compare(self, number: int, *, nearby: bool = False) -> Measurement | None:
        """Compare the claim on a leaf with the derivative, for random weights; None if that is not known.

        Args:
            number: of the leaf.
            nearby: whether to return the largest difference near the primal.
        """
        weights = self._weights(number, None)
        found = [point.compare(number, weights) for point in (self.nearby if nearby else [self.primal])]
        known = [measurement for measurement in found if measurement is not None]
        return max(known, key=lambda m: (m.differs, m.rel_err)) if len(known) == len(found) else None

    def find_difference(self, number: int, whole: Measurement, *, nearby: bool = False) -> Difference:
        """Find the entry of a leaf at which the claim is furthest from the derivative.

        Args:
            number: of the leaf.
            whole: the difference for random weights.
            nearby: whether to look near the primal.
        """
        at, point = (self.moved[0], self.nearby[0]) if nearby else (self.target.point, self.primal)
        claim, derivative = map(np.nan_to_num, _differentiate(self.target, self.program, at, self.vector, number))
        with np.errstate(all="ignore"):
            sizes = np.fmax(np.abs(claim), np.abs(derivative))
            errors = np.nan_to_num(np.abs(claim - derivative) / sizes)
        least, worst = MIN_RELATIVE_DIFFERENCE * np.max(sizes, initial=0.0), whole
        place: int | None = None
        for i in np.argsort(-errors, kind="stable")[:MAX_ENTRIES]:
            measured = point.compare(number, self._weights(number, int(i)))
            counts = measured is not None and measured.differs and measured.abs_err > least
            if measured and counts and (place is None or measured.rel_err > worst.rel_err):
                worst, place = measured, int(i)
        blurred = point.compare(number, self._weights(number, place), blurs=True)
        is_clear = blurred is not None and blurred.differs
        return Difference(
            worst.claimed, worst.derivative, worst.abs_err, worst.rel_err, worst.bound, is_clear, place, self.forward
        )

    def _weights(self, number: int, place: int | None) -> list[F64]:
        """Return random weights for the entries of a leaf or of the outputs; with a place, for it alone."""
        leaves = self.target.outputs if self.forward else self.target.leaves[number : number + 1]
        size = leaves[-1].span.stop - leaves[0].span.start
        numbers = np.zeros(size) if place is not None else self._draw_numbers(size)
        if place is not None:
            numbers[place] = 1.0
        return _split(numbers, leaves)


def _split(flat: F64, leaves: Sequence[Leaf]) -> list[F64]:
    """Return the part of each leaf, a complex one with a last axis of two; the first leaf begins with the first number."""
    start = leaves[0].span.start
    shapes = [(*leaf.shape, 2) if leaf.width == 2 else leaf.shape for leaf in leaves]
    parts = [flat[leaf.span.start - start : leaf.span.stop - start] for leaf in leaves]
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


def _differentiate(target: Program, program: ExactProgram, at: F64, vector: F64, number: int) -> tuple[F64, F64]:
    """Return the claim on a leaf and the derivative; in forward mode, those of the outputs for a tangent of this leaf alone."""
    leaves, forward, vector = target.leaves, bool(program.identity.tangents), vector.copy()
    if forward:
        span = leaves[number].span
        vector[: span.start] = vector[span.stop :] = 0.0
    vectors = _split(vector, leaves if forward else target.outputs)
    return floating.differentiate(program.identity, _split(at, leaves), vectors, number)


def measure_in_float64(trial: Trial, program: ExactProgram, number: int, *, nearby: bool = False) -> Difference | None:
    """Measure in float64 how far a claim is from the derivative, at a point and next to it; None if it does not show.

    Args:
        trial: what is checked.
        program: traced with a claim.
        number: of the leaf.
        nearby: whether the point is near the primal, and not the primal.
    """
    target, forward = trial.program, bool(program.identity.tangents)
    draw = make_generator(trial.options.seed, trial.label, "exact differences", target.leaves[number].path)
    vector = _draw_numbers(draw, target.point.size if forward else target.value.size)
    at = _move_nearby(draw, target.point) if nearby else target.point
    pairs = [_differentiate(target, program, at, vector, number)]
    for _ in range(MEASUREMENTS):
        nudged = at * (1 + NUDGE * draw.uniform(-1.0, 1.0, target.point.size))
        pairs.append(_differentiate(target, program, nudged, vector, number))
    claimed, derivative = pairs[0]
    with np.errstate(all="ignore"):
        differences = np.stack([c - d for c, d in pairs])
        rounding = np.max(np.abs(differences - differences[0]), axis=0)
        apart, scale = np.abs(claimed - derivative), np.fmax(np.abs(claimed), np.abs(derivative))
        least = np.fmax(MIN_RATIO_TO_ROUNDING * rounding, MIN_RELATIVE_DIFFERENCE * np.max(scale, initial=0.0))
        errors = np.where(apart > least, apart / scale, 0.0)
    i = int(np.nanargmax(errors))
    if not errors[i] > 0:
        return None
    is_clear = bool(apart[i] > MIN_RATIO_TO_ROUNDING_OF_FAIL * rounding[i])
    of_claim, of_derivative, abs_err, rel_err, bound = (float(x[i]) for x in (claimed, derivative, apart, errors, rounding))
    return Difference(of_claim, of_derivative, abs_err, rel_err, bound, is_clear, i, forward)

"""How far a claim is from the derivative at one point, in real numbers of fifty digits and more with bounds of their errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.exact.arithmetic import list_ancestors
from gradcheck.exact.graph import F64, Linear, Node, NotAvailable
from gradcheck.exact.identity import Identity

if TYPE_CHECKING:
    from gradcheck.exact.balls import BallEvaluation, Balls

NO_FLINT = "high precision needs python-flint: pip install 'gradcheck[exact]'"
# Bits of the midpoints: about 60 digits, and if the balls are too wide then, 420.
PRECISIONS = (208, 1400)
# Two numbers agree if they are known to differ by at most this much, relative to their size: 30 digits.
AGREEMENT = 2.0**-100
# A difference is known if its ball is this much smaller.
KNOWN = 2.0**-10
# Smaller numbers are zero in float64.
ZERO_EXPONENT = -1075


@dataclass(frozen=True)
class Measurement:
    """A claim and the derivative, each weighted and added up, to within the radius of their balls.

    Attributes:
        claimed: the claim, rounded to a float.
        derivative: the derivative, rounded to a float.
        abs_err: their difference.
        rel_err: their difference, at most; divided by the sum of the sizes of what was added up.
        differs: whether they are different for certain.
        bound: the radius of the ball of their difference.
    """

    claimed: float
    derivative: float
    abs_err: float
    rel_err: float
    differs: bool
    bound: float


class Point:
    """A point at which the claims of an identity are compared with the derivative.

    Args:
        identity: the program and its claims.
        leaves: the numbers of every leaf.
        vectors: those of every cotangent, or in forward mode of every leaf's tangent.
        most: numbers in the graph.

    Raises:
        NotAvailable: if python-flint is missing, or the graph is too large.
    """

    def __init__(self, identity: Identity, leaves: Sequence[F64], vectors: Sequence[F64], most: int) -> None:
        self.identity, self.leaves, self.vectors = identity, leaves, vectors
        self._evaluations: dict[Any, tuple[BallEvaluation, dict[Node, Balls | None]]] = {}
        try:
            from gradcheck.exact import balls  # python-flint is an extra
        except ImportError:
            raise NotAvailable(NO_FLINT) from None
        self._balls = balls
        count = sum(prod(node.shape) for node in self._nodes)
        if count > most:
            raise NotAvailable(f"a graph of {count:,} numbers is too large for high precision")

    @cached_property
    def _nodes(self) -> list[Node]:
        ends = [*self.identity.outputs, *(claim for claim in self.identity.claims if claim is not None)]
        return list_ancestors(ends, lambda _: False, lambda node: node.arguments)

    @cached_property
    def _has_ties(self) -> bool:
        return any(isinstance(node, Linear) and node.at_ties is not None for node in self._nodes)

    def compare(self, leaf: int, weights: Sequence[F64], *, blurs: bool = False) -> Measurement | None:
        """Compare the claim on a leaf with the derivative, each multiplied with weights and added up.

        Args:
            leaf: its number.
            weights: for the entries of the leaf, or in forward mode for those of every output.
            blurs: whether every constant may be off by the rounding of the program's.

        Returns:
            None if the balls stay too wide, or if the choice among equal numbers matters.
        """
        for bits in PRECISIONS[:1] if blurs else PRECISIONS:
            with self._balls.working_precision(bits):
                sides = self._evaluate(leaf, weights, bits, at_ties=False, blurs=blurs)
                if self._has_ties:
                    others = self._evaluate(leaf, weights, bits, at_ties=True, blurs=blurs)
                    if not all(a.overlaps(b) for a, b in zip(sides, others, strict=True)):
                        return None
                measurement = _measure(*sides, may_be_wide=blurs)
            if measurement is not None:
                return measurement
        return None

    def keeps_equal_numbers(self) -> bool:
        """Say whether numbers that a branch depends on, and that are equal at the primal, are equal here too."""
        with self._balls.working_precision(PRECISIONS[0]):
            evaluation, _ = self._prepare(0, PRECISIONS[0], at_ties=False, blurs=False)
            return all(
                a.overlaps(b)
                for e in self.identity.equalities
                for a, b in np.broadcast(*(evaluation.value(node) for node in (e.first, e.second)))
            )

    def _prepare(self, leaf: int, bits: int, **settings: bool) -> tuple[BallEvaluation, dict[Node, Balls | None]]:
        """Return the evaluation for a leaf, which in forward mode is the only one with a tangent, and the known derivatives."""
        forward = bool(self.identity.tangents)
        key = (leaf if forward else None, bits, *settings.values())
        if key not in self._evaluations:
            make = self._balls.make_balls
            inputs: dict[Node, Any] = {node: make(x) for node, x in zip(self.identity.leaves, self.leaves, strict=True)}
            for i, (node, x) in enumerate(zip(self.identity.tangents or self.identity.cotangents, self.vectors, strict=True)):
                inputs[node] = make(np.zeros_like(x) if forward and i != leaf else x)
            self._evaluations[key] = self._balls.BallEvaluation(inputs, **settings), {}
        return self._evaluations[key]

    def _evaluate(self, leaf: int, weights: Sequence[F64], bits: int, **settings: bool) -> tuple[Any, Any, Any]:
        """Return claim, derivative, and the sum of the sizes of the claim's terms."""
        identity = self.identity
        evaluation, memory = self._prepare(leaf, bits, **settings)
        factors = [self._balls.make_balls(x) for x in weights]
        node = identity.leaves[leaf]
        if identity.tangents:
            tangents: dict[Node, Balls] = {node: evaluation.value(identity.tangents[leaf])}
            outer, claims = factors, identity.claims
        else:
            tangents, memory = {node: factors[0]}, {}
            outer, claims = [evaluation.value(cotangent) for cotangent in identity.cotangents], (identity.claims[leaf],)
        parts = [evaluation.tangent(output, tangents, memory) for output in identity.outputs]
        derivative = sum((np.sum(g * part) for g, part in zip(outer, parts, strict=True) if part is not None), start=0)
        terms = [w * evaluation.value(c) for w, c in zip(factors, claims, strict=True) if c is not None]
        zero = self._balls.make_balls(np.zeros(()))[()]
        return zero + sum(map(np.sum, terms)), zero + derivative, zero + sum(np.sum(abs(term)) for term in terms)


def _measure(claim: Any, derivative: Any, size: Any, *, may_be_wide: bool) -> Measurement | None:
    """Compare two balls; None if they are too wide to say how far they are apart, or to say that they agree."""
    difference = claim - derivative
    if not difference.is_finite():
        return None
    size = size.max(abs(derivative))
    upper, lower, least = difference.abs_upper(), difference.abs_lower(), size.abs_lower()
    numbers = float(claim.mid()), float(derivative.mid()), float(abs(difference).mid())
    if size.abs_upper() < type(size)((1, ZERO_EXPONENT)):
        return Measurement(0.0, 0.0, 0.0, 0.0, differs=False, bound=0.0)
    differs = bool(lower > 0)
    agrees = bool(upper <= AGREEMENT * least)
    is_known = differs and (may_be_wide or bool(2 * difference.rad() <= KNOWN * lower))
    if not agrees and not is_known:
        return None
    return Measurement(*numbers, float((upper / least).upper()), differs=differs, bound=float(difference.rad()))

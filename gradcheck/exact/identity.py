"""The identity that makes a claim the derivative, <g, J t> = <claim(g), t>, decided at random points of prime fields."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from gradcheck.exact.evaluation import Evaluation
from gradcheck.exact.field import CHAIN_HEADS, PrimeField, Residues, make_chain
from gradcheck.exact.graph import Input, Node

# Random points in which every output takes part if time allows, and at least.
POINTS, MIN_POINTS = 3, 2
# Points that are tried at most: at some of them a square root does not exist.
MAX_POINTS = 64
FEW_POINTS = "too few points of the fields decide, because of {}"


class Outcome(Enum):
    """What is known of the claim on one leaf."""

    PROVED = "proved"
    REFUTED = "refuted"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Identity:
    """A program and its claim as one graph.

    Attributes:
        leaves: the inputs.
        cotangents: one for each output.
        outputs: the values.
        claims: the claimed gradient of each leaf; None: zero.
    """

    leaves: tuple[Input, ...]
    cotangents: tuple[Input, ...]
    outputs: tuple[Node, ...]
    claims: tuple[Node | None, ...]


@dataclass(frozen=True)
class Decision:
    """What the random points showed.

    Attributes:
        outcomes: for each leaf.
        points: the number of random points that count.
        unknown: the names of the functions that took part without their identities.
        why: why an outcome is unknown.
    """

    outcomes: list[Outcome]
    points: int
    unknown: set[str]
    why: str = ""


def decide(identity: Identity, seed: int, seconds: float) -> Decision:
    """Decide the identity, leaf by leaf.

    Args:
        identity: the program and its claim.
        seed: of the random points.
        seconds: that this may take, roughly.

    Raises:
        NotAvailable: if the graph has an operation that the fields do not express.
    """
    began, chains = time.perf_counter(), [make_chain(head) for head in CHAIN_HEADS]
    everything, unknown, filled = range(len(identity.leaves)), set[str](), set[str]()
    counts = [np.zeros(output.shape, np.int64) for output in identity.outputs]
    for number in range(MAX_POINTS):
        point = _Point(identity, chains[number % len(chains)], seed, number)
        agrees = point.compare(everything)
        unknown |= point.evaluations[0].unknown
        filled |= point.evaluations[0].filled
        if agrees is False:
            wrong = {i for i in everything if point.compare([i]) is False}
            outcomes = [Outcome.REFUTED if i in wrong else Outcome.UNKNOWN for i in everything]
            return Decision(outcomes, 1, unknown, "" if wrong else _explain(filled))
        if agrees:
            for count, is_known in zip(counts, point.known_outputs, strict=True):
                count += is_known
        if _count_points(counts) >= POINTS or time.perf_counter() - began > seconds:
            break
    points = _count_points(counts)
    if points < MIN_POINTS:
        return Decision([Outcome.UNKNOWN] * len(everything), points, unknown, _explain(filled))
    return Decision([Outcome.PROVED] * len(everything), points, unknown)


def _explain(filled: set[str]) -> str:
    return FEW_POINTS.format(" and ".join(sorted(filled)) or "the time that they take")


def _count_points(counts: Sequence[Residues]) -> int:
    """Count the points in which every entry of every output took part."""
    return min((int(np.min(count)) for count in counts if count.size), default=POINTS)


class _Point:
    """A random point, evaluated twice if something had to be filled in there.

    Attributes:
        known_outputs: for each output, whether its entries depend on nothing that was filled in.
    """

    def __init__(self, identity: Identity, chain: Sequence[PrimeField], seed: int, number: int) -> None:
        self.identity, self.p = identity, chain[0].p
        draw = np.random.default_rng([seed, number])

        def draw_all(node: Input) -> list[Residues]:
            return [draw.integers(1, field.p, node.shape) for field in chain]

        inputs: dict[Node, Sequence[Residues]] = {leaf: draw_all(leaf) for leaf in identity.leaves}
        function_seed = int(draw.integers(2**31))
        self.evaluations = [Evaluation(chain, inputs, function_seed, filling) for filling in (0, 1)]
        self.tangents: dict[Node, Residues] = {leaf: draw.integers(1, self.p, leaf.shape) for leaf in identity.leaves}
        self.known_outputs = self._find_known_outputs()
        for cotangent, is_known in zip(identity.cotangents, self.known_outputs, strict=True):
            inputs[cotangent] = [np.where(is_known, residues, 0) for residues in draw_all(cotangent)]

    def _find_known_outputs(self) -> list[NDArray[np.bool_]]:
        """Mark the entries of the outputs that depend on nothing that was filled in, nor does their derivative."""
        first = self._evaluate_outputs(self.evaluations[0])
        if not self.evaluations[0].filled:
            return [np.ones(output.shape, bool) for output in self.identity.outputs]
        second = self._evaluate_outputs(self.evaluations[1])
        return [np.asarray((a[0] == b[0]) & (a[1] == b[1])) for a, b in zip(first, second, strict=True)]

    def _evaluate_outputs(self, evaluation: Evaluation) -> list[tuple[Residues, Residues | int]]:
        memory = dict[Node, Residues | None]()
        pairs = [(evaluation.value(x), evaluation.tangent(x, self.tangents, memory)) for x in self.identity.outputs]
        return [(value, 0 if tangent is None else tangent) for value, tangent in pairs]

    def compare(self, leaves: Sequence[int]) -> bool | None:
        """Say whether both sides agree for tangents of some leaves; None if they depend on what was filled in."""
        sides = self._evaluate_sides(self.evaluations[0], leaves)
        if self.evaluations[0].filled and self._evaluate_sides(self.evaluations[1], leaves) != sides:
            return None
        return sides[0] == sides[1]

    def _evaluate_sides(self, evaluation: Evaluation, leaves: Sequence[int]) -> tuple[int, int]:
        """Return <g, J t> and <claim, t>."""
        identity, memory = self.identity, dict[Node, Residues | None]()
        tangents: Mapping[Node, Residues] = {identity.leaves[i]: self.tangents[identity.leaves[i]] for i in leaves}
        left = right = 0
        for cotangent, output in zip(identity.cotangents, identity.outputs, strict=True):
            part = evaluation.tangent(output, tangents, memory)
            if part is not None:
                left += int(np.sum(evaluation.inputs[cotangent][0] * part % self.p))
        for i in leaves:
            claim = identity.claims[i]
            if claim is not None:
                right += int(np.sum(evaluation.value(claim) * self.tangents[identity.leaves[i]] % self.p))
        return left % self.p, right % self.p

"""The identity that makes a claim the derivative, <g, J t> = <claim(g), t>, decided at random points of prime fields."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from gradcheck.exact.arithmetic import list_ancestors
from gradcheck.exact.evaluation import Evaluation
from gradcheck.exact.field import CHAIN_HEADS, PrimeField, Residues, make_chain
from gradcheck.exact.graph import Input, Log, Node, PowerOfArray
from gradcheck.exact.roots import draw_until_roots_exist

# Random points in which every output takes part if time allows, and at least. The fewest are tried however long they take.
POINTS, MIN_POINTS = 3, 2
# Points that are tried at most: at some of them a square root does not exist.
MAX_POINTS = 64
FEW_POINTS = "too few random points decide, because of {}"

EQUAL_BY_CHANCE = "a branch depends on numbers that are equal at these inputs only"


class IdentityOutcome(Enum):
    """What is known of the claim on one leaf."""

    PROVED = "proved"
    REFUTED = "refuted"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Equality:
    """Two operands of a comparison, and where they are equal in floating point."""

    first: Node
    second: Node
    where: NDArray[np.bool_]


@dataclass(frozen=True)
class Identity:
    """A program and its claim as one graph.

    Attributes:
        leaves: the inputs.
        cotangents: one for each output.
        outputs: the values.
        claims: the claimed gradient of each leaf, or in forward mode the claimed derivative of each output; None: zero.
        tangents: in forward mode, the tangents that the claims depend on, one for each leaf.
        equalities: numbers that a branch depends on, and that must be equal at every point.
    """

    leaves: tuple[Input, ...]
    cotangents: tuple[Input, ...]
    outputs: tuple[Node, ...]
    claims: tuple[Node | None, ...]
    tangents: tuple[Input, ...] = ()
    equalities: tuple[Equality, ...] = ()

    def depends_on_leaves(self, number: int) -> bool:
        """Say whether a claim depends on any leaf."""
        claim = self.claims[number]
        return claim is not None and not set(self.leaves).isdisjoint(
            list_ancestors([claim], lambda _: False, lambda n: n.arguments)
        )


@dataclass(frozen=True)
class IdentityDecision:
    """What the random points showed.

    Attributes:
        outcomes: for each leaf.
        points: the number of random points that count.
        unknown: the names of the functions that took part without their identities.
        why: why an outcome is unknown.
    """

    outcomes: list[IdentityOutcome]
    points: int
    unknown: set[str]
    why: str = ""


def decide(identity: Identity, seed: int, seconds: float) -> IdentityDecision:
    """Decide the identity, leaf by leaf.

    Args:
        identity: the program and its claim.
        seed: of the random points.
        seconds: that this may take, roughly.

    Raises:
        NotAvailable: if the graph has an operation that the fields do not express.
    """
    decision = _decide(identity, seed, seconds, expands_logs=False)
    if IdentityOutcome.REFUTED not in decision.outcomes or not _has_log(identity):
        return decision
    expanded = _decide(identity, seed, seconds, expands_logs=True)
    pairs = zip(decision.outcomes, expanded.outcomes, strict=True)
    outcomes = [new if new is IdentityOutcome.PROVED else old for old, new in pairs]
    return replace(expanded if IdentityOutcome.REFUTED not in outcomes else decision, outcomes=outcomes)


def _has_log(identity: Identity) -> bool:
    nodes = [*identity.outputs, *(claim for claim in identity.claims if claim is not None)]
    return any(isinstance(node, Log | PowerOfArray) for node in list_ancestors(nodes, lambda _: False, lambda n: n.arguments))


def _decide(identity: Identity, seed: int, seconds: float, *, expands_logs: bool) -> IdentityDecision:
    began, chains = time.perf_counter(), [make_chain(head) for head in CHAIN_HEADS]
    undecided, refuted = list(range(len(identity.leaves))), set[int]()
    unknown, filled = set[str](), set[str]()
    counts = [np.zeros(output.shape, np.int64) for output in identity.outputs]
    for number in range(MAX_POINTS):
        point = _Point(identity, chains[number % len(chains)], seed, number, expands_logs=expands_logs)
        if not point.keeps_equal_numbers():
            return _conclude(identity, refuted, 0, unknown, EQUAL_BY_CHANCE)
        agrees = point.compare(undecided)
        if agrees is False:
            refuted |= {i for i in undecided if point.compare([i]) is False}
            undecided = [i for i in undecided if i not in refuted]
            agrees = point.compare(undecided)
        unknown |= point.evaluations[0].unknown
        filled |= point.evaluations[0].filled
        if agrees:
            for count, is_known in zip(counts, point.known_outputs, strict=True):
                count += is_known
        is_late = time.perf_counter() - began > seconds and number + 1 >= MIN_POINTS
        if not undecided or agrees is False or _count_points(counts) >= POINTS or is_late:
            break
    points = 0 if agrees is False else _count_points(counts)
    return _conclude(identity, refuted, points, unknown, _explain(filled))


def _conclude(identity: Identity, refuted: set[int], points: int, unknown: set[str], why: str) -> IdentityDecision:
    """Conclude from the claims that are refuted and the points at which all others hold; `why` is for too few points."""
    other = IdentityOutcome.PROVED if points >= MIN_POINTS else IdentityOutcome.UNKNOWN
    outcomes = [IdentityOutcome.REFUTED if i in refuted else other for i in range(len(identity.leaves))]
    return IdentityDecision(outcomes, points, unknown, why if IdentityOutcome.UNKNOWN in outcomes else "")


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

    def __init__(self, identity: Identity, chain: Sequence[PrimeField], seed: int, number: int, *, expands_logs: bool) -> None:
        self.identity, self.p = identity, chain[0].p
        draw = np.random.default_rng([seed, number])

        def draw_all(node: Input) -> list[Residues]:
            return [draw.integers(1, field.p, node.shape) for field in chain]

        inputs: dict[Node, Sequence[Residues]] = {leaf: draw_all(leaf) for leaf in identity.leaves}
        function_seed = int(draw.integers(2**31))
        draw_until_roots_exist(
            [*identity.outputs, *(claim for claim in identity.claims if claim is not None)],
            inputs,
            chain,
            lambda: Evaluation(chain, inputs, function_seed, expands_logs=expands_logs),
            draw,
        )
        self.evaluations = [Evaluation(chain, inputs, function_seed, filling, expands_logs=expands_logs) for filling in (0, 1)]
        self.tangents: dict[Node, Residues] = {leaf: draw.integers(1, self.p, leaf.shape) for leaf in identity.leaves}
        for tangent, leaf in zip(identity.tangents, identity.leaves, strict=False):
            inputs[tangent] = [self.tangents[leaf], *draw_all(tangent)[1:]]
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

    def keeps_equal_numbers(self) -> bool:
        """Say whether numbers that are equal in floating point are equal here, too."""
        value = self.evaluations[0].value
        pairs = [(np.asarray(value(e.first) == value(e.second)), e.where) for e in self.identity.equalities]
        return all(bool(np.all(equal | ~where)) for equal, where in pairs)

    def compare(self, leaves: Sequence[int]) -> bool | None:
        """Say whether both sides agree for tangents of some leaves; None if they depend on what was filled in."""
        evaluations = [self._restrict(evaluation, leaves) for evaluation in self.evaluations]
        sides = self._evaluate_sides(evaluations[0], leaves)
        if self.evaluations[0].filled | evaluations[0].filled and self._evaluate_sides(evaluations[1], leaves) != sides:
            return None
        return sides[0] == sides[1]

    def _restrict(self, evaluation: Evaluation, leaves: Sequence[int]) -> Evaluation:
        """Return the evaluation with the tangents of some leaves only, if the claims depend on them."""
        others = [tangent for i, tangent in enumerate(self.identity.tangents) if i not in leaves]
        if not others:
            return evaluation
        zeros: dict[Node, Sequence[Residues]] = {
            tangent: [np.zeros(tangent.shape, np.int64)] * len(evaluation.chain) for tangent in others
        }
        inputs = {**evaluation.inputs, **zeros}
        return Evaluation(evaluation.chain, inputs, evaluation.seed, evaluation.filling, expands_logs=evaluation.expands_logs)

    def _evaluate_sides(self, evaluation: Evaluation, leaves: Sequence[int]) -> tuple[int, int]:
        """Return <g, J t> and <claim, t>, or in forward mode <g, claim>."""
        identity, memory = self.identity, dict[Node, Residues | None]()
        tangents: Mapping[Node, Residues] = {identity.leaves[i]: self.tangents[identity.leaves[i]] for i in leaves}
        cotangents = [evaluation.inputs[cotangent][0] for cotangent in identity.cotangents]
        derivatives = [evaluation.tangent(output, tangents, memory) for output in identity.outputs]
        left = [(g, part) for g, part in zip(cotangents, derivatives, strict=True) if part is not None]
        if identity.tangents:
            claimed = list(zip(cotangents, identity.claims, strict=True))
        else:
            claimed = [(self.tangents[identity.leaves[i]], identity.claims[i]) for i in leaves]
        right = [(weight, evaluation.value(claim)) for weight, claim in claimed if claim is not None]
        return self._add_products(left), self._add_products(right)

    def _add_products(self, pairs: Sequence[tuple[Residues, Residues]]) -> int:
        return sum(int(np.sum(a * b % self.p)) for a, b in pairs) % self.p

"""What the tracers of all backends share: which graphs are translated, and whether one computes what its program computes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gradcheck.exact import floating
from gradcheck.exact.graph import F64, Input, Node, NotAvailable
from gradcheck.exact.identity import Equality, Identity

# Larger graphs are not translated: this many operators, and numbers in all their results together.
MAX_OPERATORS = 20_000
MAX_NUMBERS = 5_000_000
# How far a graph may differ from its program, relative to the largest number: rounding in another order.
MAX_DIFFERENCE = 1e-9
SHIFT = 1e-4
TRACE_DIFFERS = "the traced graph does not compute what the program computes"
RULE_DIFFERS = "the exact graph does not compute what the program computes"


def shift(point: F64, draw: np.random.Generator) -> F64:
    """Return a point close by."""
    return np.asarray(point * (1 + SHIFT * draw.standard_normal(point.size)))


def require_same(computed: F64, expected: F64, message: str) -> None:
    """Raise unless two vectors are the same, but for rounding.

    Raises:
        NotAvailable: with the message.
    """
    with np.errstate(all="ignore"):
        apart = np.abs(computed - expected) > MAX_DIFFERENCE * np.max(np.abs(expected), initial=1e-300)
    if np.any(apart & (computed != expected)):
        raise NotAvailable(message)


def evaluate_graph(nodes: Sequence[Node | None], inputs: Sequence[Input], arrays: Sequence[F64]) -> list[F64 | None]:
    """Evaluate an exact graph in floating point.

    Args:
        nodes: of the graph.
        inputs: of the graph.
        arrays: their numbers.
    """
    numbers: dict[Node, F64] = dict(zip(inputs, arrays, strict=True))
    floats = iter(floating.evaluate([node for node in nodes if node is not None], numbers))
    return [None if node is None else next(floats) for node in nodes]


def make_identity(
    outputs: Sequence[Node | None],
    claims: Sequence[Node | None],
    leaves: Sequence[Input],
    vectors: Sequence[Input],
    equalities: Sequence[Equality],
    *,
    forward: bool,
) -> Identity:
    """Make the identity of a program and its claim.

    Args:
        outputs: of the program.
        claims: a gradient for each leaf, or in forward mode a derivative for each output.
        leaves: the inputs.
        vectors: a cotangent for each output, or in forward mode a tangent for each leaf.
        equalities: numbers that a branch depends on.
        forward: whether the claim is one of forward mode.
    """
    values = tuple(node for node in outputs if node is not None)
    cotangents = tuple(Input(node.shape) for node in values) if forward else tuple(vectors)
    tangents = tuple(vectors) if forward else ()
    return Identity(tuple(leaves), cotangents, values, tuple(claims), tangents, tuple(equalities))

"""Random points at which square roots exist: what a root depends on is drawn again, slice by slice, until it is of a square."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import numpy as np
from numpy.typing import NDArray

from gradcheck.exact.arithmetic import list_ancestors
from gradcheck.exact.evaluation import Evaluation
from gradcheck.exact.field import PrimeField, Residues
from gradcheck.exact.graph import Input, Node, Power

# So often are slices drawn again at one point: each time about half of the roots that do not exist begin to.
MAX_DRAWS = 40


def draw_until_roots_exist(
    outputs: Sequence[Node],
    inputs: dict[Node, Sequence[Residues]],
    chain: Sequence[PrimeField],
    evaluate: Callable[[], Evaluation],
    draw: np.random.Generator,
) -> None:
    """Change inputs in place so that more roots exist; it may fail, and then a point decides less.

    A layer that normalises n channels takes n roots, each of numbers that depend on one slice of the weights before it. We look
    for a leaf with n slices, and draw those again whose root does not exist.

    Args:
        outputs: of the program, and its claims; roots that depend on cotangents are left as they are.
        inputs: the values of every leaf in each field.
        chain: the fields.
        evaluate: makes an evaluation of the inputs as they are.
        draw: draws residues.
    """
    nodes = list_ancestors(outputs, lambda _: False, lambda node: node.arguments)
    others: set[Node] = {node for node in nodes if isinstance(node, Input) and node not in inputs}
    for node in nodes:
        others |= {node} if any(argument in others for argument in node.arguments) else set()
    roots = [node for node in nodes if isinstance(node, Power) and node.exponent.denominator != 1 and node not in others]
    choices = {root: _list_slicings(root, list(inputs)) for root in roots}
    for _ in range(MAX_DRAWS if roots else 0):
        evaluation = evaluate()
        missing = ((root, _mark_missing(root, evaluation, chain[0])) for root in roots)
        root, where = next(((root, where) for root, where in missing if where.any()), (None, None))
        if root is None or where is None or not choices[root]:
            return
        leaf, axes = choices[root][0]
        before = evaluation.value(root.arguments[0])
        chosen = where.reshape([n if axis in axes else 1 for axis, n in enumerate(leaf.shape)])
        kept = inputs[leaf]
        fresh = [draw.integers(1, field.p, leaf.shape) for field in chain]
        inputs[leaf] = [np.where(chosen, new, old) for new, old in zip(fresh, kept, strict=True)]
        changed = evaluate().value(root.arguments[0]) != before
        if not np.array_equal(changed, where):  # the roots do not depend on a slice each
            inputs[leaf] = kept
            choices[root].pop(0)


def _mark_missing(root: Node, evaluation: Evaluation, field: PrimeField) -> NDArray[np.bool_]:
    return ~field.is_square(evaluation.value(root.arguments[0]))


def _list_slicings(root: Node, leaves: Sequence[Node]) -> list[tuple[Node, tuple[int, ...]]]:
    """List the leaves that a root depends on, with axes along which they have as many slices as the root has entries."""
    count = prod(root.shape)
    upstream = {node for node in list_ancestors([root], lambda _: False, lambda n: n.arguments) if isinstance(node, Input)}
    found: list[tuple[Node, tuple[int, ...]]] = []
    for leaf in sorted((leaf for leaf in leaves if leaf in upstream), key=lambda leaf: -prod(leaf.shape)):
        groups = [(axis,) for axis in range(len(leaf.shape))] + [tuple(range(k)) for k in range(2, len(leaf.shape) + 1)]
        found += [(leaf, axes) for axes in groups if prod(leaf.shape[axis] for axis in axes) == count]
    return found

"""The branches that a trace takes: what the floating-point values of the inputs choose, by name, and a fingerprint of it."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import numpy as np

from gradcheck.exact.arithmetic import list_ancestors
from gradcheck.exact.graph import Constants, Linear, Node

# How comparisons and conversions are named, which are no operators of their own to a reader.
COMPARISON, TO_INTEGERS = "comparisons", "a conversion to integers"


class Branches:
    """What the floating-point values of a trace choose.

    Attributes:
        names: of the operators that choose.
    """

    def __init__(self) -> None:
        self.names: set[str] = set()
        self._digest = blake2b(digest_size=8)

    @property
    def fingerprint(self) -> str:
        """A text that is the same for two traces that chose alike; '' if nothing was chosen."""
        return self._digest.hexdigest() if self.names else ""

    def add(self, name: str, result: Any = None, operands: Sequence[Any] = ()) -> None:
        """Add a choice.

        Args:
            name: of the operator.
            result: its numbers, if they are truth values or integers, or its node.
            operands: its nodes.
        """
        self.names.add(name)
        choices = _list_choices(result, operands) if isinstance(result, Node) else [result]
        for choice in [] if result is None else choices:
            self._digest.update(np.ascontiguousarray(choice).tobytes())


def _list_choices(result: Node, operands: Sequence[Any]) -> list[Any]:
    """List which entries a node takes of the operands, and the constants in it."""
    choices = list[Any]()
    for node in list_ancestors([result], set(operands).__contains__, lambda n: n.arguments):
        if isinstance(node, Linear) and node.moves:
            sizes = [int(np.prod(argument.shape)) for argument in node.arguments]
            places = np.split(np.arange(float(sum(sizes))), np.cumsum(sizes)[:-1])
            choices.append(node.apply([x.reshape(n.shape) for x, n in zip(places, node.arguments, strict=True)]))
        elif isinstance(node, Constants):
            choices += [node.places, repr(node.distinct).encode()]
    return choices

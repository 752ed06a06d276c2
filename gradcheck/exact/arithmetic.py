"""The derivatives of a graph's nodes along a tangent, in any arithmetic: residues modulo a prime, or balls of real numbers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from gradcheck.exact.constants import Constant
from gradcheck.exact.graph import (
    Bilinear,
    Exp,
    Function,
    Input,
    Linear,
    Log,
    Node,
    NotAvailable,
    Power,
    PowerOfArray,
    Product,
    Sum,
    Undefined,
)

Array = Any  # a NumPy array of the numbers of an arithmetic


class Arithmetic(ABC):
    """The values of nodes in an arithmetic, which a subclass gives, and the derivatives that follow from them."""

    def __init__(self) -> None:
        self._derivatives: dict[Node, Node] = {}

    @abstractmethod
    def value(self, node: Node) -> Array:
        """Return the numbers of a node."""

    @abstractmethod
    def _reduce(self, numbers: Array) -> Array:
        """Bring the result of NumPy's arithmetic into its usual form."""

    @abstractmethod
    def _zeros(self, shape: tuple[int, ...]) -> Array:
        """Return zeros."""

    @abstractmethod
    def _number(self, constant: Constant) -> Any:
        """Return a constant."""

    @abstractmethod
    def _raise(self, x: Array, exponent: Fraction) -> Array:
        """Raise to a rational power."""

    @abstractmethod
    def _logarithm_of(self, node: Node) -> Array:
        """Return the natural logarithm of a node."""

    @abstractmethod
    def _combine(self, node: Linear, arrays: Sequence[Array]) -> Array:
        """Apply a linear map."""

    @abstractmethod
    def _multiply(self, node: Bilinear, first: Array, second: Array) -> Array:
        """Apply a bilinear map."""

    @abstractmethod
    def _mark_undefined(self, node: Undefined, x: Array) -> Array:
        """Replace the entries that stand for no number."""

    def tangent(self, node: Node, tangents: Mapping[Node, Array], memory: dict[Node, Array | None]) -> Array | None:
        """Return the derivative of a node along a tangent of the inputs; None if it is zero.

        Args:
            node: any.
            tangents: of the inputs, by node.
            memory: the derivatives along this tangent that are known.
        """
        for needed in list_ancestors([node], memory.__contains__, lambda n: n.arguments):
            parts = [memory[argument] for argument in needed.arguments]
            if isinstance(needed, Input):
                memory[needed] = tangents.get(needed)
            else:
                memory[needed] = None if all(part is None for part in parts) else self._push(needed, parts)
        return memory[node]

    def _push(self, node: Node, parts: list[Array | None]) -> Array:
        """Return the derivative of a node from those of its arguments."""
        if isinstance(node, Sum | Linear | Product | Bilinear | PowerOfArray):
            return np.broadcast_to(PUSHES[type(node)](self, node, parts), node.shape)
        (part,) = parts
        if isinstance(node, Undefined):
            return self._mark_undefined(node, part)
        return self._reduce(self._slope(node) * part)

    def _push_sum(self, node: Sum, parts: list[Array | None]) -> Array:
        first, second = (0 if part is None else part for part in parts)
        return self._reduce(first + node.sign * second)

    def _push_linear(self, node: Linear, parts: list[Array | None]) -> Array:
        pairs = zip(node.arguments, parts, strict=True)
        return self._combine(node, [self._zeros(argument.shape) if part is None else part for argument, part in pairs])

    def _push_product(self, node: Product | Bilinear, parts: list[Array | None]) -> Array:
        first, second = (self.value(argument) for argument in node.arguments)

        def multiply(x: Array, y: Array) -> Array:
            return self._multiply(node, x, y) if isinstance(node, Bilinear) else self._reduce(x * y)

        left = 0 if parts[0] is None else multiply(parts[0], second)
        return self._reduce(left + (0 if parts[1] is None else multiply(first, parts[1])))

    def _push_power(self, node: PowerOfArray, parts: list[Array | None]) -> Array:
        """Return the derivative of a^b: b a^(b-1) da + log(a) a^b db."""
        (a, b), (da, db), value = (self.value(argument) for argument in node.arguments), parts, self.value(node)
        result = self._zeros(node.shape)
        if da is not None:
            slope = self._reduce(self._reduce(value * self._raise(a, Fraction(-1))) * b)
            result = self._reduce(slope * da)
        if db is not None:
            result = self._reduce(result + self._reduce(value * self._logarithm_of(node.arguments[0])) * db)
        return result

    def _slope(self, node: Node) -> Array:
        """Return the derivative of a function of single numbers at its argument."""
        x = node.arguments[0]
        if isinstance(node, Power):
            factor = self._number(Constant(node.exponent))
            return self._reduce(factor * self._raise(self.value(x), node.exponent - 1))
        if isinstance(node, Exp):
            factor = self._number(Constant(Fraction(1), logarithm=node.base)) if node.base else 1
            return self._reduce(self.value(node) * factor)
        if isinstance(node, Log):
            return self._raise(self.value(x), Fraction(-1))
        assert isinstance(node, Function)
        return self.value(self._derivative(node))

    def _derivative(self, node: Function) -> Node:
        if node.derivative is None:
            raise NotAvailable(f"{node.name} has no known derivative")
        if node not in self._derivatives:
            self._derivatives[node] = node.derivative(node.arguments[0], node)
        return self._derivatives[node]


def list_ancestors(
    nodes: Sequence[Node], is_known: Callable[[Node], bool], arguments: Callable[[Node], Sequence[Node]]
) -> list[Node]:
    """List nodes and what they are made of, each after its arguments, without what is known."""
    order: dict[Node, None] = {}
    stack = [(node, False) for node in nodes]
    while stack:
        node, is_ready = stack.pop()
        if is_ready:
            order[node] = None
        elif node not in order and not is_known(node):
            stack.append((node, True))
            stack += [(argument, False) for argument in arguments(node) if argument not in order]
    return list(order)


PUSHES: dict[type[Node], Callable[[Any, Any, list[Array | None]], Array]] = {
    Sum: Arithmetic._push_sum,
    Linear: Arithmetic._push_linear,
    Product: Arithmetic._push_product,
    Bilinear: Arithmetic._push_product,
    PowerOfArray: Arithmetic._push_power,
}

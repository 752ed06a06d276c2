"""Nodes of exact graphs, made from numbers, nodes, and the traced arrays of any framework."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import singledispatch
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradcheck.exact.constants import Constant, read_array, read_constant
from gradcheck.exact.graph import (
    F64,
    ApplyBilinear,
    ApplyLinear,
    Bilinear,
    Constants,
    Exp,
    Function,
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

# More different constants than this are not read.
MAX_DISTINCT = 200_000
# What the functions below take: a node, a number, or a traced array of a backend that registers its kind with `node_of`.
Operand = Any
Place = Callable[[NDArray[np.int64]], NDArray[np.int64]]


@singledispatch
def node_of(operand: Operand) -> Node:
    """Return the exact node of an operand: of a node, of a number, or of a traced array."""
    return make_scalar(operand)


@node_of.register
def _return_node(operand: Node) -> Node:
    return operand


@node_of.register
def _read_array(operand: np.ndarray) -> Node:
    if operand.dtype.kind not in "fiub":
        raise NotAvailable(f"an array of {operand.dtype}")
    return make_constants(operand.astype(np.float64), "float32" if operand.dtype == np.float32 else "float64")


@node_of.register
def _read_scalar(operand: np.generic) -> Node:
    return _read_array(np.asarray(operand))


def make_constants(values: F64, dtype: str = "float64") -> Constants:
    """Read the numbers of an array as the numbers that were meant; infinities and NaNs become zero.

    Args:
        values: the numbers.
        dtype: that they were written in, 'float64' or 'float32'.
    """
    numbers = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    distinct, places = np.unique(numbers, return_inverse=True)
    if len(distinct) > MAX_DISTINCT:
        raise NotAvailable(f"the code uses {len(distinct):,} different constants, more than {MAX_DISTINCT:,}")
    return Constants(tuple(values.shape), distinct=tuple(read_array(distinct.tolist(), dtype)), places=places.reshape(-1))


def make_scalar(number: float | Fraction | Constant) -> Constants:
    """Make the node of one number; a float is read as the number that was meant."""
    if isinstance(number, float):
        number = read_constant(number) if np.isfinite(number) else Constant(Fraction(0))
    constant = number if isinstance(number, Constant) else Constant(Fraction(number))
    return Constants((), distinct=(constant,), places=np.zeros(1, np.intp))


def add(a: Operand, b: Operand, sign: int = 1) -> Node:
    """Add two operands, or subtract the second."""
    first, second = node_of(a), node_of(b)
    return Sum(np.broadcast_shapes(first.shape, second.shape), (first, second), sign=sign)


def subtract(a: Operand, b: Operand) -> Node:
    """Subtract the second operand from the first."""
    return add(a, b, -1)


def multiply(a: Operand, b: Operand) -> Node:
    """Multiply two operands."""
    first, second = node_of(a), node_of(b)
    for one, other in ((first, second), (second, first)):
        if isinstance(one, Constants) and one.shape == () and one.single == Constant(Fraction(1)):
            return other
    return Product(np.broadcast_shapes(first.shape, second.shape), (first, second))


def power(a: Operand, exponent: Fraction | int) -> Node:
    """Raise an operand to a rational power."""
    base = node_of(a)
    return Power(base.shape, (base,), exponent=Fraction(exponent))


def divide(a: Operand, b: Operand) -> Node:
    """Divide the first operand by the second."""
    return multiply(a, power(b, -1))


def raise_to(a: Operand, b: Operand) -> Node:
    """Raise an operand to a power that may be an array."""
    base, exponent = node_of(a), node_of(b)
    single = exponent.single if isinstance(exponent, Constants) else None
    shape = np.broadcast_shapes(base.shape, exponent.shape)
    if single is not None and single.is_rational:
        result = power(base, single.rational)
        return result if result.shape == shape else multiply(result, broadcast_ones(shape))
    whole = base.single if isinstance(base, Constants) else None
    if whole is not None and whole.is_rational and whole.rational.denominator == 1 and 1 < whole.rational < 2**20:
        return Exp(exponent.shape, (exponent,), base=int(whole.rational))
    return PowerOfArray(shape, (base, exponent))


def broadcast_ones(shape: tuple[int, ...]) -> Constants:
    """Make an array of ones."""
    return Constants(shape, distinct=(Constant(Fraction(1)),), places=np.zeros(int(np.prod(shape)), np.intp))


def exp(a: Operand, base: int = 0, vanishes: NDArray[np.bool_] | None = None) -> Node:
    """Make the exponential of an operand, to the base e or to a given one; it is zero where it vanishes."""
    exponent = node_of(a)
    return Exp(exponent.shape, (exponent,), base=base, vanishes=vanishes)


def log(a: Operand) -> Node:
    """Make the natural logarithm of an operand."""
    argument = node_of(a)
    return Log(argument.shape, (argument,))


def function(
    name: str, a: Operand, evaluate: Callable[[F64], F64], derivative: Callable[[Node, Node], Node], parity: int = 0
) -> Node:
    """Make a function of which only the derivative is known."""
    argument = node_of(a)
    return Function(argument.shape, (argument,), name=name, derivative=derivative, evaluate=evaluate, parity=parity)


def linear(
    nodes: Sequence[Node],
    apply: ApplyLinear,
    shape: tuple[int, ...],
    *,
    moves: bool = False,
    at_ties: ApplyLinear | None = None,
) -> Node:
    """Make a linear map of some nodes, which adds up no more entries than they have."""
    terms = sum(int(np.prod(node.shape)) for node in nodes)
    return Linear(shape, tuple(nodes), apply=apply, moves=moves, terms=terms, at_ties=at_ties)


def move(a: Operand, place: Place, place_at_ties: Place | None = None) -> Node:
    """Make a node that takes its entries from another as a function of one array does.

    Args:
        a: where the entries come from.
        place: the function.
        place_at_ties: another one that chooses differently among equal entries.
    """
    source = node_of(a)
    numbers = np.arange(int(np.prod(source.shape))).reshape(source.shape)
    places = np.asarray(place(numbers))
    others = places if place_at_ties is None else np.asarray(place_at_ties(numbers))

    def make_apply(indices: NDArray[np.int64]) -> ApplyLinear:
        return lambda arrays: np.ascontiguousarray(arrays[0]).reshape(-1)[indices]

    at_ties = None if np.array_equal(places, others) else make_apply(others)
    return linear([source], make_apply(places), places.shape, moves=True, at_ties=at_ties)


def bilinear(a: Operand, b: Operand, apply: ApplyBilinear, shape: tuple[int, ...]) -> Node:
    """Make a bilinear map, such as a matrix product."""
    first, second = node_of(a), node_of(b)
    smaller = min(int(np.prod(node.shape)) for node in (first, second))
    return Bilinear(shape, (first, second), apply=apply, terms=smaller)


def choose(mask: NDArray[np.bool_], a: Operand, b: Operand, ties: NDArray[np.bool_] | None = None) -> Node:
    """Take entries of one operand where a condition holds and of another elsewhere, and the other way round at ties."""
    first, second = node_of(a), node_of(b)
    shape = np.broadcast_shapes(mask.shape, first.shape, second.shape)

    def make_apply(of_first: NDArray[np.bool_]) -> ApplyLinear:
        return lambda arrays: np.broadcast_to(np.where(of_first, arrays[0], arrays[1]), shape)

    at_ties = make_apply(mask ^ ties) if ties is not None and bool(ties.any()) else None
    return linear([first, second], make_apply(mask), shape, moves=True, at_ties=at_ties)


def mark_undefined(node: Node, floats: F64) -> Node:
    """Mark the entries that are infinite or NaN in floating point."""
    finite = np.isfinite(floats)
    return node if bool(finite.all()) else Undefined(node.shape, (node,), where=~finite, floats=floats)

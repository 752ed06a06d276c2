"""Nodes of exact graphs, made from the values of a traced PyTorch program."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gradcheck.exact.constants import Constant, read_constant, read_decimal
from gradcheck.exact.graph import (
    F64,
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

Number = int | float
# Among more different constants than this, well-known ones such as square roots are not looked for; still more are not read.
MAX_RECOGNISED, MAX_DISTINCT = 200, 200_000


@dataclass(frozen=True)
class Traced:
    """A value of the traced program: as floating-point numbers, and as an exact node if it is a floating-point tensor.

    Attributes:
        shadow: the tensor.
        node: the same array exactly.
    """

    shadow: torch.Tensor
    node: Node | None = None


Operand = Traced | Number


def make_constants(values: torch.Tensor) -> Constants:
    """Read the numbers of a tensor as the numbers that were meant; infinities and NaNs become zero."""
    dtype = "float32" if values.dtype is torch.float32 else "float64"
    numbers = np.nan_to_num(values.detach().to(torch.float64).numpy(force=True), nan=0.0, posinf=0.0, neginf=0.0)
    distinct, places = np.unique(numbers, return_inverse=True)
    if len(distinct) > MAX_DISTINCT:
        raise NotAvailable(f"{len(distinct):,} different constants")
    read = read_constant if len(distinct) <= MAX_RECOGNISED else read_decimal
    exact = tuple(read(float(number), dtype) for number in distinct)
    return Constants(tuple(values.shape), distinct=exact, places=places.reshape(-1))


def make_scalar(number: Number | Fraction | Constant) -> Constants:
    """Make the node of one number; a float is read as the number that was meant."""
    if isinstance(number, float):
        number = read_constant(number) if np.isfinite(number) else Constant(Fraction(0))
    constant = number if isinstance(number, Constant) else Constant(Fraction(number))
    return Constants((), distinct=(constant,), places=np.zeros(1, np.intp))


def node_of(operand: Operand | Node) -> Node:
    """Return the exact node of an operand; that of an integer or boolean tensor holds its values."""
    if isinstance(operand, Node):
        return operand
    if isinstance(operand, Traced):
        return operand.node if operand.node is not None else make_constants(operand.shadow)
    return make_scalar(operand)


def shadow_of(operand: Any) -> Any:
    """Return the floating-point value of an operand."""
    return operand.shadow if isinstance(operand, Traced) else operand


def add(a: Operand | Node, b: Operand | Node, sign: int = 1) -> Node:
    """Add two operands, or subtract the second."""
    first, second = node_of(a), node_of(b)
    return Sum(np.broadcast_shapes(first.shape, second.shape), (first, second), sign=sign)


def subtract(a: Operand | Node, b: Operand | Node) -> Node:
    """Subtract the second operand from the first."""
    return add(a, b, -1)


def multiply(a: Operand | Node, b: Operand | Node) -> Node:
    """Multiply two operands."""
    first, second = node_of(a), node_of(b)
    for one, other in ((first, second), (second, first)):
        if isinstance(one, Constants) and one.shape == () and one.single == Constant(Fraction(1)):
            return other
    return Product(np.broadcast_shapes(first.shape, second.shape), (first, second))


def power(a: Operand | Node, exponent: Fraction | int) -> Node:
    """Raise an operand to a rational power."""
    base = node_of(a)
    return Power(base.shape, (base,), exponent=Fraction(exponent))


def divide(a: Operand | Node, b: Operand | Node) -> Node:
    """Divide the first operand by the second."""
    return multiply(a, power(b, -1))


def raise_to(a: Operand | Node, b: Operand | Node) -> Node:
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


def exp(a: Operand | Node, base: int = 0, vanishes: Any = None) -> Node:
    """Make the exponential of an operand."""
    exponent = node_of(a)
    return Exp(exponent.shape, (exponent,), base=base, vanishes=vanishes)


def log(a: Operand | Node) -> Node:
    """Make the natural logarithm of an operand."""
    argument = node_of(a)
    return Log(argument.shape, (argument,))


def function(
    name: str,
    a: Operand | Node,
    evaluate: Callable[[torch.Tensor], torch.Tensor],
    derivative: Callable[[Node, Node], Node],
    parity: int = 0,
) -> Node:
    """Make a function of which only the derivative is known."""
    argument = node_of(a)

    def evaluate_array(x: F64) -> F64:
        return np.asarray(evaluate(torch.from_numpy(np.array(x))).numpy())

    return Function(argument.shape, (argument,), name=name, derivative=derivative, evaluate=evaluate_array, parity=parity)


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


def move(
    a: Operand | Node,
    place: Callable[[torch.Tensor], torch.Tensor],
    place_at_ties: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> Node:
    """Make a node that takes its entries from another as a PyTorch function of one tensor does.

    Args:
        a: where the entries come from.
        place: the function.
        place_at_ties: another one that chooses differently among equal entries.
    """
    source = node_of(a)
    numbers = torch.arange(int(np.prod(source.shape))).reshape(source.shape)
    places = place(numbers).numpy()
    others = places if place_at_ties is None else place_at_ties(numbers).numpy()

    def make_apply(indices: NDArray[np.int64]) -> ApplyLinear:
        return lambda arrays: np.ascontiguousarray(arrays[0]).reshape(-1)[indices]

    at_ties = None if np.array_equal(places, others) else make_apply(others)
    return linear([source], make_apply(places), places.shape, moves=True, at_ties=at_ties)


def bilinear(
    a: Operand | Node, b: Operand | Node, apply: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], shape: tuple[int, ...]
) -> Node:
    """Make a bilinear map, such as a matrix product, that a PyTorch function of two tensors computes."""
    first, second = node_of(a), node_of(b)
    smaller = min(int(np.prod(node.shape)) for node in (first, second))

    def apply_arrays(x: F64, y: F64) -> F64:
        return np.asarray(apply(torch.from_numpy(x), torch.from_numpy(y)).numpy())

    return Bilinear(shape, (first, second), apply=apply_arrays, terms=smaller)


def choose(condition: torch.Tensor, a: Operand | Node, b: Operand | Node, ties: torch.Tensor | None = None) -> Node:
    """Take entries of one operand where a condition holds and of another elsewhere, and the other way round at ties."""
    first, second = node_of(a), node_of(b)
    mask = condition.numpy(force=True)
    shape = np.broadcast_shapes(mask.shape, first.shape, second.shape)

    def make_apply(of_first: NDArray[np.bool_]) -> ApplyLinear:
        return lambda arrays: np.broadcast_to(np.where(of_first, arrays[0], arrays[1]), shape)

    at_ties = make_apply(mask ^ ties.numpy(force=True)) if ties is not None and bool(ties.any()) else None
    return linear([first, second], make_apply(mask), shape, moves=True, at_ties=at_ties)


def mark_undefined(node: Node, shadow: torch.Tensor) -> Node:
    """Mark the entries that are infinite or NaN in floating point."""
    finite = torch.isfinite(shadow)
    if bool(finite.all()):
        return node
    floats = shadow.detach().to(torch.float64).numpy(force=True)
    return Undefined(node.shape, (node,), where=~finite.numpy(force=True), floats=floats)

"""Linear algebra on exact nodes: elimination, step by step, with rows in the order that the caller gives."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from gradcheck.exact.build import (
    Operand,
    add,
    bilinear,
    choose,
    divide,
    make_constants,
    move,
    multiply,
    node_of,
    power,
    subtract,
)
from gradcheck.exact.graph import F64, Node, NotAvailable

MAX_ROWS = 12


def size_of(a: Operand) -> int:
    """Return the number of rows of a square matrix.

    Raises:
        NotAvailable: if it is not square or too large.
    """
    rows, columns = node_of(a).shape[-2:]
    if rows != columns or rows > MAX_ROWS:
        raise NotAvailable(f"linear algebra with matrices of {rows} rows and {columns} columns")
    return rows


def _entry(a: Node, i: int, j: int) -> Node:
    return move(a, lambda t: t[..., i : i + 1, j : j + 1])


def _row(a: Node, k: int) -> Node:
    return move(a, lambda t: t[..., k : k + 1, :])


def _column(a: Node, k: int) -> Node:
    return move(a, lambda t: t[..., :, k : k + 1])


def diagonal(a: Node, k: int) -> Node:
    """Return an entry on the diagonal of each matrix."""
    return move(a, lambda t: t[..., k, k])


def matmul(a: Operand, b: Operand) -> Node:
    """Multiply matrices, in batches with broadcasting."""
    first, second = node_of(a), node_of(b)
    shape = (*np.broadcast_shapes(first.shape[:-2], second.shape[:-2]), first.shape[-2], second.shape[-1])
    return bilinear(first, second, np.matmul, shape)


def transpose(a: Operand) -> Node:
    """Transpose matrices."""
    return move(a, lambda t: t.swapaxes(-1, -2))


def identity(n: int) -> Node:
    """Make the identity matrix."""
    return make_constants(np.eye(n))


def triangle(n: int, *, upper: bool, strict: bool = False) -> NDArray[np.bool_]:
    """Mark the upper or the lower triangle of a matrix, with its diagonal unless it is strict."""
    ones = np.ones((n, n), bool)
    return np.asarray(np.triu(ones, int(strict)) if upper else np.tril(ones, -int(strict)))


def keep(a: Operand, where: NDArray[np.bool_]) -> Node:
    """Keep some entries, and make the others zero."""
    return choose(where, a, 0)


def eliminate(a: Node, n: int) -> Node:
    """Return L, without its ones, and U in one matrix, with no exchange of rows."""
    row, column = np.arange(n)[:, None], np.arange(n)
    for k in range(n - 1):
        factors = keep(divide(_column(a, k), _entry(a, k, k)), row > k)
        below = subtract(a, multiply(factors, _row(a, k)))
        a = choose((row > k) & (column == k), factors, choose((row > k) & (column > k), below, a))
    return a


def invert(a: Node, n: int) -> Node:
    """Invert a matrix by Gauss and Jordan, with no exchange of rows."""
    inverse = add(identity(n), multiply(a, 0))
    rows = np.arange(n)[:, None]
    for k in range(n):
        pivot, column = _entry(a, k, k), _column(a, k)
        parts = []
        for matrix in (a, inverse):
            scaled = divide(_row(matrix, k), pivot)
            parts.append(choose(rows == k, scaled, subtract(matrix, multiply(column, scaled))))
        a, inverse = parts
    return inverse


def invert_triangle(a: Operand, *, upper: bool, unit: bool) -> Node:
    """Invert the upper or the lower triangle of a matrix, whose diagonal may stand for ones."""
    n = size_of(a)
    matrix = keep(a, triangle(n, upper=upper, strict=unit))
    return invert(add(matrix, identity(n)) if unit else matrix, n)


def factor_symmetric(a: Node, n: int) -> Node:
    """Return the Cholesky factor of a matrix, of which the lower triangle counts."""
    columns = []
    rows = np.arange(n)[:, None]
    for k in range(n):
        column = keep(_column(a, k), rows >= k)
        column = multiply(column, power(_entry(a, k, k), Fraction(-1, 2)))
        columns.append(column)
        a = subtract(a, multiply(column, transpose(column)))
    return _concatenate(columns)


def orthogonalise(a: Operand, signs: F64) -> tuple[Node, Node]:
    """Factor a matrix by Gram and Schmidt into an orthogonal and a triangular one, whose diagonal has some signs."""
    node, count = node_of(a), signs.shape[-1]
    directions: list[Node] = []
    for k in range(count):
        column = _column(node, k)
        for direction in directions:
            column = subtract(column, multiply(direction, matmul(transpose(direction), column)))
        length = power(matmul(transpose(column), column), Fraction(1, 2))
        directions.append(multiply(divide(column, length), make_constants(signs[..., k, None, None])))
    orthogonal = _concatenate(directions)
    return orthogonal, keep(matmul(transpose(orthogonal), node), triangle(count, upper=True))


def _concatenate(columns: Sequence[Node]) -> Node:
    whole: Node = make_constants(np.zeros((*columns[0].shape[:-1], len(columns))))
    for k, column in enumerate(columns):
        whole = choose(np.arange(len(columns)) == k, column, whole)
    return whole

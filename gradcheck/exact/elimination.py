"""Linear algebra as exact graphs: elimination, step by step, in the order of rows that is given."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from gradcheck.exact import build
from gradcheck.exact.build import Operand, add, choose, divide, move, multiply, node_of, power, subtract
from gradcheck.exact.graph import Node, NotAvailable

MAX_ROWS = 12


def count_rows(a: Operand) -> int:
    """Return the number of rows of a square matrix.

    Raises:
        NotAvailable: if there are too many, or it is not square.
    """
    rows, columns = node_of(a).shape[-2:]
    if rows != columns or rows > MAX_ROWS:
        raise NotAvailable(f"linear algebra with matrices of {rows} rows and {columns} columns")
    return rows


def take_entry(a: Operand, i: int, j: int) -> Node:
    """Take an entry as a matrix."""
    return move(a, lambda t: t[..., i : i + 1, j : j + 1])


def take_row(a: Operand, k: int) -> Node:
    """Take a row as a matrix."""
    return move(a, lambda t: t[..., k : k + 1, :])


def take_column(a: Operand, k: int) -> Node:
    """Take a column as a matrix."""
    return move(a, lambda t: t[..., :, k : k + 1])


def multiply_diagonal(a: Node) -> Node:
    """Multiply the entries of the diagonal."""
    result = move(a, lambda t: t[..., 0, 0])
    for k in range(1, a.shape[-1]):
        result = multiply(result, _take_diagonal(a, k))
    return result


def _take_diagonal(a: Node, k: int) -> Node:
    return move(a, lambda t: t[..., k, k])


def matmul(a: Operand, b: Operand) -> Node:
    """Multiply matrices."""
    first, second = node_of(a), node_of(b)
    shape = np.matmul(np.empty(first.shape), np.empty(second.shape)).shape
    return build.bilinear(first, second, np.matmul, shape)


def transpose(a: Operand) -> Node:
    """Transpose a matrix."""
    return move(a, lambda t: np.swapaxes(t, -1, -2))


def make_identity(n: int) -> Node:
    """Make an identity matrix."""
    return node_of(np.eye(n))


def mask(a: Operand, where: NDArray[np.bool_]) -> Node:
    """Keep some entries, and make the others zero."""
    return choose(where, a, 0)


def eliminate(a: Node, n: int) -> Node:
    """Return L, without its ones, and U in one matrix, with no exchange of rows."""
    row, column = np.arange(n)[:, None], np.arange(n)
    for k in range(n - 1):
        factors = mask(divide(take_column(a, k), take_entry(a, k, k)), row > k)
        updates = multiply(factors, take_row(a, k))
        below = subtract(a, updates)
        a = choose((row > k) & (column == k), factors, choose((row > k) & (column > k), below, a))
    return a


def invert(a: Node, n: int) -> Node:
    """Invert a matrix by Gauss and Jordan, with no exchange of rows."""
    inverse = add(make_identity(n), multiply(a, 0))
    rows = np.arange(n)[:, None]
    for k in range(n):
        pivot, column = take_entry(a, k, k), take_column(a, k)
        parts = []
        for matrix in (a, inverse):
            scaled = divide(take_row(matrix, k), pivot)
            parts.append(choose(rows == k, scaled, subtract(matrix, multiply(column, scaled))))
        a, inverse = parts
    return inverse


def factor_symmetric(a: Node, n: int) -> Node:
    """Return the Cholesky factor of a matrix, of which the lower triangle counts."""
    columns = []
    rows = np.arange(n)[:, None]
    for k in range(n):
        column = mask(take_column(a, k), rows >= k)
        column = multiply(column, power(take_entry(a, k, k), Fraction(-1, 2)))
        columns.append(column)
        a = subtract(a, multiply(column, transpose(column)))
    return join_columns(columns)


def join_columns(columns: Sequence[Node]) -> Node:
    """Make a matrix of its columns."""
    whole: Node = node_of(np.zeros((*columns[0].shape[:-1], len(columns))))
    for k, column in enumerate(columns):
        whole = choose(np.arange(len(columns)) == k, column, whole)
    return whole

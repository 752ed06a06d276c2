"""Rules for linear algebra: elimination, step by step, with the pivots that the floating-point values chose."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import reduce
from typing import Any

import torch

from gradcheck.backends.torch.exact import nodes
from gradcheck.backends.torch.exact.linear import Rule
from gradcheck.backends.torch.exact.nodes import Operand, Traced, choose, make_constants, move
from gradcheck.exact.build import add, divide, log, multiply, node_of, power, subtract
from gradcheck.exact.graph import Node, NotAvailable

MAX_ROWS = 12


def _size(a: Operand | Node) -> int:
    """Return the number of rows of a square matrix."""
    rows, columns = node_of(a).shape[-2:]
    if rows != columns or rows > MAX_ROWS:
        raise NotAvailable(f"linear algebra with matrices of {rows} rows and {columns} columns")
    return rows


def _entry(a: Node, i: int, j: int) -> Node:
    return move(a, lambda t: t[..., i : i + 1, j : j + 1])


def _row(a: Operand | Node, k: int) -> Node:
    return move(a, lambda t: t[..., k : k + 1, :])


def _column(a: Operand | Node, k: int) -> Node:
    return move(a, lambda t: t[..., :, k : k + 1])


def _diagonal(a: Node, k: int) -> Node:
    return move(a, lambda t: t[..., k, k])


def _matmul(a: Operand | Node, b: Operand | Node) -> Node:
    first, second = node_of(a), node_of(b)
    shape = torch.matmul(torch.empty(first.shape), torch.empty(second.shape)).shape
    return nodes.bilinear(first, second, torch.matmul, tuple(shape))


def _transpose(a: Operand | Node) -> Node:
    return move(a, lambda t: t.transpose(-1, -2))


def _identity(n: int) -> Node:
    return make_constants(torch.eye(n, dtype=torch.float64))


def _mask(a: Node, where: torch.Tensor) -> Node:
    """Keep some entries, and make the others zero."""
    return choose(where, a, 0)


def _permutation(pivots: torch.Tensor, n: int) -> torch.Tensor:
    """Return the matrix P of a list of exchanges, with A = P L U."""
    no_factors = torch.zeros(*pivots.shape[:-1], n, n, dtype=torch.float64)
    exchange, _, _ = torch.lu_unpack(no_factors, pivots, False, True)
    return exchange


def _eliminate(a: Node, n: int) -> Node:
    """Return L, without its ones, and U in one matrix, with no exchange of rows."""
    row, column = torch.arange(n).unsqueeze(1), torch.arange(n)
    for k in range(n - 1):
        factors = _mask(divide(_column(a, k), _entry(a, k, k)), row > k)
        updates = multiply(factors, _row(a, k))
        below = subtract(a, updates)
        a = choose((row > k) & (column == k), factors, choose((row > k) & (column > k), below, a))
    return a


def _invert(a: Node, n: int) -> Node:
    """Invert a matrix by Gauss and Jordan, with no exchange of rows."""
    inverse = add(make_constants(torch.eye(n, dtype=torch.float64)), multiply(a, 0))
    rows = torch.arange(n).unsqueeze(1)
    for k in range(n):
        pivot, column = _entry(a, k, k), _column(a, k)
        parts = []
        for matrix in (a, inverse):
            scaled = divide(_row(matrix, k), pivot)
            parts.append(choose(rows == k, scaled, subtract(matrix, multiply(column, scaled))))
        a, inverse = parts
    return inverse


def _invert_with_pivots(a: Operand, pivots: torch.Tensor) -> Node:
    """Invert a matrix in the order of rows that `pivots` names."""
    n = _size(a)
    exchange = make_constants(_permutation(pivots, n).transpose(-1, -2))
    return _matmul(_invert(_matmul(exchange, a), n), exchange)


def _factor(a: Operand | Node, pivots: torch.Tensor) -> Node:
    n = _size(a)
    return _eliminate(_matmul(make_constants(_permutation(pivots, n).transpose(-1, -2)), a), n)


def _pivots_of(a: Traced) -> torch.Tensor:
    _, pivots, _ = torch.linalg.lu_factor_ex(a.shadow)
    return torch.as_tensor(pivots)


def translate_inverse(_o: Any, result: Any, a: Traced, **_: Any) -> Any:
    """Translate the inverse of a matrix."""
    return [_invert_with_pivots(a, _pivots_of(a)), None]


def translate_lu_factor(_o: Any, result: Any, a: Traced, *_: Any, **__: Any) -> list[Node | None]:
    """Translate the factors of a matrix, with the pivots that were chosen."""
    return [_factor(a, result[1]), None, None]


def translate_determinant(_o: Any, result: Any, a: Traced) -> list[Node | None]:
    """Translate a determinant, which comes with its factors."""
    determinant, factors = _multiply_pivots(a, result[1], result[2])
    return [determinant, factors, None]


def translate_log_determinant(_o: Any, result: Any, a: Traced) -> list[Node | None]:
    """Translate sign and logarithm of a determinant, which come with its factors."""
    determinant, factors = _multiply_pivots(a, result[2], result[3])
    size = choose(result[0] > 0, determinant, subtract(0, determinant))
    return [make_constants(result[0]), log(size), factors, None]


def _multiply_pivots(a: Traced, packed: torch.Tensor, pivots: torch.Tensor) -> tuple[Node, Node]:
    """Return the determinant and the factors, which are those of the matrix or of its transpose."""
    n, product = _size(a), reduce(torch.matmul, torch.lu_unpack(packed, pivots))
    is_transposed = not torch.allclose(product, a.shadow)
    factors = _factor(_transpose(a) if is_transposed else node_of(a), pivots)
    diagonal = [_diagonal(factors, k) for k in range(n)]
    sign = make_constants(torch.linalg.det(_permutation(pivots, n)).round())
    return multiply(sign, reduce(multiply, diagonal)), factors


def translate_solve(_o: Any, result: Any, a: Traced, b: Traced, *, left: bool = True, **_: Any) -> list[Node | None]:
    """Translate the solution of linear equations, which comes with the factors of the matrix."""
    inverse = _invert_with_pivots(a, result[2])
    if left and b.shadow.ndim == a.shadow.ndim - 1:
        solution = move(_matmul(inverse, move(b, lambda t: t.unsqueeze(-1))), lambda t: t.squeeze(-1))
    else:
        solution = _matmul(inverse, b) if left else _matmul(b, inverse)
    return [solution, _factor(a, result[2]), None, None]


def translate_lu_solve(
    _o: Any, _r: Any, factors: Traced, pivots: Traced, b: Traced, *, left: bool = True, adjoint: bool = False
) -> Node:
    """Translate the solution of linear equations by factors."""
    n = _size(factors)
    lower, upper = _split_factors(factors, n)
    exchange = make_constants(_permutation(pivots.shadow, n).transpose(-1, -2))
    inverse = _matmul(_matmul(_invert(upper, n), _invert(lower, n)), exchange)
    inverse = _transpose(inverse) if adjoint else inverse
    return _matmul(inverse, b) if left else _matmul(b, inverse)


def _split_factors(factors: Operand, n: int) -> tuple[Node, Node]:
    ones = torch.ones(n, n, dtype=torch.bool)
    node = node_of(factors)
    return add(_mask(node, ones.tril(-1)), _identity(n)), _mask(node, ones.triu())


def translate_lu(_o: Any, result: Any, a: Traced, *, pivot: bool = True) -> list[Node | None]:
    """Translate the factors of a matrix as matrices of their own."""
    n = _size(a)
    exchange = make_constants(result[0].transpose(-1, -2) if pivot else torch.eye(n, dtype=torch.float64))
    lower, upper = _split_factors(Traced(a.shadow, _eliminate(_matmul(exchange, a), n)), n)
    return [make_constants(result[0]), lower, upper]


def translate_lu_unpack(_o: Any, result: Any, factors: Traced, *_: Any, **__: Any) -> list[Node | None]:
    """Translate the separation of factors."""
    lower, upper = _split_factors(factors, _size(factors))
    return [make_constants(r) if i == 0 or r.numel() == 0 else (lower, upper)[i - 1] for i, r in enumerate(result)]


def translate_triangular_solve(
    _o: Any, _r: Any, a: Traced, b: Traced, *, upper: bool, left: bool = True, unitriangular: bool = False
) -> Node:
    """Translate the solution of linear equations with a triangular matrix."""
    n = _size(a)
    ones = torch.ones(n, n, dtype=torch.bool)
    strict = 1 if unitriangular else 0
    matrix = _mask(node_of(a), ones.triu(strict) if upper else ones.tril(-strict))
    inverse = _invert(add(matrix, _identity(n)) if unitriangular else matrix, n)
    return _matmul(inverse, b) if left else _matmul(b, inverse)


def translate_cholesky(is_pair: bool) -> Rule:
    """Make the rule of a Cholesky factor; `is_pair` is whether it comes with a status."""

    def rule(_o: Any, _r: Any, a: Traced, upper: bool = False, **kwargs: Any) -> Any:
        factor = _factor_symmetric(node_of(a), _size(a))
        factor = _transpose(factor) if kwargs.get("upper", upper) else factor
        return [factor, None] if is_pair else factor

    return rule


def _factor_symmetric(a: Node, n: int) -> Node:
    """Return the Cholesky factor of a matrix, of which the lower triangle counts."""
    columns = []
    rows = torch.arange(n).unsqueeze(1)
    for k in range(n):
        column = _mask(_column(a, k), rows >= k)
        column = multiply(column, power(_entry(a, k, k), Fraction(-1, 2)))
        columns.append(column)
        a = subtract(a, multiply(column, _transpose(column)))
    return _concatenate(columns)


def _concatenate(columns: Sequence[Node]) -> Node:
    whole: Node = make_constants(torch.zeros((*columns[0].shape[:-1], len(columns)), dtype=torch.float64))
    for k, column in enumerate(columns):
        whole = choose(torch.arange(len(columns)) == k, column, whole)
    return whole


def translate_cholesky_solve(_o: Any, _r: Any, b: Traced, factor: Traced, upper: bool = False) -> Node:
    """Translate the solution of linear equations by a Cholesky factor."""
    return _matmul(_invert_product(factor, upper=upper), b)


def translate_cholesky_inverse(_o: Any, _r: Any, factor: Traced, upper: bool = False) -> Node:
    """Translate the inverse of a matrix that is given by its Cholesky factor."""
    return _invert_product(factor, upper=upper)


def _invert_product(factor: Traced, *, upper: bool) -> Node:
    n = _size(factor)
    ones = torch.ones(n, n, dtype=torch.bool)
    inverse = _invert(_mask(node_of(factor), ones.triu() if upper else ones.tril()), n)
    return _matmul(inverse, _transpose(inverse)) if upper else _matmul(_transpose(inverse), inverse)


def translate_qr(_o: Any, result: Any, a: Traced, mode: str = "reduced") -> list[Node | None]:
    """Translate an orthogonal factorisation by Gram and Schmidt, with the signs that were chosen."""
    rows, count = a.shadow.shape[-2:]
    if mode == "r" or rows < count or (mode == "complete" and rows > count) or count > MAX_ROWS:
        raise NotAvailable(f"an orthogonal factorisation of {rows} rows and {count} columns")
    signs = torch.sign(result[1].diagonal(dim1=-2, dim2=-1))
    directions: list[Node] = []
    for k in range(count):
        column = _column(a, k)
        for direction in directions:
            column = subtract(column, multiply(direction, _matmul(_transpose(direction), column)))
        length = power(_matmul(_transpose(column), column), Fraction(1, 2))
        directions.append(multiply(divide(column, length), make_constants(signs[..., k, None, None])))
    orthogonal = _concatenate(directions)
    triangle = torch.ones(count, count, dtype=torch.bool).triu()
    return [orthogonal, _mask(_matmul(_transpose(orthogonal), a), triangle)]


RULES: dict[str, Rule] = {
    "linalg_inv_ex": translate_inverse,
    "linalg_lu_factor_ex": translate_lu_factor,
    "_linalg_det": translate_determinant,
    "_linalg_slogdet": translate_log_determinant,
    "_linalg_solve_ex": translate_solve,
    "linalg_lu_solve": translate_lu_solve,
    "linalg_lu": translate_lu,
    "lu_unpack": translate_lu_unpack,
    "linalg_solve_triangular": translate_triangular_solve,
    "linalg_cholesky_ex": translate_cholesky(is_pair=True),
    "cholesky": translate_cholesky(is_pair=False),
    "cholesky_solve": translate_cholesky_solve,
    "cholesky_inverse": translate_cholesky_inverse,
    "linalg_qr": translate_qr,
}

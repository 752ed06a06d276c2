"""Rules for linear algebra: elimination, step by step, with the pivots that the floating-point values chose."""

from __future__ import annotations

from fractions import Fraction
from functools import reduce
from typing import Any

import numpy as np
import torch

from gradcheck.backends.torch.exact.linear import Rule
from gradcheck.backends.torch.exact.nodes import Operand, TracedTensor, choose, make_constants, move
from gradcheck.exact.build import add, divide, log, multiply, node_of, power, subtract
from gradcheck.exact.elimination import (
    MAX_ROWS,
    count_rows,
    eliminate,
    factor_symmetric,
    invert,
    join_columns,
    make_identity,
    mask,
    matmul,
    multiply_diagonal,
    take_column,
    transpose,
)
from gradcheck.exact.graph import Node, NotAvailable


def _permutation(pivots: torch.Tensor, n: int) -> torch.Tensor:
    """Return the matrix P of a list of exchanges, with A = P L U."""
    no_factors = torch.zeros(*pivots.shape[:-1], n, n, dtype=torch.float64)
    exchange, _, _ = torch.lu_unpack(no_factors, pivots, False, True)
    return exchange


def _invert_with_pivots(a: Operand, pivots: torch.Tensor) -> Node:
    """Invert a matrix in the order of rows that `pivots` names."""
    n = count_rows(a)
    exchange = make_constants(_permutation(pivots, n).transpose(-1, -2))
    return matmul(invert(matmul(exchange, a), n), exchange)


def _factor(a: Operand | Node, pivots: torch.Tensor) -> Node:
    n = count_rows(a)
    return eliminate(matmul(make_constants(_permutation(pivots, n).transpose(-1, -2)), a), n)


def _pivots_of(a: TracedTensor) -> torch.Tensor:
    _, pivots, _ = torch.linalg.lu_factor_ex(a.shadow)
    return torch.as_tensor(pivots)


def translate_inverse(_o: Any, result: Any, a: TracedTensor, **_: Any) -> Any:
    """Translate the inverse of a matrix."""
    return [_invert_with_pivots(a, _pivots_of(a)), None]


def translate_lu_factor(_o: Any, result: Any, a: TracedTensor, *_: Any, **__: Any) -> list[Node | None]:
    """Translate the factors of a matrix, with the pivots that were chosen."""
    return [_factor(a, result[1]), None, None]


def translate_determinant(_o: Any, result: Any, a: TracedTensor) -> list[Node | None]:
    """Translate a determinant, which comes with its factors."""
    determinant, factors = _multiply_pivots(a, result[1], result[2])
    return [determinant, factors, None]


def translate_log_determinant(_o: Any, result: Any, a: TracedTensor) -> list[Node | None]:
    """Translate sign and logarithm of a determinant, which come with its factors."""
    determinant, factors = _multiply_pivots(a, result[2], result[3])
    size = choose(result[0] > 0, determinant, subtract(0, determinant))
    return [make_constants(result[0]), log(size), factors, None]


def _multiply_pivots(a: TracedTensor, packed: torch.Tensor, pivots: torch.Tensor) -> tuple[Node, Node]:
    """Return the determinant and the factors, which are those of the matrix or of its transpose."""
    n, product = count_rows(a), reduce(torch.matmul, torch.lu_unpack(packed, pivots))
    is_transposed = not torch.allclose(product, a.shadow)
    factors = _factor(transpose(a) if is_transposed else node_of(a), pivots)
    sign = make_constants(torch.linalg.det(_permutation(pivots, n)).round())
    return multiply(sign, multiply_diagonal(factors)), factors


def translate_solve(
    _o: Any, result: Any, a: TracedTensor, b: TracedTensor, *, left: bool = True, **_: Any
) -> list[Node | None]:
    """Translate the solution of linear equations, which comes with the factors of the matrix."""
    inverse = _invert_with_pivots(a, result[2])
    if left and b.shadow.ndim == a.shadow.ndim - 1:
        solution = move(matmul(inverse, move(b, lambda t: t.unsqueeze(-1))), lambda t: t.squeeze(-1))
    else:
        solution = matmul(inverse, b) if left else matmul(b, inverse)
    return [solution, _factor(a, result[2]), None, None]


def translate_lu_solve(
    _o: Any, _r: Any, factors: TracedTensor, pivots: TracedTensor, b: TracedTensor, *, left: bool = True, adjoint: bool = False
) -> Node:
    """Translate the solution of linear equations by factors."""
    n = count_rows(factors)
    lower, upper = _split_factors(factors, n)
    exchange = make_constants(_permutation(pivots.shadow, n).transpose(-1, -2))
    inverse = matmul(matmul(invert(upper, n), invert(lower, n)), exchange)
    inverse = transpose(inverse) if adjoint else inverse
    return matmul(inverse, b) if left else matmul(b, inverse)


def _split_factors(factors: Operand, n: int) -> tuple[Node, Node]:
    ones = np.ones((n, n), bool)
    node = node_of(factors)
    return add(mask(node, np.tril(ones, -1)), make_identity(n)), mask(node, np.triu(ones))


def translate_lu(_o: Any, result: Any, a: TracedTensor, *, pivot: bool = True) -> list[Node | None]:
    """Translate the factors of a matrix as matrices of their own."""
    n = count_rows(a)
    exchange = make_constants(result[0].transpose(-1, -2) if pivot else torch.eye(n, dtype=torch.float64))
    lower, upper = _split_factors(TracedTensor(a.shadow, eliminate(matmul(exchange, a), n)), n)
    return [make_constants(result[0]), lower, upper]


def translate_lu_unpack(_o: Any, result: Any, factors: TracedTensor, *_: Any, **__: Any) -> list[Node | None]:
    """Translate the separation of factors."""
    lower, upper = _split_factors(factors, count_rows(factors))
    return [make_constants(r) if i == 0 or r.numel() == 0 else (lower, upper)[i - 1] for i, r in enumerate(result)]


def translate_triangular_solve(
    _o: Any, _r: Any, a: TracedTensor, b: TracedTensor, *, upper: bool, left: bool = True, unitriangular: bool = False
) -> Node:
    """Translate the solution of linear equations with a triangular matrix."""
    n = count_rows(a)
    ones = np.ones((n, n), bool)
    strict = 1 if unitriangular else 0
    matrix = mask(node_of(a), np.triu(ones, strict) if upper else np.tril(ones, -strict))
    inverse = invert(add(matrix, make_identity(n)) if unitriangular else matrix, n)
    return matmul(inverse, b) if left else matmul(b, inverse)


def translate_cholesky(is_pair: bool) -> Rule:
    """Make the rule of a Cholesky factor; `is_pair` is whether it comes with a status."""

    def rule(_o: Any, _r: Any, a: TracedTensor, upper: bool = False, **kwargs: Any) -> Any:
        factor = factor_symmetric(node_of(a), count_rows(a))
        factor = transpose(factor) if kwargs.get("upper", upper) else factor
        return [factor, None] if is_pair else factor

    return rule


def translate_cholesky_solve(_o: Any, _r: Any, b: TracedTensor, factor: TracedTensor, upper: bool = False) -> Node:
    """Translate the solution of linear equations by a Cholesky factor."""
    return matmul(_invert_product(factor, upper=upper), b)


def translate_cholesky_inverse(_o: Any, _r: Any, factor: TracedTensor, upper: bool = False) -> Node:
    """Translate the inverse of a matrix that is given by its Cholesky factor."""
    return _invert_product(factor, upper=upper)


def _invert_product(factor: TracedTensor, *, upper: bool) -> Node:
    n = count_rows(factor)
    ones = np.ones((n, n), bool)
    inverse = invert(mask(node_of(factor), np.triu(ones) if upper else np.tril(ones)), n)
    return matmul(inverse, transpose(inverse)) if upper else matmul(transpose(inverse), inverse)


def translate_qr(_o: Any, result: Any, a: TracedTensor, mode: str = "reduced") -> list[Node | None]:
    """Translate an orthogonal factorisation by Gram and Schmidt, with the signs that were chosen."""
    rows, count = a.shadow.shape[-2:]
    if mode == "r" or rows < count or (mode == "complete" and rows > count) or count > MAX_ROWS:
        raise NotAvailable(f"an orthogonal factorisation of {rows} rows and {count} columns")
    signs = torch.sign(result[1].diagonal(dim1=-2, dim2=-1))
    directions: list[Node] = []
    for k in range(count):
        column = take_column(a, k)
        for direction in directions:
            column = subtract(column, multiply(direction, matmul(transpose(direction), column)))
        length = power(matmul(transpose(column), column), Fraction(1, 2))
        directions.append(multiply(divide(column, length), make_constants(signs[..., k, None, None])))
    orthogonal = join_columns(directions)
    triangle = np.triu(np.ones((count, count), bool))
    return [orthogonal, mask(matmul(transpose(orthogonal), a), triangle)]


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

"""Rules for linear algebra: elimination, step by step, with the pivots that the floating-point values chose."""

from __future__ import annotations

from functools import reduce
from typing import Any

import torch

from gradcheck.backends.torch.exact import nodes
from gradcheck.backends.torch.exact.linear import Rule
from gradcheck.backends.torch.exact.nodes import Operand, Traced, make_constants
from gradcheck.exact.build import add, log, move, multiply, node_of, subtract
from gradcheck.exact.graph import Node, NotAvailable
from gradcheck.exact.matrices import (
    MAX_ROWS,
    diagonal,
    eliminate,
    factor_symmetric,
    identity,
    invert,
    invert_triangle,
    keep,
    matmul,
    orthogonalise,
    size_of,
    transpose,
    triangle,
)


def _permutation(pivots: torch.Tensor, n: int) -> torch.Tensor:
    """Return the matrix P of a list of exchanges, with A = P L U."""
    no_factors = torch.zeros(*pivots.shape[:-1], n, n, dtype=torch.float64)
    exchange, _, _ = torch.lu_unpack(no_factors, pivots, False, True)
    return exchange


def _invert_with_pivots(a: Operand, pivots: torch.Tensor) -> Node:
    """Invert a matrix in the order of rows that `pivots` names."""
    n = size_of(a)
    exchange = make_constants(_permutation(pivots, n).transpose(-1, -2))
    return matmul(invert(matmul(exchange, a), n), exchange)


def _factor(a: Operand | Node, pivots: torch.Tensor) -> Node:
    n = size_of(a)
    return eliminate(matmul(make_constants(_permutation(pivots, n).transpose(-1, -2)), a), n)


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
    size = nodes.choose(result[0] > 0, determinant, subtract(0, determinant))
    return [make_constants(result[0]), log(size), factors, None]


def _multiply_pivots(a: Traced, packed: torch.Tensor, pivots: torch.Tensor) -> tuple[Node, Node]:
    """Return the determinant and the factors, which are those of the matrix or of its transpose."""
    n, product = size_of(a), reduce(torch.matmul, torch.lu_unpack(packed, pivots))
    is_transposed = not torch.allclose(product, a.shadow)
    factors = _factor(transpose(a) if is_transposed else node_of(a), pivots)
    sign = make_constants(torch.linalg.det(_permutation(pivots, n)).round())
    return multiply(sign, reduce(multiply, [diagonal(factors, k) for k in range(n)])), factors


def translate_solve(_o: Any, result: Any, a: Traced, b: Traced, *, left: bool = True, **_: Any) -> list[Node | None]:
    """Translate the solution of linear equations, which comes with the factors of the matrix."""
    inverse = _invert_with_pivots(a, result[2])
    if left and b.shadow.ndim == a.shadow.ndim - 1:
        solution = move(matmul(inverse, move(b, lambda t: t[..., None])), lambda t: t[..., 0])
    else:
        solution = matmul(inverse, b) if left else matmul(b, inverse)
    return [solution, _factor(a, result[2]), None, None]


def translate_lu_solve(
    _o: Any, _r: Any, factors: Traced, pivots: Traced, b: Traced, *, left: bool = True, adjoint: bool = False
) -> Node:
    """Translate the solution of linear equations by factors."""
    lower, upper = (invert_triangle(factors, upper=is_upper, unit=not is_upper) for is_upper in (False, True))
    exchange = make_constants(_permutation(pivots.shadow, size_of(factors)).transpose(-1, -2))
    inverse = matmul(matmul(upper, lower), exchange)
    inverse = transpose(inverse) if adjoint else inverse
    return matmul(inverse, b) if left else matmul(b, inverse)


def _split_factors(factors: Operand | Node, n: int) -> tuple[Node, Node]:
    lower = add(keep(factors, triangle(n, upper=False, strict=True)), identity(n))
    return lower, keep(factors, triangle(n, upper=True))


def translate_lu(_o: Any, result: Any, a: Traced, *, pivot: bool = True) -> list[Node | None]:
    """Translate the factors of a matrix as matrices of their own."""
    n = size_of(a)
    exchange = make_constants(result[0].transpose(-1, -2) if pivot else torch.eye(n, dtype=torch.float64))
    lower, upper = _split_factors(eliminate(matmul(exchange, a), n), n)
    return [make_constants(result[0]), lower, upper]


def translate_lu_unpack(_o: Any, result: Any, factors: Traced, *_: Any, **__: Any) -> list[Node | None]:
    """Translate the separation of factors."""
    lower, upper = _split_factors(factors, size_of(factors))
    return [make_constants(r) if i == 0 or r.numel() == 0 else (lower, upper)[i - 1] for i, r in enumerate(result)]


def translate_triangular_solve(
    _o: Any, _r: Any, a: Traced, b: Traced, *, upper: bool, left: bool = True, unitriangular: bool = False
) -> Node:
    """Translate the solution of linear equations with a triangular matrix."""
    inverse = invert_triangle(a, upper=upper, unit=unitriangular)
    return matmul(inverse, b) if left else matmul(b, inverse)


def translate_cholesky(is_pair: bool) -> Rule:
    """Make the rule of a Cholesky factor; `is_pair` is whether it comes with a status."""

    def rule(_o: Any, _r: Any, a: Traced, upper: bool = False, **kwargs: Any) -> Any:
        factor = factor_symmetric(node_of(a), size_of(a))
        factor = transpose(factor) if kwargs.get("upper", upper) else factor
        return [factor, None] if is_pair else factor

    return rule


def translate_cholesky_solve(_o: Any, _r: Any, b: Traced, factor: Traced, upper: bool = False) -> Node:
    """Translate the solution of linear equations by a Cholesky factor."""
    return matmul(_invert_product(factor, upper=upper), b)


def translate_cholesky_inverse(_o: Any, _r: Any, factor: Traced, upper: bool = False) -> Node:
    """Translate the inverse of a matrix that is given by its Cholesky factor."""
    return _invert_product(factor, upper=upper)


def _invert_product(factor: Traced, *, upper: bool) -> Node:
    inverse = invert_triangle(factor, upper=upper, unit=False)
    return matmul(inverse, transpose(inverse)) if upper else matmul(transpose(inverse), inverse)


def translate_qr(_o: Any, result: Any, a: Traced, mode: str = "reduced") -> list[Node | None]:
    """Translate an orthogonal factorisation by Gram and Schmidt, with the signs that were chosen."""
    rows, count = a.shadow.shape[-2:]
    if mode == "r" or rows < count or (mode == "complete" and rows > count) or count > MAX_ROWS:
        raise NotAvailable(f"an orthogonal factorisation of {rows} rows and {count} columns")
    signs = torch.sign(result[1].diagonal(dim1=-2, dim2=-1))
    return list(orthogonalise(a, signs.numpy(force=True)))


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

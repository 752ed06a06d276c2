"""Rules for `numpy.linalg`: elimination with the pivots that the floating-point values choose."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradcheck.backends.numpy.exact.array import FUNCTION_RULES, TracedArray, as_traced, finish, make_constant, shadow_of
from gradcheck.exact.build import move, multiply, node_of
from gradcheck.exact.elimination import count_rows, eliminate, factor_symmetric, invert, matmul, multiply_diagonal
from gradcheck.exact.graph import Node


class _Determinant(NamedTuple):
    """What `numpy.linalg.slogdet` returns."""

    sign: TracedArray
    logabsdet: Any


def _find_order(matrix: NDArray[Any]) -> tuple[NDArray[Any], float]:
    """Return the matrix that brings rows into the order in which elimination takes them, and its determinant."""
    left, order, sign = np.array(matrix, np.float64), list(range(len(matrix))), 1.0
    for k in range(len(left) - 1):
        pivot = k + int(np.argmax(np.abs(left[k:, k])))
        if pivot != k:
            left[[k, pivot]], sign = left[[pivot, k]], -sign
            order[k], order[pivot] = order[pivot], order[k]
        left[k + 1 :] -= left[k + 1 :, k : k + 1] / left[k, k] * left[k]
    return np.eye(len(left))[order], sign


def _find_orders(a: TracedArray) -> tuple[NDArray[Any], NDArray[Any]]:
    matrices = a.shadow.reshape(-1, *a.shape[-2:])
    pairs = [_find_order(matrix) for matrix in matrices]
    exchanges, signs = np.stack([pair[0] for pair in pairs]), np.array([pair[1] for pair in pairs])
    return exchanges.reshape(a.shape), signs.reshape(a.shape[:-2])


def _invert(a: TracedArray) -> Node:
    exchange = node_of(_find_orders(a)[0])
    return matmul(invert(matmul(exchange, a), count_rows(a)), exchange)


def translate_inverse(a: Any) -> TracedArray:
    """Translate the inverse of a matrix."""
    array = as_traced(a)
    return finish(np.linalg.inv(array.shadow), _invert(array))


def translate_solve(a: Any, b: Any) -> TracedArray:
    """Translate the solution of linear equations."""
    array, right = as_traced(a), as_traced(b)
    result = np.linalg.solve(array.shadow, right.shadow)
    if right.ndim > 1:
        return finish(result, matmul(_invert(array), right))
    columns = matmul(_invert(array), move(right, lambda t: t[:, None]))
    return finish(result, move(columns, lambda t: t[..., 0]))


def translate_determinant(a: Any) -> TracedArray:
    """Translate a determinant."""
    array = as_traced(a)
    exchanges, signs = _find_orders(array)
    factors = eliminate(matmul(node_of(exchanges), array), count_rows(array))
    return finish(np.linalg.det(array.shadow), multiply(node_of(signs), multiply_diagonal(factors)))


def translate_log_determinant(a: Any) -> _Determinant:
    """Translate sign and logarithm of a determinant."""
    sign = np.sign(shadow_of(determinant := translate_determinant(a)))
    return _Determinant(make_constant(sign), np.log(determinant * sign))


def translate_cholesky(a: Any, /, *, upper: bool = False) -> Any:
    """Translate a Cholesky factor."""
    array = as_traced(a)
    factor = finish(np.linalg.cholesky(array.shadow), factor_symmetric(array.node, count_rows(array)))
    return factor.swapaxes(-1, -2) if upper else factor


FUNCTION_RULES.update(
    {
        "linalg.inv": translate_inverse,
        "linalg.solve": translate_solve,
        "linalg.det": translate_determinant,
        "linalg.slogdet": translate_log_determinant,
        "linalg.cholesky": translate_cholesky,
    }
)

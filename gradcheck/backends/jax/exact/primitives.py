"""JAX's primitives on NumPy arrays: the usual ones by NumPy, all others by JAX, which compiles each for every shape."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gradcheck.backends.jax.arrays import use_x64

Array = Any  # an array of NumPy, or one of JAX's random keys
Evaluate = Callable[..., Array]  # (arrays, parameters as keywords) -> the result


def evaluate(primitive: Any, params: dict[str, Any], arrays: Sequence[Array]) -> list[Array]:
    """Return the results of a primitive."""
    rule = NUMPY.get(primitive.name)
    if rule is not None and not any(is_key(x) for x in arrays):
        with np.errstate(all="ignore"):
            result = rule(*arrays, **params)
        if result is not NotImplemented:
            return [np.asarray(result)]
    with use_x64(True):
        returned = primitive.bind(*[x if is_key(x) else jnp.asarray(x) for x in arrays], **params)
        results = returned if primitive.multiple_results else [returned]
        return [x if is_key(x) else np.asarray(x) for x in results]


def is_key(array: Array) -> bool:
    """Say whether an array holds random keys, which NumPy has no dtype for."""
    return bool(jnp.issubdtype(array.dtype, jax.dtypes.extended))


def is_float(array: Array) -> bool:
    """Say whether an array holds real floating-point numbers."""
    return bool(jnp.issubdtype(array.dtype, jnp.floating))


def _elementwise(function: Callable[..., Any]) -> Evaluate:
    return lambda *arrays, **_: function(*arrays)


def _divide(a: Array, b: Array, **_: Any) -> Array:
    return a / b if is_float(a) else NotImplemented


def _convert(x: Array, *, new_dtype: Any, **_: Any) -> Array:
    return NotImplemented if is_float(x) and new_dtype.kind in "iu" else x.astype(new_dtype)


def _select(which: Array, *cases: Array) -> Array:
    return np.where(which, cases[1], cases[0]) if which.dtype == bool else NotImplemented


def _broadcast(x: Array, *, shape: Any, broadcast_dimensions: Any, **_: Any) -> Array:
    axes = dict(zip(broadcast_dimensions, x.shape, strict=True))
    return np.broadcast_to(x.reshape([axes.get(axis, 1) for axis in range(len(shape))]), shape)


def _slice(x: Array, *, start_indices: Any, limit_indices: Any, strides: Any, **_: Any) -> Array:
    return x[tuple(map(slice, start_indices, limit_indices, strides or [1] * x.ndim))]


def _slice_at(x: Array, *starts: Array, slice_sizes: Any, **_: Any) -> Array:
    ends = zip(starts, slice_sizes, x.shape, strict=True)
    firsts = [min(max(int(start), 0), n - size) for start, size, n in ends]
    return x[tuple(slice(first, first + size) for first, size in zip(firsts, slice_sizes, strict=True))]


def _update_at(x: Array, update: Array, *starts: Array, **_: Any) -> Array:
    result = np.array(x)
    _slice_at(result, *starts, slice_sizes=update.shape)[...] = update
    return result


def _pad(x: Array, value: Array, *, padding_config: Any, **_: Any) -> Array:
    if any(low < 0 or high < 0 for low, high, _ in padding_config):
        return NotImplemented
    spans = [max(n + (n - 1) * inner, 0) for n, (_, _, inner) in zip(x.shape, padding_config, strict=True)]
    shape = [low + span + high for span, (low, high, _) in zip(spans, padding_config, strict=True)]
    result = np.full(shape, value, x.dtype)
    places = [slice(low, low + span, inner + 1) for span, (low, _, inner) in zip(spans, padding_config, strict=True)]
    result[tuple(places)] = x
    return result


def _reduce(function: Callable[..., Any]) -> Evaluate:
    return lambda x, *, axes, **_: function(x, axis=tuple(axes)).astype(x.dtype)


def _accumulate(function: Callable[..., Any]) -> Evaluate:
    def accumulate(x: Array, *, axis: int, reverse: bool, **_: Any) -> Array:
        turned = np.flip(x, axis) if reverse else x
        result = function(turned, axis=axis).astype(x.dtype)
        return np.flip(result, axis) if reverse else result

    return accumulate


def _multiply_matrices(a: Array, b: Array, *, dimension_numbers: Any, preferred_element_type: Any = None, **_: Any) -> Array:
    """Contract some axes of two arrays with each other, and pair others up."""
    if not (a.dtype == b.dtype == np.float64 == (preferred_element_type or np.float64)):
        return NotImplemented
    (contracted_a, contracted_b), (paired_a, paired_b) = dimension_numbers
    free_a = [axis for axis in range(a.ndim) if axis not in (*contracted_a, *paired_a)]
    free_b = [axis for axis in range(b.ndim) if axis not in (*contracted_b, *paired_b)]
    pairs, inner = [a.shape[axis] for axis in paired_a], int(np.prod([a.shape[axis] for axis in contracted_a]))
    rows, columns = [a.shape[axis] for axis in free_a], [b.shape[axis] for axis in free_b]
    left = a.transpose(*paired_a, *free_a, *contracted_a).reshape(*pairs, int(np.prod(rows)), inner)
    right = b.transpose(*paired_b, *contracted_b, *free_b).reshape(*pairs, inner, int(np.prod(columns)))
    return (left @ right).reshape([*pairs, *rows, *columns])


# Primitives that return their argument.
IDENTITIES = ("copy", "copy_p", "stop_gradient", "name")
# The ufuncs of NumPy with the name of JAX's primitive.
UFUNCS = """
add sub mul neg max min abs sign floor ceil exp exp2 log log1p expm1 sqrt cbrt square sin cos tan tanh sinh cosh asin acos atan
asinh acosh atanh atan2 eq ne lt le gt ge and or not is_finite pow
"""
NUMPY_NAMES = {
    "sub": "subtract", "mul": "multiply", "neg": "negative", "max": "maximum", "min": "minimum", "asin": "arcsin",
    "acos": "arccos", "atan": "arctan", "asinh": "arcsinh", "acosh": "arccosh", "atanh": "arctanh", "atan2": "arctan2",
    "eq": "equal", "ne": "not_equal", "lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal",
    "and": "bitwise_and", "or": "bitwise_or", "not": "invert", "is_finite": "isfinite", "pow": "power",
}  # fmt: skip
NUMPY: dict[str, Evaluate] = {
    **{name: _elementwise(getattr(np, NUMPY_NAMES.get(name, name))) for name in UFUNCS.split()},
    **dict.fromkeys(IDENTITIES, lambda x, **_: x),
    "add_any": _elementwise(np.add),
    "div": _divide,
    "rsqrt": lambda x, **_: 1 / np.sqrt(x),
    "logistic": lambda x, **_: 1 / (1 + np.exp(-x)),
    "integer_pow": lambda x, *, y: np.power(x, float(y)) if is_float(x) else NotImplemented,
    "convert_element_type": _convert,
    "select_n": _select,
    "clamp": lambda low, x, high: np.minimum(np.maximum(x, low), high),
    "iota": lambda *, dtype, shape, dimension, **_: np.indices(shape)[dimension].astype(dtype),
    "broadcast_in_dim": _broadcast,
    "reshape": lambda x, *, new_sizes, dimensions, **_: NotImplemented if dimensions else x.reshape(new_sizes),
    "transpose": lambda x, *, permutation: x.transpose(permutation),
    "squeeze": lambda x, *, dimensions: x.squeeze(tuple(dimensions)),
    "expand_dims": lambda x, *, dimensions: np.expand_dims(x, tuple(dimensions)),
    "rev": lambda x, *, dimensions: np.flip(x, tuple(dimensions)),
    "concatenate": lambda *arrays, dimension: np.concatenate(arrays, dimension),
    "stack": lambda *arrays, axis=0, dimension=None: np.stack(arrays, axis if dimension is None else dimension),
    "slice": _slice,
    "dynamic_slice": _slice_at,
    "dynamic_update_slice": _update_at,
    "pad": _pad,
    "reduce_sum": _reduce(np.sum),
    "reduce_prod": _reduce(np.prod),
    "reduce_max": _reduce(np.max),
    "reduce_min": _reduce(np.min),
    "reduce_and": _reduce(np.all),
    "reduce_or": _reduce(np.any),
    "cumsum": _accumulate(np.cumsum),
    "cumprod": _accumulate(np.cumprod),
    "cummax": _accumulate(np.maximum.accumulate),
    "cummin": _accumulate(np.minimum.accumulate),
    "cumlogsumexp": _accumulate(np.logaddexp.accumulate),
    "dot_general": _multiply_matrices,
}

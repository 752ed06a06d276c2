"""Rules for NumPy's functions: those that move entries, add them up, multiply them, or choose among them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from math import prod
from typing import Any

import numpy as np

from gradcheck.backends.numpy.exact.array import (
    FUNCTION_RULES,
    TracedArray,
    as_traced,
    contains_traced,
    finish,
    make_constant,
    note_branch,
    shadow_of,
    trace_sequences,
)
from gradcheck.exact import build
from gradcheck.exact.build import choose, linear, node_of
from gradcheck.exact.graph import F64, NotAvailable

Rule = Callable[..., Any]
MAX_FACTORS = 256

# Functions that take entries of their first argument, in some cases as a view.
MOVES = """
    reshape ravel transpose permute_dims matrix_transpose swapaxes moveaxis rollaxis squeeze expand_dims atleast_1d atleast_2d
    atleast_3d flip fliplr flipud rot90 roll take take_along_axis repeat tile broadcast_to diagonal split array_split hsplit
    vsplit dsplit resize delete compress lib.stride_tricks.sliding_window_view unstack copy linalg.diagonal
    linalg.matrix_transpose
"""
# Functions that take entries of the arrays in their first arguments, by the number of these.
JOINS = {"concatenate": 1, "stack": 1, "vstack": 1, "hstack": 1, "dstack": 1, "column_stack": 1, "append": 2, "block": 1}
# Functions that add up entries of their first argument with integer coefficients.
SUMS = "sum cumsum diff trace tril triu diag diagflat linalg.trace ediff1d cumulative_sum"
BILINEAR = "dot inner tensordot kron convolve correlate cross linalg.matmul linalg.tensordot linalg.cross matvec vecmat"
# Functions whose results are no floating-point numbers, and are read from the arrays.
READS = (
    "any all count_nonzero nonzero flatnonzero argwhere allclose isclose array_equal searchsorted digitize isneginf isposinf"
)
STEPS = "round around fix"
LIKE = "zeros_like ones_like full_like"


def make_move(function: Callable[..., Any]) -> Rule:
    """Make the rule of a function that takes entries of its first argument."""
    return lambda x, *args, **kwargs: as_traced(x).move(lambda array: function(array, *args, **kwargs))


def _list_operands(value: Any) -> list[Any]:
    return [y for x in value for y in _list_operands(x)] if isinstance(value, list | tuple) else [value]


def _replace_operands(value: Any, rest: list[Any]) -> Any:
    return [_replace_operands(x, rest) for x in value] if isinstance(value, list | tuple) else rest.pop(0)


def make_linear(function: Callable[..., Any], count: int = 1, *, moves: bool = False) -> Rule:
    """Make the rule of a function that is linear in all arrays of its first arguments together."""

    def rule(*args: Any, **kwargs: Any) -> Any:
        kwargs = {key: value for key, value in kwargs.items() if key != "dtype"}
        data, rest = list(args[:count]), args[count:]
        if contains_traced([*rest, *kwargs.values()]):
            raise NotAvailable(f"numpy.{function.__name__} with traced numbers in this place")

        def apply(arrays: Sequence[F64]) -> F64:
            return np.asarray(function(*_replace_operands(data, list(arrays)), *rest, **kwargs))

        operands = _list_operands(data)
        result = apply([np.asarray(shadow_of(x)) for x in operands])
        return finish(result, linear([node_of(x) for x in operands], apply, result.shape, moves=moves))

    return rule


def make_bilinear(function: Callable[..., Any]) -> Rule:
    """Make the rule of a product."""

    def rule(a: Any, b: Any, *args: Any, **kwargs: Any) -> Any:
        first, second = trace_sequences(a), trace_sequences(b)
        result = function(shadow_of(first), shadow_of(second), *args, **kwargs)
        node = build.bilinear(first, second, lambda x, y: np.asarray(function(x, y, *args, **kwargs)), np.shape(result))
        return finish(result, node)

    return rule


def _make_reading(function: Callable[..., Any]) -> Rule:
    def rule(*args: Any, **kwargs: Any) -> Any:
        result = function(*shadow_of(args), **kwargs)
        note_branch(function.__name__, result, *_list_operands(args))
        return result

    return rule


def _make_step(function: Callable[..., Any]) -> Rule:
    def rule(x: Any, *args: Any, **kwargs: Any) -> Any:
        result = make_constant(function(shadow_of(x), *args, **kwargs))
        note_branch(function.__name__, result, x)
        return result

    return rule


def _make_like(function: Callable[..., Any]) -> Rule:
    def rule(x: Any, *args: Any, **kwargs: Any) -> Any:
        if contains_traced(args):
            result = make_constant(np.zeros(np.shape(x)))
            result.write(..., args[0])
            return result
        result = function(shadow_of(x), *args, **kwargs)
        return make_constant(result) if result.dtype.kind == "f" else result

    return rule


# --- sums, products and moments along axes


def _count(x: TracedArray, axis: Any) -> int:
    axes = range(x.ndim) if axis is None else [axis] if isinstance(axis, int | np.integer) else axis
    return prod(x.shape[k] for k in axes)


def _sum(x: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False, **kwargs: Any) -> Any:
    """Add up; `where=` and `initial=` have no rule but 0."""
    if out is not None or kwargs.pop("initial", 0) != 0 or kwargs:
        raise NotAvailable("numpy.sum with out=, where= or initial=")
    return make_linear(np.sum)(trace_sequences(x), axis=axis, keepdims=bool(keepdims))


def _mean(x: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False) -> Any:
    array = as_traced(x)
    return _sum(array, axis, keepdims=keepdims) / _count(array, axis)


def _variance(
    x: Any, axis: Any = None, dtype: Any = None, out: Any = None, ddof: Any = 0, keepdims: Any = False, **kw: Any
) -> Any:
    array = as_traced(x)
    centred = array - _mean(array, axis, keepdims=True)
    return _sum(centred * centred, axis, keepdims=keepdims) / (_count(array, axis) - kw.get("correction", ddof))


def _deviation(*args: Any, **kwargs: Any) -> Any:
    return np.sqrt(_variance(*args, **kwargs))


def _average(x: Any, axis: Any = None, weights: Any = None) -> Any:
    if weights is None:
        return _mean(x, axis)
    shape = [-1 if k == axis else 1 for k in range(np.ndim(x))] if np.ndim(weights) < np.ndim(x) else np.shape(weights)
    factors = np.broadcast_to(np.reshape(weights, shape), np.shape(x))
    return _sum(x * factors, axis) / np.sum(factors, axis)


def _flatten_axes(t: Any, axis: Any) -> Any:
    """Move some axes to the end and flatten them into one."""
    axes = range(t.ndim) if axis is None else [axis] if isinstance(axis, int | np.integer) else axis
    chosen = [k % t.ndim for k in axes]
    rest = [k for k in range(t.ndim) if k not in chosen]
    return t.transpose(*rest, *chosen).reshape([t.shape[k] for k in rest] + [prod(t.shape[k] for k in chosen)])


def _product(x: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False) -> Any:
    array = as_traced(x)
    flat, shape = _flatten_axes(array, axis), np.sum(array.shadow, axis, keepdims=keepdims).shape
    if not 0 < flat.shape[-1] <= MAX_FACTORS:
        raise NotAvailable(f"a product of {flat.shape[-1]:,} factors")
    return reduce(np.multiply, [flat[..., k] for k in range(flat.shape[-1])]).reshape(shape)


def _cumulative_product(x: Any, axis: Any = None, **_: Any) -> Any:
    array = as_traced(x).reshape(-1) if axis is None else as_traced(x)
    parts = [np.take(array, [k], axis or 0) for k in range(array.shape[axis or 0])]
    products = [parts[0]]
    for part in parts[1:]:
        products.append(products[-1] * part)
    return np.concatenate(products, axis or 0)


# --- choices by value


def _make_extremum(sign: int) -> Rule:
    def rule(x: Any, axis: Any = None, out: Any = None, keepdims: Any = False, **kwargs: Any) -> Any:
        if kwargs:
            raise NotAvailable(f"numpy.max with {', '.join(kwargs)}")
        array, name = as_traced(x), "max" if sign > 0 else "min"
        result = getattr(np, name)(array.shadow, axis=axis, keepdims=bool(keepdims))
        if array.ndim == 0:
            return array.copy()
        flat = sign * _flatten_axes(array.shadow, axis)
        first, last = flat.argmax(-1), flat.shape[-1] - 1 - flat[..., ::-1].argmax(-1)
        note_branch(name, first, array)

        def take(index: Any) -> build.Place:
            return lambda t: np.take_along_axis(_flatten_axes(t, axis), index[..., None], -1).reshape(np.shape(result))

        return finish(result, build.move(array, take(first), take(last)))

    return rule


def _refuse_equal_numbers(x: TracedArray, axis: int, name: str) -> None:
    if node_of(x).varies and bool((np.diff(np.sort(x.shadow, axis), axis=axis) == 0).any()):
        raise NotAvailable(f"equal numbers in {name}")


def _make_order(name: str) -> Rule:
    """Make the rule of a function that returns places along an axis."""

    def rule(x: Any, *args: Any, **kwargs: Any) -> Any:
        array = as_traced(x)
        axis = kwargs.get("axis", -1 if name == "argsort" else None)
        flat = array.reshape(-1) if axis is None else array
        _refuse_equal_numbers(flat, -1 if axis is None else axis, name)
        order = getattr(np, name)(array.shadow, *args, **kwargs)
        note_branch(name, order, array)
        return order

    return rule


def _sort(x: Any, axis: int | None = -1, **_: Any) -> Any:
    array = as_traced(x).reshape(-1) if axis is None else as_traced(x)
    along = -1 if axis is None else axis
    return np.take_along_axis(array, np.argsort(array, axis=along), along)


def _median(x: Any, axis: int | None = None, out: Any = None, overwrite_input: bool = False, keepdims: bool = False) -> Any:
    array = as_traced(x).reshape(-1) if axis is None else as_traced(x)
    ordered, n = _sort(array, axis or 0), array.shape[axis or 0]
    middle = np.take(ordered, [(n - 1) // 2, n // 2], axis or 0)
    return _mean(middle, axis or 0, keepdims=keepdims and axis is not None)


def _where(condition: Any, *branches: Any) -> Any:
    if not branches:
        return np.nonzero(condition)
    a, b = map(trace_sequences, branches)
    mask = np.asarray(shadow_of(condition), bool)
    return finish(np.where(mask, shadow_of(a), shadow_of(b)), choose(mask, a, b))


def _clip(x: Any, a_min: Any = None, a_max: Any = None, *, min: Any = None, max: Any = None) -> Any:  # noqa: A002 - NumPy's names
    low, high = (a_min if min is None else min), (a_max if max is None else max)
    x = x if low is None else np.maximum(x, low)
    return x if high is None else np.minimum(x, high)


def _replace_nan(x: Any, copy: bool = True, nan: float = 0.0, **_: Any) -> Any:
    if np.isinf(shadow_of(x)).any():
        raise NotAvailable("numpy.nan_to_num of infinities")
    return np.where(np.isnan(x), nan, x)


# --- products of several arrays


def _outer(a: Any, b: Any) -> Any:
    return np.reshape(a, (-1, 1)) * np.reshape(b, (1, -1))


def _einsum(subscripts: Any, *operands: Any, optimize: Any = False) -> Any:
    """Multiply and add up along axes: more than two arrays pair by pair."""
    if not isinstance(subscripts, str):
        raise NotAvailable("numpy.einsum with lists of axes")
    if len(operands) == 1:
        return make_linear(lambda x: np.einsum(subscripts, x))(*operands)
    if len(operands) == 2:
        return make_bilinear(lambda x, y: np.einsum(subscripts, x, y))(*operands)
    inputs, arrow, output = subscripts.replace(" ", "").partition("->")
    if "." in inputs:
        raise NotAvailable("numpy.einsum of more than two arrays with an ellipsis")
    output = output if arrow else "".join(sorted(k for k in set(inputs) - {","} if inputs.count(k) == 1))
    first, second, *rest = inputs.split(",")
    kept = "".join(sorted(k for k in {*first, *second} if k in output or any(k in other for other in rest)))
    product = np.einsum(f"{first},{second}->{kept}", *operands[:2])
    return np.einsum(f"{','.join([kept, *rest])}->{output}", product, *operands[2:])


def _pad(x: Any, pad_width: Any, mode: Any = "constant", **kwargs: Any) -> Any:
    if mode in ("edge", "reflect", "symmetric", "wrap"):
        return make_move(np.pad)(x, pad_width, mode, **kwargs)
    if mode != "constant" or np.any(kwargs.get("constant_values", 0)):
        raise NotAvailable(f"numpy.pad in the mode {mode!r}")
    return make_linear(np.pad)(x, pad_width)


def _fill_diagonal(x: Any, value: Any, wrap: bool = False) -> None:
    k = np.arange(min(x.shape))
    as_traced(x)[(k,) * x.ndim] = value


def _copy_to(target: Any, source: Any, where: Any = True, **_: Any) -> None:
    as_traced(target)[...] = source if where is True else np.where(where, source, target)


def _norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:  # noqa: A002 - NumPy's name
    """Take the norm of vectors, or the Frobenius norm of matrices."""
    array = as_traced(x)
    along = tuple(range(array.ndim)) if axis is None else axis
    is_vector = isinstance(along, int | np.integer) or len(along) == 1
    if ord in (None, "fro") or (ord == 2 and is_vector):
        return np.sqrt(_sum(array * array, along, keepdims=keepdims))
    if not is_vector:
        raise NotAvailable(f"the norm {ord} of matrices")
    if np.isinf(ord):
        return (np.max if ord > 0 else np.min)(abs(array), axis=along, keepdims=keepdims)
    return _sum(abs(array) ** ord, along, keepdims=keepdims) ** (1 / ord)


def _norm_of_vector(x: Any, *, axis: Any = None, keepdims: bool = False, ord: Any = 2) -> Any:  # noqa: A002 - NumPy's name
    return _norm(as_traced(x).reshape(-1) if axis is None else x, ord, 0 if axis is None else axis, keepdims)


# --- SciPy's functions that are made of NumPy's


def _log_sum_exp(a: Any, axis: Any = None, b: Any = None, keepdims: bool = False, return_sign: bool = False) -> Any:
    if b is not None or return_sign:
        raise NotAvailable("scipy.special.logsumexp with b= or return_sign=")
    array = as_traced(a)
    offset = np.floor(np.max(array.shadow, axis=axis, keepdims=True))
    offset[~np.isfinite(offset)] = 0.0
    total = np.log(_sum(np.exp(array - offset), axis, keepdims=True)) + offset
    return total if keepdims else total.reshape(np.sum(array.shadow, axis).shape)


def _log_softmax(x: Any, axis: Any = None) -> Any:
    return as_traced(x) - _log_sum_exp(x, axis, keepdims=True)


SPECIAL_RULES: dict[str, Rule] = {
    "logsumexp": _log_sum_exp,
    "log_softmax": _log_softmax,
    "softmax": lambda *args, **kw: np.exp(_log_softmax(*args, **kw)),
}


def _list_existing(text: str) -> dict[str, Callable[..., Any]]:
    """Return the functions of a list that this version of NumPy has, by name."""
    found: dict[str, Any] = {}
    for name in text.split():
        found[name] = np
        for part in name.split("."):
            found[name] = getattr(found[name], part, None)
    return {name: function for name, function in found.items() if callable(function)}


FUNCTION_RULES.update(
    {
        **{name: make_move(function) for name, function in _list_existing(MOVES).items()},
        **{name: make_linear(getattr(np, name), count, moves=True) for name, count in JOINS.items()},
        **{name: make_linear(function) for name, function in _list_existing(SUMS).items()},
        **{name: make_bilinear(function) for name, function in _list_existing(BILINEAR).items()},
        **{name: _make_reading(function) for name, function in _list_existing(READS).items()},
        **{name: _make_step(function) for name, function in _list_existing(STEPS).items()},
        **{name: _make_like(function) for name, function in _list_existing(LIKE).items()},
        "empty_like": _make_like(np.zeros_like),
        **dict.fromkeys(("max", "amax"), _make_extremum(1)),
        **dict.fromkeys(("min", "amin"), _make_extremum(-1)),
        **{name: _make_order(name) for name in ("argmax", "argmin", "argsort")},
        "sum": _sum,
        "mean": _mean,
        "var": _variance,
        "std": _deviation,
        "average": _average,
        "prod": _product,
        "cumprod": _cumulative_product,
        "ptp": lambda x, axis=None, **kwargs: np.max(x, axis, **kwargs) - np.min(x, axis, **kwargs),
        "sort": _sort,
        "median": _median,
        "where": _where,
        "clip": _clip,
        "nan_to_num": _replace_nan,
        "outer": _outer,
        "vdot": lambda a, b: np.dot(np.reshape(a, -1), np.reshape(b, -1)),
        "einsum": _einsum,
        "pad": _pad,
        "fill_diagonal": _fill_diagonal,
        "copyto": _copy_to,
        "real": as_traced,
        "conj": as_traced,
        "linalg.norm": _norm,
        "linalg.vector_norm": _norm_of_vector,
        "linalg.outer": _outer,
        "linalg.multi_dot": lambda arrays: reduce(np.matmul, arrays),
    }
)

"""The rule of every JAX primitive that has one: what it means exactly."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any

import numpy as np

from gradcheck.backends.jax.exact.primitives import IDENTITIES, Array, evaluate
from gradcheck.exact import build, elimination
from gradcheck.exact.build import add, choose, divide, exp, log, move, multiply, node_of, power, raise_to, subtract
from gradcheck.exact.formulas import FORMULAS, HALF_PI, Formula, atan, polygamma
from gradcheck.exact.graph import F64, Constants, Node, NotAvailable

MAX_FACTORS = 256
MAX_LOGARITHMS = 32


@dataclass(frozen=True, eq=False)
class TracedValue:
    """A value of the program: as an array, and as an exact node if it holds floating-point numbers.

    Attributes:
        shadow: the array.
        node: the same array exactly.
        varies: whether it depends on an input.
        is_bits: whether it holds integers made of the bits of floating-point numbers.
    """

    shadow: Array
    node: Node | None = None
    varies: bool = False
    is_bits: bool = False


@dataclass(frozen=True)
class PrimitiveCall:
    """A primitive that was evaluated."""

    primitive: Any
    params: dict[str, Any]
    results: list[Array]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the only result."""
        return tuple(self.results[0].shape)


# A rule: (call, operands) -> the node of its result, or one per result; None: its numbers are constants.
Rule = Callable[..., Any]


@node_of.register
def _node_of_traced(operand: TracedValue) -> Node:
    """Return the node of an array; that of an integer or boolean one holds its values."""
    return operand.node if operand.node is not None else make_constants(operand.shadow)


def make_constants(values: Array) -> Constants:
    """Read the numbers of an array as the numbers that were meant; those of a lower precision as what they are."""
    return build.make_constants(np.asarray(values, np.float64))


# --- linear maps, and products of arrays


def translate_linear(
    call: PrimitiveCall, *operands: TracedValue, moves: bool = False, places: Sequence[int] | None = None
) -> list[Node]:
    """Translate a primitive that is linear in all its floating-point operands together, or in those at some places."""
    varying = [i for i, x in enumerate(operands) if x.node is not None] if places is None else places

    def make_apply(result: int) -> Callable[[Sequence[F64]], F64]:
        def apply(arrays: Sequence[F64]) -> F64:
            values = [x.shadow for x in operands]
            for i, array in zip(varying, arrays, strict=True):
                values[i] = array
            return np.asarray(evaluate(call.primitive, call.params, values)[result])

        return apply

    nodes, shapes = [node_of(operands[i]) for i in varying], [tuple(x.shape) for x in call.results]
    return [build.linear(nodes, make_apply(i), shape, moves=moves) for i, shape in enumerate(shapes)]


def translate_gather(call: PrimitiveCall, x: TracedValue, indices: TracedValue) -> Node:
    """Translate a choice of entries by index; those out of bounds become zero here."""
    params = {**call.params, "fill_value": 0}
    places = evaluate(call.primitive, params, [1 + np.arange(x.shadow.size).reshape(x.shadow.shape), indices.shadow])[0]
    taken = move(x, lambda entries: entries.reshape(-1)[places - 1])
    return taken if places.all() else choose(places > 0, taken, 0)


def translate_bilinear(call: PrimitiveCall, a: TracedValue, b: TracedValue) -> Node:
    """Translate a product of matrices or a convolution."""
    return build.bilinear(a, b, lambda x, y: evaluate(call.primitive, call.params, [x, y])[0], call.shape)


def _flatten_axes(x: Array, axes: Iterable[int]) -> Array:
    """Move some axes to the end and flatten them into one."""
    rest = [axis for axis in range(x.ndim) if axis not in axes]
    return x.transpose([*rest, *axes]).reshape([*[x.shape[axis] for axis in rest], -1])


def _take_entries(x: TracedValue, axes: Sequence[int]) -> list[Node]:
    """Take the entries along some axes apart."""
    count = int(np.prod([x.shadow.shape[axis] for axis in axes]))
    return [move(x, lambda t, k=k: _flatten_axes(t, axes)[..., k]) for k in range(count)]  # type: ignore[misc]


def translate_sum(call: PrimitiveCall, x: TracedValue) -> Node | list[Node]:
    """Translate a sum along axes; one of a few logarithms term by term, since its exponential is a product."""
    axes = sorted(call.params["axes"])
    is_short = 0 < int(np.prod([x.shadow.shape[axis] for axis in axes])) <= MAX_LOGARITHMS
    return reduce(add, _take_entries(x, axes)) if node_of(x).has_log and is_short else translate_linear(call, x)


def translate_product(call: PrimitiveCall, x: TracedValue) -> Node:
    """Translate the product of entries along axes."""
    _refuse_many_factors(x.shadow.size // max(call.results[0].size, 1))
    factors = _take_entries(x, sorted(call.params["axes"]))
    return reduce(multiply, factors) if factors else make_constants(call.results[0])


def translate_cumulative_product(call: PrimitiveCall, x: TracedValue) -> Node:
    """Translate the products of the first entries along an axis, or of the last ones."""
    axis, count = call.params["axis"], x.shadow.shape[call.params["axis"]]
    _refuse_many_factors(count)
    products: list[Node] = []
    for k in reversed(range(count)) if call.params["reverse"] else range(count):
        factor = move(x, lambda t, k=k: np.take(t, [k], axis))  # type: ignore[misc]
        products.append(multiply(products[-1], factor) if products else factor)
    ordered = products[::-1] if call.params["reverse"] else products
    return build.linear(ordered, lambda arrays: np.concatenate(arrays, axis), call.shape, moves=True)


def _refuse_many_factors(count: int) -> None:
    if count > MAX_FACTORS:
        raise NotAvailable(f"a product of {count:,} factors")


def translate_cumulative_log_sum(call: PrimitiveCall, x: TracedValue) -> Node:
    """Translate the logarithms of the sums of the first exponentials along an axis."""
    axis, turn = call.params["axis"], -1 if call.params["reverse"] else 1

    def add_up(arrays: Sequence[F64]) -> F64:
        array = np.flip(arrays[0], axis) if turn < 0 else arrays[0]
        total = np.cumsum(array, axis)
        return np.flip(total, axis) if turn < 0 else total

    return log(build.linear([exp(x)], add_up, call.shape))


# --- functions of single numbers


def make_rule(formula: Formula) -> Rule:
    """Make the rule of a function of one number."""
    return lambda _, x: formula(x)


def translate_step(call: PrimitiveCall, *_: TracedValue) -> list[Node]:
    """Translate a function that is constant between its jumps."""
    return [make_constants(result) for result in call.results]


def translate_exp(base: int) -> Rule:
    """Make the rule of an exponential to an integer base; 0 stands for e."""

    def rule(_: PrimitiveCall, x: TracedValue) -> Node:
        vanishes = np.asarray(np.isneginf(x.shadow))
        return exp(x, base, vanishes if vanishes.any() else None)

    return rule


def translate_atan2(call: PrimitiveCall, a: TracedValue, b: TracedValue) -> Node:
    """Translate the angle of a point, which is an arc tangent but for half turns."""
    with np.errstate(all="ignore"):
        half_turns = np.round((call.results[0] - np.arctan(a.shadow / b.shadow)) / np.pi)
    return add(atan(divide(a, b)), multiply(make_constants(half_turns * 2), HALF_PI))


def translate_remainder(call: PrimitiveCall, a: TracedValue, b: TracedValue) -> Node:
    """Translate the remainder of a division."""
    return subtract(a, multiply(b, make_constants(np.round((a.shadow - call.results[0]) / b.shadow))))


def translate_polygamma(_: PrimitiveCall, order: TracedValue, x: TracedValue) -> Node:
    """Translate a derivative of digamma."""
    orders = np.unique(order.shadow)
    if len(orders) != 1 or order.varies:
        raise NotAvailable("polygamma of several orders")
    return polygamma(int(orders[0]), x)


# --- choices by value


def translate_extremum_of_two(sign: int) -> Rule:
    """Make the rule of the larger of two numbers, or with a negative sign of the smaller."""
    return lambda _, a, b: choose(sign * a.shadow >= sign * b.shadow, a, b, a.shadow == b.shadow)


def translate_clamp(_: PrimitiveCall, low: TracedValue, x: TracedValue, high: TracedValue) -> Node:
    """Translate a limit from below and above."""
    raised = choose(x.shadow >= low.shadow, x, low, x.shadow == low.shadow)
    limited = np.maximum(x.shadow, low.shadow)
    return choose(limited <= high.shadow, raised, high, limited == high.shadow)


def translate_abs(_: PrimitiveCall, x: TracedValue) -> Node:
    """Translate the absolute value."""
    return choose(x.shadow > 0, x, subtract(0, x), x.shadow == 0)


def translate_extremum(sign: int) -> Rule:
    """Make the rule of the largest number along some axes, or with a negative sign of the smallest."""

    def rule(call: PrimitiveCall, x: TracedValue) -> Node:
        axes = sorted(call.params["axes"])
        if not axes:
            return node_of(x)
        flat = sign * _flatten_axes(x.shadow, axes)
        first = flat.argmax(-1)[..., None]
        last = flat.shape[-1] - 1 - np.flip(flat, -1).argmax(-1)[..., None]

        def take(index: Array) -> build.Place:
            return lambda t: np.asarray(np.take_along_axis(_flatten_axes(t, axes), index, -1)[..., 0])

        return move(x, take(first), take(last))

    return rule


def translate_sort(call: PrimitiveCall, *operands: TracedValue) -> list[Node | None]:
    """Translate the order of some arrays by the first of them."""
    axis, count = call.params["dimension"], call.params["num_keys"]
    keys = operands[:count]
    _refuse_equal_numbers(call, keys[0], axis)
    order = np.lexsort([key.shadow for key in reversed(keys)], axis=axis)
    return [move(x, lambda t: np.take_along_axis(t, order, axis)) if x.node is not None else None for x in operands]


def translate_top(call: PrimitiveCall, x: TracedValue) -> list[Node | None]:
    """Translate the choice of the largest numbers along an axis."""
    axis = call.params.get("axis", -1)
    _refuse_equal_numbers(call, x, axis)
    return [move(x, lambda t: np.take_along_axis(t, call.results[1], axis)), None]


def translate_running_extremum(call: PrimitiveCall, x: TracedValue) -> Node:
    """Translate the extremum of the first entries along an axis, or of the last ones."""
    axis, result = call.params["axis"], call.results[0]
    _refuse_equal_numbers(call, x, axis)
    places = np.indices(result.shape)[axis]
    reached = np.where(result == x.shadow, places, places.max() if call.params["reverse"] else 0)
    accumulate = np.minimum.accumulate if call.params["reverse"] else np.maximum.accumulate
    turned = np.flip(reached, axis) if call.params["reverse"] else reached
    index = accumulate(turned, axis)
    index = np.flip(index, axis) if call.params["reverse"] else index
    return move(x, lambda t: np.take_along_axis(t, index, axis))


def _refuse_equal_numbers(call: PrimitiveCall, x: TracedValue, axis: int) -> None:
    if x.varies and bool((np.diff(np.sort(x.shadow, axis), axis=axis) == 0).any()):
        raise NotAvailable(f"equal numbers in {call.primitive.name}")


def translate_pool(call: PrimitiveCall, x: TracedValue) -> Node:
    """Translate the largest number of each window, at the place that JAX chooses for its derivative."""
    from jax import lax
    from jax._src.lax.windowed_reductions import select_and_gather_add_p

    chooses = lax.ge_p if call.primitive.name == "reduce_window_max" else lax.le_p
    numbers = np.arange(x.shadow.size, dtype=np.float64).reshape(x.shadow.shape)
    params = {**call.params, "select_prim": chooses}
    places = evaluate(select_and_gather_add_p, params, [numbers, x.shadow])[0].astype(np.int64)
    return move(x, lambda t: t.reshape(-1)[places])


# --- linear algebra


def translate_factors(call: PrimitiveCall, a: TracedValue) -> list[Node | None]:
    """Translate the factors L and U of a matrix, with the rows in the order that was chosen."""
    n, order = elimination.count_rows(a), call.results[2]
    return [elimination.eliminate(move(a, lambda t: np.take_along_axis(t, order[..., None], -2)), n), None, None]


def translate_triangular_solve(call: PrimitiveCall, a: TracedValue, b: TracedValue) -> Node:
    """Translate the solution of linear equations with a triangular matrix, whose diagonal may stand for ones."""
    n, unit = elimination.count_rows(a), bool(call.params["unit_diagonal"])
    ones = np.ones((n, n), bool)
    triangle = elimination.mask(a, np.tril(ones, -unit) if call.params["lower"] else np.triu(ones, unit))
    inverse = elimination.invert(add(triangle, elimination.make_identity(n)) if unit else triangle, n)
    inverse = elimination.transpose(inverse) if call.params["transpose_a"] else inverse
    return elimination.matmul(inverse, b) if call.params["left_side"] else elimination.matmul(b, inverse)


def translate_cholesky(_: PrimitiveCall, a: TracedValue) -> Node:
    """Translate a Cholesky factor."""
    return elimination.factor_symmetric(node_of(a), elimination.count_rows(a))


STEPS = "sign floor ceil round"
MOVES = """
broadcast_in_dim reshape transpose squeeze expand_dims rev slice dynamic_slice dynamic_update_slice concatenate stack unstack
tile pad split scatter select_n optimization_barrier device_put sharding_constraint layout_constraint
"""
SUMS = "cumsum scatter-add scatter_add scatter-sub scatter_sub reduce_window_sum"
FUNCTIONS = """
neg square sqrt rsqrt cbrt expm1 log log1p tanh sinh cosh erf erfc sin cos tan asin acos atan asinh acosh atanh lgamma digamma
"""
# Primitives whose branch the floating-point values of their operands choose, by the name that a reader knows.
CHOICES = "clamp abs sign floor ceil round argmax argmin sort top_k cummax cummin cond while"
BRANCHES = {
    "select_n": "where",
    "max": "maximum",
    "min": "minimum",
    "reduce_max": "max",
    "reduce_min": "min",
    "reduce_window_max": "max pooling",
    "reduce_window_min": "min pooling",
    **dict(zip(CHOICES.split(), CHOICES.split(), strict=True)),
}
# Primitives that compare two arrays: a branch that equal numbers choose is one by chance, unless they are always equal.
COMPARISONS = frozenset(("eq", "ne", "lt", "le", "gt", "ge", "eq_to", "lt_to", "le_to"))
# Primitives that make integers or truth values of numbers, which are constant on the branch.
OBSERVERS = COMPARISONS | {"is_finite", "argmax", "argmin", "bitcast_convert_type"}
# Primitives that run code without a jaxpr, and what that is.
OPAQUE = {
    **dict.fromkeys(("pure_callback", "io_callback"), "Python code"),
    **dict.fromkeys(("ffi_call", "custom_call"), "compiled code"),
    "pallas_call": "a Pallas kernel",
}

RULES: dict[str, Rule] = {
    **dict.fromkeys(STEPS.split(), translate_step),
    **dict.fromkeys(MOVES.split(), partial(translate_linear, moves=True)),
    **dict.fromkeys(SUMS.split(), translate_linear),
    **dict.fromkeys(("select_and_scatter_add", "select_and_gather_add"), partial(translate_linear, places=(0,))),
    **{name: make_rule(FORMULAS[name]) for name in FUNCTIONS.split()},
    **dict.fromkeys((*IDENTITIES, "convert_element_type", "reduce_precision"), make_rule(node_of)),
    "logistic": make_rule(FORMULAS["sigmoid"]),
    "erf_inv": make_rule(FORMULAS["erfinv"]),
    "exp": translate_exp(0),
    "exp2": translate_exp(2),
    **dict.fromkeys(("add", "add_any"), lambda _, a, b: add(a, b)),
    "sub": lambda _, a, b: subtract(a, b),
    "mul": lambda _, a, b: multiply(a, b),
    "div": lambda _, a, b: divide(a, b),
    "integer_pow": lambda call, x: power(x, call.params["y"]),
    "pow": lambda _, a, b: raise_to(a, b),
    "atan2": translate_atan2,
    "rem": translate_remainder,
    "polygamma": translate_polygamma,
    "gather": translate_gather,
    **dict.fromkeys(("dot_general", "conv_general_dilated"), translate_bilinear),
    "reduce_sum": translate_sum,
    "reduce_prod": translate_product,
    "cumprod": translate_cumulative_product,
    "cumlogsumexp": translate_cumulative_log_sum,
    "max": translate_extremum_of_two(1),
    "min": translate_extremum_of_two(-1),
    "clamp": translate_clamp,
    "abs": translate_abs,
    "reduce_max": translate_extremum(1),
    "reduce_min": translate_extremum(-1),
    "sort": translate_sort,
    "top_k": translate_top,
    **dict.fromkeys(("cummax", "cummin"), translate_running_extremum),
    "lu": translate_factors,
    "triangular_solve": translate_triangular_solve,
    "cholesky": translate_cholesky,
    **dict.fromkeys(("reduce_window_max", "reduce_window_min"), translate_pool),
}

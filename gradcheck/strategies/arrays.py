"""Strategies for arrays: their sizes, often 0 or 1, the kind of numbers that each array holds, and memory layouts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from gradcheck.errors import SpecError
from gradcheck.seeds import make_generator
from gradcheck.strategies.elements import any_numbers, exponents, ordinary_numbers, special_groups
from gradcheck.targets.specs import sizes
from gradcheck.targets.specs import spec as spec_module
from gradcheck.targets.specs.spec import LAYOUTS, MATRIX_KINDS, Spec

if TYPE_CHECKING:
    from numpy.typing import NDArray

Draw = Callable[[st.SearchStrategy[Any]], Any]
Dims = Mapping[str, tuple[int, int]]
DEFAULT_SIZES = (0, 4)  # range of a named size for which none is given
# Hypothesis draws the entries of an array of at most this size one by one. A larger one is drawn from a seed, and a few of its
# entries are replaced.
MAX_DRAWN_ENTRIES = 64
MAX_REPLACED_ENTRIES = 4  # replaced entries of an array that is drawn from a seed
MAX_TIED_NUMBERS = 2  # distinct numbers in an array that is full of ties
SEEDED_KINDS = ("spd", "orthogonal", "triangular", "sparse", "ones", "zeros", "eye", "array")  # kinds always drawn from a seed


def named_size(name: str, dims: Dims) -> st.SearchStrategy[int]:
    """Draw the size of a name, which is the same in every array of an example. 0 is half as likely as any other size."""
    low, high = dims.get(name, DEFAULT_SIZES)
    sizes = st.integers(0, 2 * high).map(lambda k: k if k <= high else k - high) if low == 0 else st.integers(low, high)
    return st.shared(sizes, key=f"gradcheck size {name}")


@st.composite
def literal_specs(draw: Draw, spec: Spec, dims: Dims, dtype: str) -> Spec:
    """Draw a literal spec: the values, dtype and layout of one array.

    Args:
        draw: Hypothesis's own.
        spec: the spec that the array fits.
        dims: ranges of named sizes, both ends included.
        dtype: the dtype if the spec names none.
    """
    shape = _draw_shape(draw, spec, dims)
    array_dtype = spec.dtype or dtype
    values = _draw_values(draw, spec, shape, spec_module.NUMPY_SUBSTITUTES.get(array_dtype, array_dtype))
    layout = spec.layout if spec.layout != "contiguous" else draw(st.sampled_from(_distinct_layouts(values.shape, spec.kind)))
    literal = literal_spec(spec_module.copy_to_layout(values, layout), layout)
    if array_dtype in spec_module.NUMPY_SUBSTITUTES and literal.dtype == spec_module.NUMPY_SUBSTITUTES[array_dtype]:
        return replace(literal, dtype=array_dtype)  # NumPy lacks this dtype, so the values were drawn in a substitute
    return literal


def literal_spec(values: NDArray[Any], layout: str = "contiguous") -> Spec:
    """Return the spec of exactly these values."""
    if not values.size:
        return spec_module.zeros(*values.shape, dtype=values.dtype.name, layout=layout)
    return spec_module.array(values.tolist(), dtype=values.dtype.name, layout=layout)


def _draw_shape(draw: Draw, spec: Spec, dims: Dims) -> tuple[int, ...]:
    try:
        return tuple(
            size if isinstance(size, int) else sizes.evaluate_size(size, lambda name: draw(named_size(name, dims)))
            for size in spec.shape
        )
    except SpecError:  # a size such as `n - 2` is negative
        assume(False)
        raise


def _distinct_layouts(shape: tuple[int, ...], kind: str) -> tuple[str, ...]:
    """Return the layouts that differ for a shape. An array is expanded along its first axis, which a matrix cannot lose."""
    if math.prod(shape) < 2:
        return LAYOUTS[:1]
    is_flat = sum(size > 1 for size in shape) < 2
    is_single = shape[0] < 2 or (kind in MATRIX_KINDS and len(shape) == 2)
    impossible = {layout for layout, applies in (("transposed", is_flat), ("expanded", is_single)) if applies}
    return tuple(layout for layout in LAYOUTS if layout not in impossible)


def _draw_values(draw: Draw, spec: Spec, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    if spec.kind in ("one_hot", "simplex"):
        assume(shape[-1] > 0)
        draw_rows = _draw_one_hot if spec.kind == "one_hot" else _draw_simplex
        return draw_rows(draw, shape).astype(dtype)
    if spec.kind in SEEDED_KINDS or math.prod(shape) > MAX_DRAWN_ENTRIES:
        seed = draw(st.integers(0, 2**16))
        contiguous = spec_module.Spec(spec.kind, shape, spec.params, dtype)
        values = spec_module.draw_array(contiguous, make_generator(seed, "strategies"), {}, dtype)
        return _replace_some(draw, spec, values) if spec.kind not in SEEDED_KINDS else values
    count = math.prod(shape)
    entries = draw(st.lists(_draw_entry_strategy(draw, spec, dtype), min_size=count, max_size=count))
    return np.array(entries, dtype).reshape(shape)


def _replace_some(draw: Draw, spec: Spec, values: NDArray[Any]) -> NDArray[Any]:
    """Replace a few entries of an array, in place, by numbers that Hypothesis draws."""
    entries = _draw_entry_strategy(draw, spec, values.dtype.name)
    replacements = st.dictionaries(st.integers(0, values.size - 1), entries, max_size=MAX_REPLACED_ENTRIES)
    for index, value in draw(replacements).items():
        values.reshape(-1)[index] = value
    return values


def _draw_entry_strategy(draw: Draw, spec: Spec, dtype: str) -> st.SearchStrategy[Any]:
    """Draw the strategy for all entries of an array: one kind of number, or a few numbers of it, so that many are equal."""
    numbers = _draw_number_strategy(draw, spec, dtype)
    if draw(st.integers(0, 3)) < 3:
        return numbers
    return st.sampled_from(draw(st.lists(numbers, min_size=1, max_size=MAX_TIED_NUMBERS)))


def _draw_number_strategy(draw: Draw, spec: Spec, dtype: str) -> st.SearchStrategy[Any]:
    """Draw a kind of number: ordinary numbers, alone or mixed with special ones, or numbers of another size."""
    params, numpy_dtype = dict(spec.params), np.dtype(dtype)
    if spec.kind == "boolean":
        return st.booleans()
    if spec.kind == "integers":
        low, high = params["low"], params["high"] - 1
        return st.sampled_from(sorted({low, high})) if draw(st.booleans()) else st.integers(low, high)
    is_complex = numpy_dtype.kind == "c"
    real = f"float{numpy_dtype.itemsize * 4}" if is_complex else dtype
    default_low = float(np.finfo(real).smallest_subnormal) if spec.kind == "positive" else -np.inf
    low, high = params.get("low", default_low), params.get("high", np.inf)
    ordinary = ordinary_numbers(low, high)
    mixed = [st.one_of(ordinary, group) for group in special_groups(real, low, high)]
    choice = draw(st.integers(0, len(mixed) + 1))
    numbers = [ordinary, *mixed][choice] if choice <= len(mixed) else _draw_scaled_numbers(draw, real, low, high)
    return st.builds(complex, numbers, numbers) if is_complex else numbers


def _draw_scaled_numbers(draw: Draw, dtype: str, low: float, high: float) -> st.SearchStrategy[Any]:
    if np.isfinite(high):
        return any_numbers(dtype, low, high)
    scale = 10.0 ** draw(exponents(dtype))
    return ordinary_numbers(low, high).map(lambda x: x * scale)


def _draw_one_hot(draw: Draw, shape: tuple[int, ...]) -> NDArray[Any]:
    count = math.prod(shape[:-1])
    rows = draw(st.lists(st.integers(0, shape[-1] - 1), min_size=count, max_size=count))
    return np.asarray(np.eye(shape[-1])[np.array(rows, dtype=int)].reshape(shape))


def _draw_simplex(draw: Draw, shape: tuple[int, ...]) -> NDArray[Any]:
    weight = st.one_of(st.integers(1, 16).map(float), st.sampled_from([1e-3, 1e-12]))
    count = math.prod(shape)
    weights = np.array(draw(st.lists(weight, min_size=count, max_size=count)), dtype=float).reshape(shape)
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True))

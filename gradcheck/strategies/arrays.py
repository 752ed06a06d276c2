"""Arrays: sizes with 0 and 1 among them, values of one temper each, and memory layouts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from gradcheck.errors import SpecError
from gradcheck.seeds import generator
from gradcheck.strategies.elements import (
    anywhere,
    exponents,
    ordinary,
    specials,
)
from gradcheck.targets.specs import sizes
from gradcheck.targets.specs import spec as spec_module
from gradcheck.targets.specs.spec import LAYOUTS, MATRIX_KINDS, Spec

if TYPE_CHECKING:
    from numpy.typing import NDArray

Draw = Callable[[st.SearchStrategy[Any]], Any]
Dims = Mapping[str, tuple[int, int]]
SIZES = (0, 4)  # of a dimension whose size has a name and no range
ONE_BY_ONE = 64  # entries: of larger arrays a few are drawn, the rest comes from a seed
SPRINKLED = 4  # so many
POOL = 2  # numbers that an array full of ties is made of
BY_SEED = ("spd", "orthogonal", "triangular", "sparse", "ones", "zeros", "eye", "array")  # as specs draw them


def size(name: str, dims: Dims) -> st.SearchStrategy[int]:
    """The size behind a name: the same for every array of an example. 0 is half as likely as any other."""
    low, high = dims.get(name, SIZES)
    sizes = st.integers(0, 2 * high).map(lambda k: k if k <= high else k - high) if low == 0 else st.integers(low, high)
    return st.shared(sizes, key=f"gradcheck size {name}")


@st.composite
def literals(draw: Draw, spec: Spec, dims: Dims, dtype: str) -> Spec:
    """A literal spec with the values, the dtype and the layout of one array.

    Args:
        dims: ranges of named sizes, both ends included.
        dtype: where the spec names none.
    """
    shape = _shape(draw, spec, dims)
    named = spec.dtype or dtype
    values = _values(draw, spec, shape, spec_module.HOST.get(named, named))
    layout = spec.layout if spec.layout != "contiguous" else draw(st.sampled_from(_layouts(values.shape, spec.kind)))
    found = literal(spec_module.laid_out(values, layout), layout)
    return replace(found, dtype=named) if named in spec_module.HOST and found.dtype == spec_module.HOST[named] else found


def literal(values: NDArray[Any], layout: str = "contiguous") -> Spec:
    """The spec of exactly these values."""
    if not values.size:
        return spec_module.zeros(*values.shape, dtype=values.dtype.name, layout=layout)
    return spec_module.array(values.tolist(), dtype=values.dtype.name, layout=layout)


def _shape(draw: Draw, spec: Spec, dims: Dims) -> tuple[int, ...]:
    try:
        return tuple(s if isinstance(s, int) else sizes.evaluate(s, lambda n: draw(size(n, dims))) for s in spec.shape)
    except SpecError:  # below 0
        assume(False)
        raise


def _layouts(shape: tuple[int, ...], kind: str) -> tuple[str, ...]:
    """The layouts that differ for a shape; a single matrix of a kind has no slice that could be repeated."""
    if math.prod(shape) < 2:
        return LAYOUTS[:1]
    flat, one = sum(n > 1 for n in shape) < 2, shape[0] < 2 or (kind in MATRIX_KINDS and len(shape) == 2)
    return tuple(layout for layout in LAYOUTS if not ((flat and layout == "transposed") or (one and layout == "expanded")))


def _values(draw: Draw, spec: Spec, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    if spec.kind in ("one_hot", "simplex"):
        assume(shape[-1] > 0)
        rows = _one_hot if spec.kind == "one_hot" else _simplex
        return rows(draw, shape).astype(dtype)
    if spec.kind in BY_SEED or math.prod(shape) > ONE_BY_ONE:
        seed = draw(st.integers(0, 2**16))
        plain = spec_module.Spec(spec.kind, shape, spec.params, dtype)
        found = spec_module.draw(plain, generator(seed, "strategies"), {}, dtype)
        return _sprinkled(draw, spec, found) if spec.kind not in BY_SEED else found
    count = math.prod(shape)
    return np.array(draw(st.lists(_entries(draw, spec, dtype), min_size=count, max_size=count)), dtype).reshape(shape)


def _sprinkled(draw: Draw, spec: Spec, values: NDArray[Any]) -> NDArray[Any]:
    """With a few entries of an array replaced by drawn ones."""
    entries = _entries(draw, spec, values.dtype.name)
    places = st.dictionaries(st.integers(0, values.size - 1), entries, max_size=SPRINKLED)
    for place, value in draw(places).items():
        values.reshape(-1)[place] = value
    return values


def _entries(draw: Draw, spec: Spec, dtype: str) -> st.SearchStrategy[Any]:
    """Where one array's entries come from: any of a temper, or of a few numbers of it, so that many are equal."""
    chosen = _temper(draw, spec, dtype)
    if draw(st.integers(0, 3)) < 3:
        return chosen
    return st.sampled_from(draw(st.lists(chosen, min_size=1, max_size=POOL)))


def _temper(draw: Draw, spec: Spec, dtype: str) -> st.SearchStrategy[Any]:
    """Ordinary numbers, some special ones among them, or numbers of another size."""
    params, kind = dict(spec.params), np.dtype(dtype)
    if spec.kind == "boolean":
        return st.booleans()
    if spec.kind == "integers":
        low, high = params["low"], params["high"] - 1
        return st.sampled_from(sorted({low, high})) if draw(st.booleans()) else st.integers(low, high)
    real = f"float{kind.itemsize * 4}" if kind.kind == "c" else dtype
    least = float(np.finfo(real).smallest_subnormal) if spec.kind == "positive" else -np.inf
    low, high = params.get("low", least), params.get("high", np.inf)
    usual = ordinary(low, high)
    mixed = [st.one_of(usual, part) for part in specials(real, low, high)]
    which = draw(st.integers(0, len(mixed) + 1))
    chosen = [usual, *mixed][which] if which <= len(mixed) else _of_a_size(draw, real, low, high)
    return st.builds(complex, chosen, chosen) if kind.kind == "c" else chosen


def _of_a_size(draw: Draw, dtype: str, low: float, high: float) -> st.SearchStrategy[Any]:
    if np.isfinite(high):
        return anywhere(dtype, low, high)
    scale = 10.0 ** draw(exponents(dtype))
    return ordinary(low, high).map(lambda x: x * scale)


def _one_hot(draw: Draw, shape: tuple[int, ...]) -> NDArray[Any]:
    count = math.prod(shape[:-1])
    rows = draw(st.lists(st.integers(0, shape[-1] - 1), min_size=count, max_size=count))
    return np.asarray(np.eye(shape[-1])[np.array(rows, dtype=int)].reshape(shape))


def _simplex(draw: Draw, shape: tuple[int, ...]) -> NDArray[Any]:
    weight = st.one_of(st.integers(1, 16).map(float), st.sampled_from([1e-3, 1e-12]))
    count = math.prod(shape)
    weights = np.array(draw(st.lists(weight, min_size=count, max_size=count)), dtype=float).reshape(shape)
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True))

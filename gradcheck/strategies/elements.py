"""Strategies for single numbers: ordinary ones on a coarse grid, where ties are likely, and special ones that break code."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from hypothesis import strategies as st

Numbers = st.SearchStrategy[Any]
GRID = 16  # ordinary numbers are multiples of 1/GRID
SIMPLE_NUMBERS = (0.0, 1.0, -1.0, -0.0)
LARGE_NUMBERS = (1e5, -1e5, 1e8, -1e8)
MAX_DECADES = 30  # the largest power of ten that numbers are scaled by, up or down


def special_numbers(dtype: str, low: float = -np.inf, high: float = np.inf) -> Numbers:
    """Draw zeros of both signs, ones, their neighbours, denormals, large numbers and the borders, in [low, high)."""
    return st.one_of(special_groups(dtype, low, high))


def special_groups(dtype: str, low: float = -np.inf, high: float = np.inf) -> list[Numbers]:
    """Return strategies for two groups of special numbers: -1, 0, -0 and 1, and all others; empty groups are left out."""
    groups = (_numbers_within(values, dtype, low, high) for values in (SIMPLE_NUMBERS, _edge_numbers(dtype, low, high)))
    return [st.sampled_from(values) for values in groups if values]


def ordinary_numbers(low: float = -np.inf, high: float = np.inf) -> Numbers:
    """Draw numbers strictly between two, of moderate size, on a coarse grid; they shrink to 1 unless both ends are finite."""
    if np.isfinite(low) and np.isfinite(high):
        return st.integers(1, GRID - 1).map(lambda k: low + (high - low) * k / GRID)
    start = 1 - GRID if np.isfinite(low) else -5 * GRID  # if there is a lower end, we draw positive numbers only
    return st.integers(start, 3 * GRID).map(lambda k: 1.0 + k / GRID)


def any_numbers(dtype: str, low: float, high: float) -> Numbers:
    """Draw any number in [low, high), both finite, except denormals."""
    return st.floats(
        _round_into(low, dtype, up=True),
        _round_into(high, dtype, up=False),
        width=np.finfo(dtype).bits,  # type: ignore[arg-type]
        allow_subnormal=False,
    )


def exponents(dtype: str) -> st.SearchStrategy[int]:
    """Draw exponents of ten such that a product of four numbers of that size does not overflow."""
    largest = int(np.log10(np.finfo(dtype).max)) // 4
    return st.integers(-min(largest, MAX_DECADES), min(largest, MAX_DECADES))


def _edge_numbers(dtype: str, low: float, high: float) -> list[float]:
    """Return the borders, large numbers, and numbers next to 0 and 1."""
    info = np.finfo(dtype)
    near = [float(x) for x in (info.eps, 1 + info.eps, info.tiny, info.smallest_subnormal)]
    borders = [_round_into(x, dtype, up=up) for x, up in ((low, True), (high, False)) if np.isfinite(x)]
    return [*borders, *LARGE_NUMBERS, *near, *(-x for x in near)]


def _numbers_within(values: Iterable[float], dtype: str, low: float, high: float) -> list[float]:
    """Return the values inside [low, high), rounded to the dtype, each once."""
    cast = [float(np.dtype(dtype).type(x)) for x in values]
    return list({(x, bool(np.signbit(x))): x for x in cast if low <= x < high}.values())


def _round_into(x: float, dtype: str, *, up: bool) -> float:
    """Return the number of a dtype that is nearest to x and not below it (`up`), or nearest to x and strictly below it."""
    cast = np.dtype(dtype).type
    rounded = cast(x)
    if float(rounded) < x if up else float(rounded) >= x:
        rounded = np.nextafter(rounded, cast(np.inf if up else -np.inf))
    return float(rounded)

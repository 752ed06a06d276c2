"""Single numbers: ordinary ones on a coarse grid, where ties are likely, and those that break things."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Iterable

Numbers = st.SearchStrategy[Any]
GRID = 16  # ordinary numbers are multiples of 1/GRID
SIMPLE = (0.0, 1.0, -1.0, -0.0)
LARGE = (1e5, -1e5, 1e8, -1e8)
DECADES = 30


def special(dtype: str, low: float = -np.inf, high: float = np.inf) -> Numbers:
    """Zeros of both signs, ones, the neighbours of both, denormals, large numbers and the borders, in [low, high)."""
    return st.one_of(specials(dtype, low, high))


def specials(dtype: str, low: float = -np.inf, high: float = np.inf) -> list[Numbers]:
    """The same in two parts, where there are any: -1, 0 and 1 with both zeros, and the others."""
    parts = (_within(values, dtype, low, high) for values in (SIMPLE, _telling(dtype, low, high)))
    return [st.sampled_from(values) for values in parts if values]


def ordinary(low: float = -np.inf, high: float = np.inf) -> Numbers:
    """Numbers strictly between two, of a moderate size and on a coarse grid; 1 is the simplest where both are far."""
    if np.isfinite(low) and np.isfinite(high):
        return st.integers(1, GRID - 1).map(lambda k: low + (high - low) * k / GRID)
    least = 1 - GRID if np.isfinite(low) else -5 * GRID  # of what is bounded below, positive numbers alone are drawn
    return st.integers(least, 3 * GRID).map(lambda k: 1.0 + k / GRID)


def anywhere(dtype: str, low: float, high: float) -> Numbers:
    """Any number in [low, high), both finite, denormals left out."""
    return st.floats(
        _rounded(low, dtype, up=True),
        _rounded(high, dtype, up=False),
        width=np.finfo(dtype).bits,  # type: ignore[arg-type]
        allow_subnormal=False,
    )


def exponents(dtype: str) -> st.SearchStrategy[int]:
    """Powers of ten that leave room for a product of four numbers of that size."""
    largest = int(np.log10(np.finfo(dtype).max)) // 4
    return st.integers(-min(largest, DECADES), min(largest, DECADES))


def _telling(dtype: str, low: float, high: float) -> list[float]:
    kind = np.finfo(dtype)
    near = [float(x) for x in (kind.eps, 1 + kind.eps, kind.tiny, kind.smallest_subnormal)]
    borders = [_rounded(x, dtype, up=up) for x, up in ((low, True), (high, False)) if np.isfinite(x)]
    return [*borders, *LARGE, *near, *(-x for x in near)]


def _within(values: Iterable[float], dtype: str, low: float, high: float) -> list[float]:
    """Those inside, each once, as they are in the dtype."""
    cast = [float(np.dtype(dtype).type(x)) for x in values]
    return list({(x, bool(np.signbit(x))): x for x in cast if low <= x < high}.values())


def _rounded(x: float, dtype: str, *, up: bool) -> float:
    """The number of a dtype nearest to x among those not below it, or among those strictly below it."""
    to = np.dtype(dtype).type
    found = to(x)
    if float(found) < x if up else float(found) >= x:
        found = np.nextafter(found, to(np.inf if up else -np.inf))
    return float(found)

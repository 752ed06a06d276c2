"""Tolerances of JAX's checkers: numbers, or mappings from dtypes to numbers with a default for each dtype."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from gradcheck.compat.jax.products import keep_floating


def find_chosen_tolerance(given: Any, args: Sequence[Any]) -> float:
    """Return the largest tolerance that a call chooses for the dtypes of its arguments; 0 if it leaves JAX's defaults.

    Args:
        given: None, a number or a mapping from dtypes to numbers.
        args: the arguments of the function.
    """
    pairs = _list_tolerances(given, args)
    return max((float(tolerance) for tolerance, default in pairs if tolerance != default), default=0.0)


def read_tolerance(given: Any, args: Sequence[Any]) -> float:
    """Return the largest tolerance that JAX uses for the dtypes of some arguments."""
    return max((float(tolerance) for tolerance, _ in _list_tolerances(given, args)), default=0.0)


def scale_tolerance(given: Any, factor: float) -> Any:
    """Return a tolerance, or those of all dtypes, multiplied by a factor."""
    merged = merge_with_defaults(given)
    return {dtype: factor * value for dtype, value in merged.items()} if isinstance(merged, dict) else factor * merged


def merge_with_defaults(given: Any) -> Any:
    """Return the tolerance for every dtype, as JAX's checkers use it."""
    from jax._src.public_test_util import _merge_tolerance, default_gradient_tolerance

    return _merge_tolerance(given, default_gradient_tolerance)


def _list_tolerances(given: Any, args: Sequence[Any]) -> Iterator[tuple[float, float]]:
    """Yield the tolerance and JAX's default for the dtype of each floating argument; and for the real parts of complex ones."""
    import jax
    import numpy as np

    merged, defaults = merge_with_defaults(given), merge_with_defaults(None)
    for leaf in keep_floating(tuple(args)):
        dtype = np.dtype(jax.dtypes.canonicalize_dtype(jax.numpy.result_type(leaf)))
        for name in {dtype, np.dtype(dtype.char.lower()) if dtype.kind == "c" else dtype}:
            if name in defaults:
                yield (merged.get(name, defaults[name]) if isinstance(merged, dict) else merged), defaults[name]

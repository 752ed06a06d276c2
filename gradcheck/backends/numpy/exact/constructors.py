"""NumPy's functions that make arrays, replaced while code is traced: what they make can be written to and stays traced."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from gradcheck.backends.numpy.exact.array import contains_traced, make_constant, trace_sequences

NEW = ("zeros", "ones", "full", "eye", "identity", "zeros_like", "ones_like", "full_like")
EMPTY = {"empty": np.zeros, "empty_like": np.zeros_like}  # so that no number depends on what the memory held
CONVERSIONS = ("array", "asarray", "asanyarray", "ascontiguousarray", "asfortranarray", "copy")
# Code of these packages gets plain arrays, as does another thread.
LIBRARIES = ("numpy.", "scipy.", "gradcheck.backends.", "gradcheck.exact.")
_lock = threading.RLock()


@contextmanager
def traced_constructors() -> Iterator[None]:
    """Replace the functions that make arrays in the namespace of NumPy."""
    with _lock:
        thread = threading.get_ident()
        originals = {name: getattr(np, name) for name in (*NEW, *EMPTY, *CONVERSIONS)}
        try:
            for name, original in originals.items():
                make = _convert(original) if name in CONVERSIONS else _trace(EMPTY.get(name, original))
                setattr(np, name, _choose(thread, original, make))
            yield
        finally:
            for name, original in originals.items():
                setattr(np, name, original)


def _choose(thread: int, original: Callable[..., Any], make: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        caller = sys._getframe(1).f_globals.get("__name__")
        is_library = f"{caller}.".startswith(LIBRARIES) or threading.get_ident() != thread
        return (original if is_library else make)(*args, **kwargs)

    return call


def _trace(make: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        array = make(*args, **kwargs)
        return make_constant(array) if isinstance(array, np.ndarray) and array.dtype.kind == "f" else array

    return call


def _convert(convert: Callable[..., Any]) -> Callable[..., Any]:
    copies = convert in (np.array, np.copy)

    def call(value: Any, *args: Any, **kwargs: Any) -> Any:
        if not contains_traced(value):
            return convert(value, *args, **kwargs)
        array = trace_sequences(value)
        dtype = kwargs.get("dtype", next(iter(args), None))
        array = array.copy() if copies and array is value and kwargs.get("copy", True) else array
        return array if dtype is None else array.astype(dtype)

    return call

"""NumPy's functions that make arrays, as traced code sees them: what they make can be written to and stays traced.

They are replaced in the variables of Python modules, such as their `np`, and not in NumPy: compiled code takes what these
functions return for plain arrays, without a check.
"""

from __future__ import annotations

import inspect
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np

from gradcheck.backends.generators import LIBRARIES
from gradcheck.backends.numpy.exact.array import contains_traced, make_constant, trace_sequences

NEW = ("zeros", "ones", "full", "eye", "identity", "zeros_like", "ones_like", "full_like")
EMPTY = {"empty": np.zeros, "empty_like": np.zeros_like}  # so that no number depends on what the memory held
CONVERSIONS = ("array", "asarray", "asanyarray", "ascontiguousarray", "asfortranarray", "copy")
REFERENCE = "gradcheck.reference"
_lock = threading.RLock()


@contextmanager
def traced_constructors(*functions: Callable[..., Any]) -> Iterator[None]:
    """Replace NumPy and its functions that make arrays in the variables of all modules that are no libraries.

    Args:
        functions: whose variables are replaced too, wherever they are defined.
    """
    with _lock:
        namespace = _Namespace("numpy")
        made: dict[int, Any] = {id(np): namespace}
        for name in (*NEW, *EMPTY, *CONVERSIONS):
            original = getattr(np, name)
            make = _convert(original) if name in CONVERSIONS else _trace(EMPTY.get(name, original))
            made[id(original)] = _choose(threading.get_ident(), original, make)
            setattr(namespace, name, made[id(original)])
        changed = [(space, key, x) for space in _list_variables(functions) for key, x in list(space.items()) if id(x) in made]
        try:
            for space, key, value in changed:
                space[key] = made[id(value)]
            yield
        finally:
            for space, key, value in changed:
                space[key] = value


class _Namespace(ModuleType):
    """NumPy with some functions replaced."""

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


def _list_variables(functions: tuple[Callable[..., Any], ...]) -> list[dict[str, Any]]:
    """Return the variables of modules written in Python, and those of functions."""
    spaces = [getattr(inspect.unwrap(function), "__globals__", {}) for function in functions]
    for name, module in list(sys.modules.items()):
        is_library = name.partition(".")[0] in LIBRARIES and not name.startswith(REFERENCE)
        if isinstance(module, ModuleType) and not is_library:
            is_python = name == "__main__" or str(vars(module).get("__file__")).endswith(".py")
            spaces += [vars(module)] if is_python else []
    return list({id(space): space for space in spaces}.values())


def _choose(thread: int, original: Callable[..., Any], make: Callable[..., Any]) -> Callable[..., Any]:
    """Let another thread, which may run the same code, keep the original."""

    def call(*args: Any, **kwargs: Any) -> Any:
        return (make if threading.get_ident() == thread else original)(*args, **kwargs)

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

"""NumPy's functions that make arrays, as traced code sees them: what they make can be written to and stays traced.

They are replaced in the variables of Python modules, such as their `np`, and not in NumPy: compiled code takes what these
functions return for plain arrays, without a check. So are functions of SciPy that are written in Python.
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
from gradcheck.backends.numpy.exact.array import TracedArray, contains_traced, make_constant, trace_sequences
from gradcheck.backends.numpy.exact.functions import SPECIAL_RULES
from gradcheck.backends.numpy.exact.record import is_recording

NEW = ("zeros", "ones", "full", "eye", "identity", "zeros_like", "ones_like", "full_like")
EMPTY: dict[str, Callable[..., Any]] = {
    "empty": np.zeros,
    "empty_like": np.zeros_like,
}  # so that no number depends on what the memory held
CONVERSIONS = ("array", "asarray", "asanyarray", "ascontiguousarray", "asfortranarray", "copy")
# Functions of `math` that NumPy has by the same name.
MATH_RULES = {
    name: getattr(np, name)
    for name in ("sqrt", "exp", "log", "log2", "log10", "log1p", "expm1", "sin", "cos", "tan", "tanh", "hypot")
}
REFERENCE = "gradcheck.reference"
_lock = threading.RLock()


@contextmanager
def traced_constructors(*functions: Callable[..., Any]) -> Iterator[None]:
    """Replace NumPy and its functions that make arrays, and `float`, in the variables of all modules that are no libraries.

    Args:
        functions: whose variables are replaced too, wherever they are defined.
    """
    with _lock:
        made, thread = dict[int, Any](), threading.get_ident()
        replaced: dict[str, dict[str, Callable[..., Any]]] = {
            "numpy": _list_makers(),
            "scipy.special": SPECIAL_RULES,
            "math": MATH_RULES,
        }
        for module, makers in [(sys.modules[name], makers) for name, makers in replaced.items() if name in sys.modules]:
            namespace = made[id(module)] = _Namespace(module)
            for name, make in makers.items():
                original = getattr(module, name)
                made[id(original)] = _choose(thread, original, make, is_rule=module is not np)
                setattr(namespace, name, made[id(original)])
        spaces = _list_variables(functions)
        changed = [(space, key, x) for space in spaces for key, x in list(space.items()) if id(x) in made]
        converting = [space for space in spaces if "float" not in space]
        try:
            for space, key, value in changed:
                space[key] = made[id(value)]
            for space in converting:
                space["float"] = _TracedFloat
            yield
        finally:
            for space, key, value in changed:
                space[key] = value
            for space in converting:
                space.pop("float", None)


class _FloatType(type):
    def __instancecheck__(cls, value: Any) -> bool:
        return isinstance(value, float)

    def __subclasscheck__(cls, other: type) -> bool:
        return issubclass(other, float)


class _TracedFloat(float, metaclass=_FloatType):
    """What `float` is to traced code: a number of a traced array stays traced."""

    dtype = np.dtype(float)  # for NumPy

    def __new__(cls, value: Any = 0.0) -> Any:
        """Make a number."""
        return value.item() if isinstance(value, TracedArray) and is_recording() else float(value)


class _Namespace(ModuleType):
    """A module with some functions replaced."""

    def __init__(self, original: ModuleType) -> None:
        super().__init__(original.__name__)
        self._original = original

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)


def _list_makers() -> dict[str, Callable[..., Any]]:
    """Return the functions in place of those of NumPy."""
    conversions = {name: _convert(getattr(np, name)) for name in CONVERSIONS}
    return {
        **{name: _trace(getattr(np, name)) for name in NEW},
        **{name: _trace(make) for name, make in EMPTY.items()},
        **conversions,
    }


def _list_variables(functions: tuple[Callable[..., Any], ...]) -> list[dict[str, Any]]:
    """Return the variables of modules written in Python, and those of functions."""
    spaces = [getattr(inspect.unwrap(function), "__globals__", {}) for function in functions]
    for name, module in list(sys.modules.items()):
        is_library = name.partition(".")[0] in LIBRARIES and not name.startswith(REFERENCE)
        if isinstance(module, ModuleType) and not is_library:
            is_python = name == "__main__" or str(vars(module).get("__file__")).endswith(".py")
            spaces += [vars(module)] if is_python else []
    return list({id(space): space for space in spaces}.values())


def _choose(thread: int, original: Callable[..., Any], make: Callable[..., Any], *, is_rule: bool) -> Callable[..., Any]:
    """Let another thread, which may run the same code, keep the original, and a rule have traced arrays alone."""

    def call(*args: Any, **kwargs: Any) -> Any:
        applies = threading.get_ident() == thread and not (is_rule and not contains_traced(args))
        return (make if applies else original)(*args, **kwargs)

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

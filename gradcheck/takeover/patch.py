"""Replacement of a function's code in place, so that every reference to the function runs the replacement.

Names that other modules imported, default arguments, partials, bound methods and subclasses all refer to one function object.
Its `__code__` is exchanged for a trampoline; the original code lives on in a new function.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Mapping
from typing import Any

Receiver = Callable[[Callable[..., Any], tuple[Any, ...], Mapping[str, Any]], Any]  # takes the original and its arguments
_RECEIVER, _ORIGINAL = "<receiver>", "<original>"  # constants of the trampoline's code, to be replaced by the functions
_TRAMPOLINE = f"""
def make({{cells}}):
    def trampoline(*_gradcheck_args, **_gradcheck_kwargs):
        __tracebackhide__ = True
        _gradcheck_receiver = {_RECEIVER!r}
        _gradcheck_original = {_ORIGINAL!r}
        return _gradcheck_receiver(_gradcheck_original, _gradcheck_args, _gradcheck_kwargs)
        {{cells}}
    return trampoline
"""


class Patch:
    """A function whose code is replaced until `undo` is called."""

    def __init__(self, function: types.FunctionType, receiver: Receiver) -> None:
        """Replace the code.

        Args:
            receiver: what runs instead; it gets a function that does what `function` did, and the arguments of the call.
        """
        self.function, self._code = function, function.__code__
        self._has_signature = "__signature__" in function.__dict__
        signature = inspect.signature(function)
        self.original = _copy_function(function)
        function.__code__ = _make_trampoline(function.__code__, receiver, self.original)
        if not self._has_signature:
            function.__signature__ = signature  # type: ignore[attr-defined]

    def undo(self) -> None:
        """Give the function its code back."""
        self.function.__code__ = self._code
        if not self._has_signature:
            self.function.__dict__.pop("__signature__", None)


def find_function(value: Any, name: str, module: str) -> types.FunctionType | None:
    """Return the innermost plain function that a name of a module stands for; None if there is none.

    Decorators keep what they wrap as `__wrapped__`, as the `func` of a partial, or in a closure without any trace.

    Args:
        value: what the name refers to.
        name: the name with which the function was defined.
        module: the module that defines it.
    """
    while True:
        inner = _unwrap(value, name, module)
        if inner is None:
            return value if isinstance(value, types.FunctionType) else None
        value = inner


def _unwrap(value: Any, name: str, module: str) -> Any:
    """Return what a value wraps; None if it wraps nothing."""
    if isinstance(value, functools.partial):
        return value.func
    if isinstance(value, types.MethodType | staticmethod | classmethod):
        return value.__func__
    if hasattr(value, "__wrapped__"):
        return value.__wrapped__
    if isinstance(value, types.FunctionType) and value.__code__.co_name != name:
        return next((cell for cell in _closure_values(value) if _is_named(cell, name, module)), None)
    return None


def _closure_values(function: types.FunctionType) -> list[Any]:
    cells = function.__closure__ or ()
    return [cell.cell_contents for cell in cells if cell != types.CellType()]  # an empty cell has no contents


def _is_named(value: Any, name: str, module: str) -> bool:
    """Say whether a value is the function that was defined with a name, or is decorated to look like it."""
    return isinstance(value, types.FunctionType) and value.__name__ == name and value.__module__ == module


def _copy_function(function: types.FunctionType) -> types.FunctionType:
    """Return a function with the same code, globals, defaults and closure."""
    copy = types.FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )
    copy.__kwdefaults__ = function.__kwdefaults__
    copy.__qualname__, copy.__module__, copy.__doc__ = function.__qualname__, function.__module__, function.__doc__
    copy.__annotations__ = function.__annotations__
    copy.__dict__.update(function.__dict__)
    return copy


def _make_trampoline(code: types.CodeType, receiver: Receiver, original: types.FunctionType) -> types.CodeType:
    """Return code that passes its arguments on; it has as many free variables as `code`, as Python demands."""
    source = _TRAMPOLINE.format(cells=", ".join(code.co_freevars))
    namespace: dict[str, Any] = {}
    exec(compile(source, code.co_filename, "exec"), namespace)
    trampoline: types.CodeType = namespace["make"](*code.co_freevars).__code__
    functions = {_RECEIVER: receiver, _ORIGINAL: original}
    constants = tuple(functions.get(c, c) if isinstance(c, str) else c for c in trampoline.co_consts)
    return trampoline.replace(
        co_consts=constants, co_name=code.co_name, co_qualname=code.co_qualname, co_firstlineno=code.co_firstlineno
    )

"""The functions that the code of a network calls, and the places from which it takes them."""

from __future__ import annotations

import functools
import types
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from gradcheck.backends.forms.places import Place
from gradcheck.backends.generators import is_of_library

FORWARD_WORDS = (("forward", "backward"), ("Forward", "Backward"), ("fwd", "bwd"), ("fprop", "bprop"))
BACKWARD_SUFFIX = "_backward"
MAX_FUNCTIONS = 1000  # that are searched, nearest first: those of a package that the network uses may be many more


def find_called_functions(roots: Iterable[Any]) -> dict[Any, list[Place]]:
    """Find the functions of the user that some functions call by name, and that these call.

    Args:
        roots: functions, methods, classes and objects whose classes have methods.

    Returns:
        Each function with the places from which the code takes it: globals of a module, or cells of a closure.
    """
    found: dict[Any, list[Place]] = {}
    visited: set[Any] = set()
    waiting = deque(function for root in roots for function in list_functions(root))
    while waiting and len(visited) < MAX_FUNCTIONS:
        function = waiting.popleft()
        if function in visited or is_of_library(function):
            continue
        visited.add(function)
        for place in _list_places(function):
            value = place.read()
            waiting.extend(list_functions(value))
            if _is_function(value):
                places = found.setdefault(value, [])
                is_known = any(p.holder is place.holder and p.key == place.key for p in places)
                places.extend([] if is_known else [place])
    return found


def _is_function(value: Any) -> bool:
    """Whether a value is a function of the user, or an object in its place, such as one that numba compiles."""
    is_named = callable(value) and hasattr(value, "__name__") and type(value).__hash__ is not None
    return is_named and not isinstance(value, type) and not is_of_library(value)


def list_functions(value: Any) -> list[types.FunctionType]:
    """Return the Python functions in a value: itself, what it wraps, or the methods of its class."""
    if isinstance(value, functools.partial):
        return list_functions(value.func)
    if isinstance(value, types.MethodType):
        return [*list_functions(value.__func__), *list_functions(type(value.__self__))]
    if isinstance(value, types.FunctionType):
        return [value, *(list_functions(value.__wrapped__) if hasattr(value, "__wrapped__") else [])]
    if isinstance(value, type) and not is_of_library(value):
        parts = [getattr(part, "__func__", getattr(part, "fget", part)) for c in value.__mro__ for part in vars(c).values()]
        return [part for part in parts if isinstance(part, types.FunctionType)]
    return []


def _list_places(function: types.FunctionType) -> Iterator[Place]:
    """Yield the places of the variables that a function refers to: globals, attributes of modules, and cells."""
    names = _list_names(function.__code__)
    yield from _list_items(function.__globals__, names)
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        if hasattr(cell, "cell_contents"):  # a variable that is not assigned yet has none
            yield Place(name, cell, "cell_contents", is_attribute=True)


def _list_items(namespace: dict[str, Any], names: list[str]) -> Iterator[Place]:
    """Yield the variables of a namespace among some names, and those of the modules in it."""
    waiting, visited = [namespace], set[int]()
    while waiting:
        variables = waiting.pop()
        visited.add(id(variables))
        for name in names:
            if name in variables:
                yield Place(name, variables, name, is_attribute=False)
                value = variables[name]
                if isinstance(value, types.ModuleType) and not is_of_library(value) and id(vars(value)) not in visited:
                    waiting.append(vars(value))


def _list_names(code: types.CodeType) -> list[str]:
    """Return the names of globals and attributes in a code object and in those of its inner functions."""
    inner = [name for part in code.co_consts if isinstance(part, types.CodeType) for name in _list_names(part)]
    return list(dict.fromkeys([*code.co_names, *inner]))


def pair_by_name(functions: Iterable[Callable[..., Any]]) -> list[tuple[Any, list[Any]]]:
    """Pair each forward among some functions with its backwards, by name.

    The backward of `conv_forward_fast` is `conv_backward_fast`, that of `relu` or `relu_forward` is `relu_backward`. A
    variant of a backward, such as `batchnorm_backward_alt`, belongs to the same forward.
    """
    named = {function.__name__: function for function in functions}
    partners = {name: backward for name in named for backward in [name_backward(name, named)] if backward}
    pairs = []
    for name, backward in partners.items():
        taken = {other for key, other in partners.items() if key != name}
        variants = [key for key in named if key.startswith(f"{backward}_") and key not in taken]
        pairs.append((named[name], [named[key] for key in (backward, *variants) if key in named]))
    return pairs


def name_backward(name: str, known: Iterable[str]) -> str:
    """Return the name that the backward of a function has, or would have if a forward is named as one; '' for others."""
    for forward, backward in FORWARD_WORDS:
        if forward in name:
            return name.replace(forward, backward)
    return f"{name}{BACKWARD_SUFFIX}" if f"{name}{BACKWARD_SUFFIX}" in known else ""

"""Random generators that the user's code holds: in closures, globals, defaults, attributes, containers and arguments."""

from __future__ import annotations

import functools
import inspect
import random
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

# Functions of these packages draw from global generators, or from those that they are given.
LIBRARIES = {*sys.stdlib_module_names, "gradcheck", "jax", "jaxlib", "numpy", "scipy", "torch"} - {"__main__"}
# The search visits at most this many objects, so that it takes milliseconds for a large model.
MAX_VISITED = 4096

Accessors = tuple[Callable[[], Any], Callable[[Any], None]]  # they read and set a generator's state


def find_generators(*holders: Any) -> list[Any]:
    """Return the generators that the holders, which are functions, objects or containers, can reach without a library."""
    found, visited, waiting = list[Any](), set[int](), list(holders)
    while waiting and len(visited) < MAX_VISITED:
        value = waiting.pop()
        if value is None or isinstance(value, str | bytes | int | float | complex) or id(value) in visited:
            continue
        visited.add(id(value))
        if _is_generator(value):
            found.append(value)
        else:
            waiting += _referenced_values(value)
    return found


def state_accessors(generator: Any) -> Accessors:
    """Return the functions that read and set the state of a generator."""
    if isinstance(generator, np.random.Generator):
        bits = generator.bit_generator
        return lambda: bits.state, lambda state: setattr(bits, "state", state)
    if isinstance(generator, np.random.RandomState):
        return lambda: generator.get_state(legacy=False), generator.set_state
    if isinstance(generator, random.Random):
        return generator.getstate, generator.setstate
    return generator.get_state, generator.set_state


def _is_generator(value: Any) -> bool:
    torch = sys.modules.get("torch")
    kinds: tuple[type, ...] = (np.random.Generator, np.random.RandomState)
    has_state = type(value) is random.Random  # a subclass, such as SystemRandom, may have none
    return has_state or isinstance(value, (*kinds, torch.Generator) if torch else kinds)


def _referenced_values(value: Any) -> Iterator[Any]:
    """Yield the values that one value refers to."""
    if isinstance(value, Mapping):
        yield from value.values()
    elif isinstance(value, list | tuple | set | frozenset):
        yield from value
    elif isinstance(value, types.ModuleType):
        yield from () if _is_of_library(value) else filter(_is_generator, vars(value).values())
    elif isinstance(value, type):
        yield from () if _is_of_library(value) else vars(value).values()
    elif inspect.isfunction(value):
        yield from _values_of_function(value)
    elif not hasattr(type(value), "shape"):
        yield from (*_parts_of_callable(value), *getattr(value, "__dict__", {}).values(), type(value))


def _parts_of_callable(value: Any) -> tuple[Any, ...]:
    """Return what a method, a partial and a descriptor are made of; () for any other value."""
    if isinstance(value, types.MethodType):
        return value.__func__, value.__self__
    if isinstance(value, types.BuiltinMethodType):  # such as `generator.normal`
        return (value.__self__,)
    if isinstance(value, staticmethod | classmethod):
        return (value.__func__,)
    return (value.func, *value.args, *value.keywords.values()) if isinstance(value, functools.partial) else ()


def _values_of_function(function: types.FunctionType) -> Iterator[Any]:
    """Yield the closed-over values, the globals and the defaults of a function that is not a library's."""
    if _is_of_library(function):
        return
    try:
        variables = inspect.getclosurevars(function)
    except (TypeError, ValueError):
        return
    yield from (*variables.nonlocals.values(), *variables.globals.values())
    yield from (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values())
    yield from vars(function).values()  # attributes, and what a decorator wraps


def _is_of_library(value: Any) -> bool:
    home = value.__name__ if isinstance(value, types.ModuleType) else getattr(value, "__module__", None) or ""
    return home.partition(".")[0] in LIBRARIES

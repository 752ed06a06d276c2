"""Random generators that the user's code holds: in closures, globals, defaults, attributes, containers and arguments."""

from __future__ import annotations

import functools
import inspect
import random
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import numpy as np

# Functions of these packages draw from global generators, or from those that they are given.
LIBRARIES = {*sys.stdlib_module_names, "autograd", "gradcheck", "jax", "jaxlib", "numpy", "scipy", "torch"} - {"__main__"}
# The search visits at most this many objects, so that it takes milliseconds for a large model.
MAX_VISITED = 4096

Accessors = tuple[Callable[[], Any], Callable[[Any], None]]  # they read and set a generator's state


def find_generators(*holders: Any) -> list[Any]:
    """Return the generators that the holders, which are functions, objects or containers, can reach without a library.

    The types of values are read with `type`, as `isinstance` asks for `__class__`, which an object may compute.
    """
    generators, waiting = list[Any](), list(holders)
    visited = dict[int, Any]()  # by id, and kept alive, as the id of a temporary object is used again
    while waiting and len(visited) < MAX_VISITED:
        value = waiting.pop()
        if value is None or issubclass(type(value), str | bytes | int | float | complex) or id(value) in visited:
            continue
        visited[id(value)] = value
        if _is_generator(value):
            generators.append(value)
        else:
            with suppress(Exception):  # attributes may be computed by the user's code, and some objects refuse them all
                waiting.extend(_referenced_values(value))
    return generators


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
    torch, cls = sys.modules.get("torch"), type(value)
    kinds: tuple[type, ...] = (np.random.Generator, np.random.RandomState)
    has_state = cls is random.Random  # a subclass, such as SystemRandom, may have none
    return has_state or issubclass(cls, (*kinds, torch.Generator) if torch else kinds)


def _referenced_values(value: Any) -> Iterator[Any]:
    """Yield the values that one value refers to; the methods of a container that a class redefines are not called."""
    cls = type(value)
    if issubclass(cls, dict):
        yield from dict.values(value)
    elif kind := next((kind for kind in (list, tuple, set, frozenset) if issubclass(cls, kind)), None):
        yield from kind.__iter__(value)
    elif issubclass(cls, types.ModuleType):
        yield from () if is_of_library(value) else filter(_is_generator, vars(value).values())
    elif issubclass(cls, type):
        yield from () if is_of_library(value) else vars(value).values()
    elif cls is types.FunctionType:
        yield from _values_of_function(value)
    elif not hasattr(cls, "shape"):
        yield cls
        yield from _parts_of_callable(value)
        yield from dict.values(object.__getattribute__(value, "__dict__"))


def _parts_of_callable(value: Any) -> tuple[Any, ...]:
    """Return what a method, a partial and a descriptor are made of; () for any other value."""
    cls = type(value)
    if cls is types.MethodType:
        return value.__func__, value.__self__
    if cls is types.BuiltinMethodType:  # such as `generator.normal`
        return (value.__self__,)
    if issubclass(cls, staticmethod | classmethod):
        return (value.__func__,)
    return (value.func, *value.args, *value.keywords.values()) if issubclass(cls, functools.partial) else ()


def _values_of_function(function: types.FunctionType) -> Iterator[Any]:
    """Yield the closed-over values, the globals and the defaults of a function that is not a library's."""
    if is_of_library(function):
        return
    try:
        variables = inspect.getclosurevars(function)
    except (TypeError, ValueError):
        return
    yield from (*variables.nonlocals.values(), *variables.globals.values())
    yield from (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values())
    yield from vars(function).values()  # attributes, and what a decorator wraps


def is_of_library(value: Any) -> bool:
    """Whether a function, a class or a module belongs to a library whose functions draw from no generator of their own."""
    home = value.__name__ if isinstance(value, types.ModuleType) else getattr(value, "__module__", None) or ""
    return home.partition(".")[0] in LIBRARIES

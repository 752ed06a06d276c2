"""Places that hold arrays: items of containers and attributes of objects, found by a walk from the code that uses them."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Iterator, Mapping, MutableMapping, MutableSequence, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradcheck.backends.flat import EPS
from gradcheck.backends.generators import is_of_library

MAX_VISITED = 100_000  # objects that a walk visits, so that a large object takes seconds at most
ATOMS = (str, bytes, int, float, complex, bool, type(None), range, slice)


@dataclass(frozen=True)
class Place:
    """A place that holds a value: the item of a container, or an attribute of an object.

    Attributes:
        path: the path from the start of the walk, such as `layers[0].W`.
        holder: the container or the object.
        key: the key of the item, or the name of the attribute.
        is_attribute: whether it is an attribute.
    """

    path: str
    holder: Any
    key: Any
    is_attribute: bool

    def read(self) -> Any:
        """Return the value that the place holds now."""
        return getattr(self.holder, self.key) if self.is_attribute else self.holder[self.key]

    def remove(self) -> None:
        """Remove the attribute or the item, if it is there."""
        with suppress(AttributeError, KeyError, IndexError):
            if self.is_attribute:
                delattr(self.holder, self.key)
            else:
                del self.holder[self.key]

    def write(self, value: Any) -> None:
        """Put a value there."""
        if self.is_attribute:
            object.__setattr__(self.holder, self.key, value)  # also sets an attribute of a frozen dataclass
        else:
            self.holder[self.key] = value


@contextmanager
def holding(places: Sequence[Place], values: Sequence[Any]) -> Iterator[None]:
    """Put values in places, and put back on exit what they held."""
    before = [place.read() for place in places]
    try:
        for place, value in zip(places, values, strict=True):
            place.write(value)
        yield
    finally:
        for place, value in zip(places, before, strict=True):
            place.write(value)


def is_floating_array(value: Any) -> bool:
    """Whether a value is an array or a scalar of NumPy, PyTorch or JAX with a floating or complex dtype."""
    is_table = hasattr(value, "to_numpy")  # of pandas, xarray and the like
    return not is_table and hasattr(type(value), "shape") and str(getattr(value, "dtype", "")).removeprefix("torch.") in EPS


def share_memory(a: Any, b: Any) -> bool:
    """Whether two arrays of NumPy are views of the same memory and overlap."""
    return isinstance(a, np.ndarray) and isinstance(b, np.ndarray) and np.may_share_memory(a, b)


def find_places(root: Any, path: str = "") -> Iterator[Place]:
    """Yield every place that can be reached from a value: its items, its attributes, and those of what they hold."""
    for value, path_of_value in find_values(root, path):
        with suppress(Exception):
            yield from (place for place in list(_places_in(value, path_of_value)) if _is_writable(place))


def find_values(root: Any, path: str = "") -> Iterator[tuple[Any, str]]:
    """Yield every value that can be reached from a value, and may hold others, with its path; plain data are left out."""
    waiting: list[tuple[Any, str]] = [(root, path)]
    visited: dict[int, Any] = {}
    while waiting and len(visited) < MAX_VISITED:
        value, path = waiting.pop()
        if isinstance(value, ATOMS) or hasattr(type(value), "shape") or id(value) in visited:
            continue
        visited[id(value)] = value
        yield value, path
        with suppress(Exception):  # attributes may be computed by the user's code, and some objects refuse them all
            # The first place is visited first, so that paths come in the order in which a reader would list them.
            waiting.extend([(place.read(), place.path) for place in _places_in(value, path)][::-1])
            waiting.extend((part, f"{path}.{name}".strip(".")) for name, part in _parts_of_code(value))


def _places_in(value: Any, path: str) -> Iterator[Place]:
    if isinstance(value, Mapping):
        yield from (Place(f"{path}[{key!r}]", value, key, is_attribute=False) for key in value)
    elif isinstance(value, list | tuple):
        yield from (Place(f"{path}[{i}]", value, i, is_attribute=False) for i in range(len(value)))
    elif not isinstance(value, type | types.ModuleType | types.FunctionType | types.MethodType | functools.partial):
        names = [*getattr(value, "__dict__", ()), *_list_slots(type(value))]
        prefix = f"{path}." if path else ""
        yield from (Place(f"{prefix}{name}", value, name, is_attribute=True) for name in names if hasattr(value, name))


def _list_slots(cls: type) -> list[str]:
    """Return the names in the `__slots__` of a class and its bases; a text is one name."""
    declared = [vars(base).get("__slots__", ()) for base in cls.__mro__]
    return [name for slots in declared for name in ((slots,) if isinstance(slots, str) else slots) if name != "__dict__"]


def _is_writable(place: Place) -> bool:
    return place.is_attribute or isinstance(place.holder, MutableMapping | MutableSequence)


def _parts_of_code(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield what a function, a method or a partial uses, with the name of each variable."""
    if isinstance(value, types.MethodType):
        yield "", value.__self__
    elif isinstance(value, functools.partial):
        yield from (("", part) for part in (value.func, *value.args, *value.keywords.values()))
    elif isinstance(value, types.FunctionType) and not is_of_library(value):
        variables = inspect.getclosurevars(value)
        yield from (*variables.nonlocals.items(), *variables.globals.items())
        yield from (("", part) for part in (*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()))


def get_owner(target: Any) -> Any:
    """Return the object that a bound method or a callable object computes with; None for a plain function or a class."""
    while isinstance(target, functools.partial):
        target = target.func
    if isinstance(target, types.MethodType):
        return None if isinstance(target.__self__, type | types.ModuleType) else target.__self__
    is_plain = isinstance(target, type | types.FunctionType | types.BuiltinFunctionType) or not hasattr(target, "__dict__")
    return None if is_plain else target

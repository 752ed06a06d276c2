"""Sweeps: an option with several values makes a case of each, and several such options make a grid of cases.

`dtype`, `seed` and every size in `dims` may have several values. Each of them is an axis of the grid.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from gradcheck.errors import UsageError
from gradcheck.options import Options, override_options, resolve_dtype_name

OPTIONS = ("dtype", "dims", "seed")  # the options that may have several values
_CELL = re.compile(r"(\[|, )\w+=\w+(?:, \w+=\w+)*\]$")  # the end of a name that `name_cell` made


class Values(tuple[str | int, ...]):
    """Several values of an option, or of a size."""

    __slots__ = ()


def read_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Validate options of which some may have several values, given as lists; return them with `Values` instead of lists.

    Raises:
        UsageError: if an option is unknown, or a value is wrong or repeated.
    """
    read = dict(options)
    for name in ("dtype", "seed"):
        if isinstance(read.get(name), list | tuple):
            read[name] = _read_values(name, name, read[name])
    if isinstance(read.get("dims"), Mapping):
        sizes = read["dims"].items()
        read["dims"] = {name: _read_values("dims", name, size) if isinstance(size, list) else size for name, size in sizes}
    override_options(Options(), choose_cell(read, {}))
    return read


def _read_values(option: str, axis: str, values: Sequence[Any]) -> Any:
    """Validate the values of an option, or of the size `axis` if the option is `dims`; a single one makes no grid."""
    if not values:
        raise UsageError(f"{axis}=[]: expected at least one value")
    if option == "dims" and axis in OPTIONS:
        raise UsageError(f"dims: {axis}={list(values)!r}: a size called {axis} cannot have several values; rename it")
    for value in values:
        override_options(Options(), {"dims": {axis: value}} if option == "dims" else {option: value})
    read: list[Any] = [resolve_dtype_name(value) if option == "dtype" else value for value in values]
    repeated = next((value for value in read if read.count(value) > 1), None)
    if repeated is not None:
        raise UsageError(f"{axis}={list(values)!r}: {repeated} is there twice; leave one out")
    return Values(read) if len(read) > 1 else read[0]


def list_axes(options: Mapping[str, Any]) -> dict[str, Values]:
    """Return the axes of the grid that options make: the dtype, sizes, the seed."""
    axes = {"dtype": options.get("dtype"), **dict(options.get("dims") or {}), "seed": options.get("seed")}
    return {name: values for name, values in axes.items() if isinstance(values, Values)}


def choose_cell(options: Mapping[str, Any], cell: Mapping[str, str | int]) -> dict[str, Any]:
    """Return options with one value each: that of the cell, for an axis that the cell lacks the first."""

    def choose(name: str, value: Any) -> Any:
        return cell.get(name, value[0]) if isinstance(value, Values) else value

    chosen = {name: choose(name, value) for name, value in options.items()}
    if chosen.get("dims"):
        chosen["dims"] = {name: choose(name, size) for name, size in dict(chosen["dims"]).items()}
    return chosen


def choose_common(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that all cells have in common, and the first seed, which stands for the run."""
    common = {name: value for name, value in options.items() if not isinstance(value, Values) or name == "seed"}
    sizes = {name: size for name, size in dict(options.get("dims") or {}).items() if not isinstance(size, Values)}
    return choose_cell({**common, **({"dims": sizes} if sizes else {})}, {})


def freeze(options: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """Return options as pairs of name and value, with pairs for `dims`, too: requests are compared and hashed."""
    return tuple((name, tuple(value.items()) if isinstance(value, Mapping) else value) for name, value in options.items())


def select_swept(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that have several values, and `dims` as a whole if one of its sizes has."""
    return {name: value for name, value in options.items() if list_axes({name: value})}


def name_cell(name: str, cell: Mapping[str, str | int]) -> str:
    """Return the name of a cell of a case: `f[dtype=float32, batch=8]`, or `f[large, dtype=float32, batch=8]`."""
    text = ", ".join(f"{axis}={value}" for axis, value in cell.items())
    return f"{name[:-1]}, {text}]" if name.endswith("]") else f"{name}[{text}]"


def strip_cell(name: str) -> str:
    """Return the name of the case that a name of a cell belongs to; a name of another form as it is."""
    return _CELL.sub(lambda match: "" if match[1] == "[" else "]", name)

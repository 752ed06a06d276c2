"""The line of a key in a TOML file, for messages; `tomllib` does not report positions."""

from __future__ import annotations

import functools
import re
import tomllib
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

KeyPath = tuple[str | int, ...]  # names of tables and keys; the name of an array of tables is followed by an index, from 0
_HEADER = re.compile(r"\s*(\[{1,2})([^\[\]]+)\]{1,2}\s*(#.*)?$")
_KEY = re.compile(r"\s*([^=#\[\]]+?)\s*=")


def line_of(text: str, path: KeyPath) -> int:
    """Return the line of a key, from 1. A key inside an inline table or array has the line of the key that contains it."""
    lines = _first_lines(text)
    return next((lines[path[:length]] for length in range(len(path), 0, -1) if path[:length] in lines), 1)


@functools.lru_cache(maxsize=1)
def _first_lines(text: str) -> dict[KeyPath, int]:
    """Return the first line of each path."""
    return {path: number for number, path in reversed([*_key_paths(text)])}


def _key_paths(text: str) -> Iterator[tuple[int, KeyPath]]:
    """Yield each line that begins a table or a key, with the path of that table or key."""
    table: KeyPath = ()
    array_lengths: Counter[KeyPath] = Counter()  # so far
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            table = _table_of(_split_key(header[2]), array_lengths)
            if header[1] == "[[":
                array_lengths[table] += 1
                table = (*table, array_lengths[table] - 1)
            yield number, table
        elif key := _KEY.match(line):
            yield number, (*table, *_split_key(key[1]))


def _table_of(names: KeyPath, array_lengths: Counter[KeyPath]) -> KeyPath:
    """Return the path of a table; a table below an array of tables belongs to the array's last table."""
    path: KeyPath = ()
    for name in names:
        path = (*path, array_lengths[path] - 1, name) if array_lengths[path] else (*path, name)
    return path


def _split_key(dotted: str) -> KeyPath:
    """Return the names of a dotted key; none if it is no key but, say, part of a string over several lines."""
    try:
        value: Any = tomllib.loads(f"{dotted} = 0")
    except tomllib.TOMLDecodeError:
        return ()
    names = []
    while isinstance(value, dict):
        names += list(value)
        value = value[names[-1]]
    return tuple(names)

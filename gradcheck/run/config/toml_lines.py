"""On which line of a TOML file a key stands, for messages: Python's own reader does not tell."""

from __future__ import annotations

import functools
import re
import tomllib
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

Path = tuple[str | int, ...]  # names of tables and keys; after the name of an array of tables, which of them, from 0
_HEADER = re.compile(r"\s*(\[{1,2})([^\[\]]+)\]{1,2}\s*(#.*)?$")
_KEY = re.compile(r"\s*([^=#\[\]]+?)\s*=")


def line_of(text: str, path: Path) -> int:
    """The line, from 1, of a key; of what stands inside an inline table or array, that of the key which holds it."""
    lines = _lines(text)
    return next((lines[path[:length]] for length in range(len(path), 0, -1) if path[:length] in lines), 1)


@functools.lru_cache(maxsize=1)
def _lines(text: str) -> dict[Path, int]:
    """The first line of each path."""
    return {path: number for number, path in reversed([*_paths(text)])}


def _paths(text: str) -> Iterator[tuple[int, Path]]:
    """Each line that begins a table or a key, with the path that it begins."""
    table: Path = ()
    seen: Counter[Path] = Counter()
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            table = _inside(_names(header[2]), seen)
            if header[1] == "[[":
                seen[table] += 1
                table = (*table, seen[table] - 1)
            yield number, table
        elif key := _KEY.match(line):
            yield number, (*table, *_names(key[1]))


def _inside(names: Path, seen: Counter[Path]) -> Path:
    """A table's path: what stands in an array of tables stands in the last of them."""
    path: Path = ()
    for name in names:
        path = (*path, seen[path] - 1, name) if seen[path] else (*path, name)
    return path


def _names(dotted: str) -> Path:
    """The names of a dotted key; none where it is no key, but the inside of a text over several lines, say."""
    try:
        value: Any = tomllib.loads(f"{dotted} = 0")
    except tomllib.TOMLDecodeError:
        return ()
    names = []
    while isinstance(value, dict):
        names += list(value)
        value = value[names[-1]]
    return tuple(names)

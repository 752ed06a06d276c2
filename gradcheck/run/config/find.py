"""Find the configuration of a project without validating it, which takes the pytest plugin no time in a session without it."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from gradcheck.errors import UsageError

FILE_NAMES = ("gradcheck.toml", "pyproject.toml")  # in this order of precedence within a folder


def find_nearest(start: Path) -> Path | None:
    """Return the configuration of a folder, or of the nearest folder above that has one; None if there is none."""
    for folder in (start, *start.parents):
        for path in (folder / name for name in FILE_NAMES):
            if path.is_file() and find_table(load_toml(path)[0], table_path(path)) is not None:
                return path
    return None


def list_targets(path: Path) -> list[str]:
    """Return the targets that a configuration names, without validating it."""
    table = find_table(load_toml(path)[0], table_path(path)) or {}
    arrays = [entries for kind in ("target", "step") if isinstance(entries := table.get(kind), list)]
    names = [entry.get("target") for entries in arrays for entry in entries if isinstance(entry, dict)]
    return list(dict.fromkeys(name for name in names if isinstance(name, str)))


def table_path(path: Path) -> tuple[str, ...]:
    """Return the path of the table that is the configuration in a file of this name."""
    return ("tool", "gradcheck") if path.name == "pyproject.toml" else ()


def find_table(data: Any, names: tuple[str, ...]) -> dict[str, Any] | None:
    """Return the table at a path; None if there is none."""
    for name in names:
        data = data.get(name) if isinstance(data, dict) else None
    return data if isinstance(data, dict) else None


def load_toml(path: Path) -> tuple[dict[str, Any], str]:
    """Return a TOML file as data and as text.

    Raises:
        UsageError: if it cannot be read or is not valid TOML.
    """
    try:
        text = path.read_text(encoding="utf-8")
        return tomllib.loads(text), text
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not valid TOML: {error}") from None

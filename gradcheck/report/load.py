"""A run read back from its JSON."""

from __future__ import annotations

import json
import sys
from importlib import metadata
from pathlib import Path
from typing import Any, NoReturn

from gradcheck.errors import UsageError
from gradcheck.results import SCHEMA_VERSION, RunResult

WRITTEN = "expected a file that `gradcheck run --json` wrote"


def read(path: str) -> RunResult:
    """Read a run; `-` reads stdin. Every schema version up to this one's can be read; keys that an old one lacks are empty.

    Raises:
        UsageError: where the file cannot be read, is no JSON, is another tool's, or of a newer schema.
    """
    data = _parsed(path, _text(path))
    if not isinstance(data, dict):
        raise UsageError(f"{path} holds a {type(data).__name__}: {WRITTEN}")
    version = data.get("schema_version")
    if type(version) is not int or "results" not in data:
        held = ", ".join(map(str, list(data)[:5])) or "nothing"
        raise UsageError(f"{path} is no run of gradcheck (it holds {held}): {WRITTEN}")
    if version > SCHEMA_VERSION:
        raise UsageError(
            f"{path} is of a newer gradcheck ({data.get('gradcheck_version')}, schema {version}; this one reads up to "
            f"{SCHEMA_VERSION}): upgrade gradcheck"
        )
    return _structured(path, data)


def _text(path: str) -> str:
    try:
        return sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}; {WRITTEN}") from None
    except ValueError:
        raise UsageError(f"{path} is no text: {WRITTEN}") from None


def _parsed(path: str, text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refused)
    except (ValueError, RecursionError) as error:
        whole = "" if text.rstrip().endswith("}") else "; is it cut off?"
        raise UsageError(f"{path} is no JSON ({error}): {WRITTEN}{whole}") from None


def _refused(constant: str) -> NoReturn:
    raise ValueError(f"{constant} stands where a number should")


def _structured(path: str, data: dict[str, Any]) -> RunResult:
    from cattrs import transform_error

    try:
        return RunResult.from_dict(data)
    except Exception as error:
        told, there, here = transform_error(error), data.get("gradcheck_version"), metadata.version("gradcheck")
        other = f", or written by another gradcheck ({there}; this is {here})" if there not in (None, here) else ""
        raise UsageError(f"{path} is no whole run of gradcheck ({told[0]}): was it changed by hand{other}?") from None

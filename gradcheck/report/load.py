"""Reading a run from its JSON file."""

from __future__ import annotations

import json
import sys
from importlib import metadata
from pathlib import Path
from typing import Any, NoReturn

from gradcheck.errors import UsageError
from gradcheck.results import SCHEMA_VERSION, RunResult

EXPECTED = "expected a file that `gradcheck run --json` wrote"


def read_run(path: str) -> RunResult:
    """Read a run of any schema version up to the current one; keys that an older version lacks get their defaults.

    Args:
        path: path of the file; `-` for stdin.

    Raises:
        UsageError: if the file cannot be read, is not JSON, was not written by gradcheck, or has a newer schema version.
    """
    data = _parse(path, _read_text(path))
    if not isinstance(data, dict):
        raise UsageError(f"{path} contains a {type(data).__name__}: {EXPECTED}")
    version = data.get("schema_version")
    if type(version) is not int or "results" not in data:
        keys = ", ".join(map(str, list(data)[:5])) or "nothing"
        raise UsageError(f"{path} is not a run of gradcheck (it contains {keys}): {EXPECTED}")
    if version > SCHEMA_VERSION:
        raise UsageError(
            f"{path} was written by a newer gradcheck ({data.get('gradcheck_version')}, schema {version}; this version reads up"
            f" to schema {SCHEMA_VERSION}): upgrade gradcheck"
        )
    return _structure(path, data)


def _read_text(path: str) -> str:
    try:
        return sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}; {EXPECTED}") from None
    except ValueError:
        raise UsageError(f"{path} is not a text file: {EXPECTED}") from None


def _parse(path: str, text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_reject_constant)
    except (ValueError, RecursionError) as error:
        hint = "" if text.rstrip().endswith("}") else "; is it truncated?"
        raise UsageError(f"{path} is not valid JSON ({error}): {EXPECTED}{hint}") from None


def _reject_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} instead of a number")


def _structure(path: str, data: dict[str, Any]) -> RunResult:
    from cattrs import transform_error

    try:
        return RunResult.from_dict(data)
    except Exception as error:
        messages = transform_error(error)
        writer, current = data.get("gradcheck_version"), metadata.version("gradcheck")
        other = f", or written by another version ({writer}; this is {current})" if writer not in (None, current) else ""
        raise UsageError(f"{path} is not a valid run of gradcheck ({messages[0]}): was it changed by hand{other}?") from None

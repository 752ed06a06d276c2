"""A run read back from its JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gradcheck.errors import UsageError
from gradcheck.results import SCHEMA_VERSION, RunResult


def read(path: str) -> RunResult:
    """Read a run that `--json` wrote.

    Raises:
        UsageError: where there is no such file, or it holds no run, or one of a newer gradcheck.
    """
    data = _loaded(path)
    version = data.get("schema_version") if isinstance(data, dict) else None
    if type(version) is not int or "gradcheck_version" not in data:
        raise UsageError(f"{path} is no run of gradcheck: expected a file that `gradcheck run --json` wrote")
    if version > SCHEMA_VERSION:
        raise UsageError(
            f"{path} is of a newer gradcheck ({data['gradcheck_version']}, schema {version}; this one reads {SCHEMA_VERSION}): "
            "upgrade gradcheck"
        )
    try:
        return RunResult.from_dict(data)
    except Exception as error:  # cattrs raises groups of whatever went wrong inside
        raise UsageError(f"{path} is no whole run of gradcheck: {_innermost(error)}; make it again") from None


def _loaded(path: str) -> Any:
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is no JSON: {error or 'it is nested too deeply'}; was it written whole?") from None


def _innermost(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"

"""Where a run comes from: its date, the commit of the checked code, and the command line."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

GIT_TIMEOUT = 5.0  # seconds; in a huge repository git may take longer to look for changes
COMMIT_COMMAND = ("git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


def describe_start(root: str, start_time: float) -> dict[str, Any]:
    """Return the fields of a `RunResult` that say when, from which commit and by which command a run was started.

    Args:
        root: the folder of the repository.
        start_time: seconds since the epoch.
    """
    started = datetime.fromtimestamp(start_time, UTC).isoformat(timespec="seconds")
    return {"started": started, "commit": read_commit(root), "command": format_command(sys.argv)}


def read_commit(root: str) -> str:
    """Return the commit of a repository, with the suffix '-dirty' if files differ from it; '' if there is none."""
    if not (Path(root) / ".git").exists():
        return ""
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}  # we only read, and another git may be at work
    try:
        answer = subprocess.run(
            COMMIT_COMMAND, cwd=root, env=environment, capture_output=True, text=True, timeout=GIT_TIMEOUT, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.strip() if answer.returncode == 0 else ""


def format_command(arguments: list[str]) -> str:
    """Return the command line of a process from its `sys.argv`; `python -m NAME` is written as `NAME`."""
    program = Path(arguments[0])
    name = program.parent.name if program.name == "__main__.py" else program.name
    return shlex.join([name, *arguments[1:]])

"""The side of the command line: run a program whose Python processes are watched, and join their results."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradcheck.errors import UsageError
from gradcheck.harvest.child import ENVIRONMENT
from gradcheck.harvest.join import Joined, join_parts

INJECTED = Path(__file__).parent / "inject"  # its sitecustomize runs when Python starts
NOT_SEEN = "is gradcheck installed for the Python of the program, and does that run without -I and -E?"
NOT_YOURS = "code of an installed package counts as yours with --include PACKAGE"
SIGNAL_BASE = 128  # what shells add to the number of the signal that ended a program


@dataclass(frozen=True)
class Outcome:
    """What came of a watched program.

    Attributes:
        exit_code: of the program, as a shell would give it.
        joined: the results of its processes.
        messages: what was not checked, and why.
    """

    exit_code: int
    joined: Joined
    messages: list[str]


def run_watched(command: Sequence[str], settings: Mapping[str, Any], stdout: int | None = None) -> Outcome:
    """Run a command, and collect what its Python processes leave when they end.

    Args:
        command: the words of the command.
        settings: for the processes: 'include', 'budget', 'options' and 'replay'.
        stdout: the descriptor that the program writes to; None: that of this process.

    Raises:
        UsageError: if the command cannot be started.
    """
    with tempfile.TemporaryDirectory(prefix="gradcheck-watch-") as folder:
        path = os.pathsep.join([str(INJECTED), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = {**os.environ, "PYTHONPATH": path, ENVIRONMENT: json.dumps({**settings, "folder": folder})}
        try:
            process = subprocess.Popen(command, env=environment, stdout=stdout)
        except OSError as error:
            raise UsageError(f"{command[0]} cannot be started: {error.strerror or error}") from None
        with _leaving_interrupts_to_program():
            code = process.wait()
        parts = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(Path(folder).glob("*.json"))]
        lost = len({path.stem for path in Path(folder).glob("*.started")} - {path.stem for path in Path(folder).glob("*.json")})
    if any(part["interrupted"] and part["pid"] == process.pid for part in parts):
        code = -signal.SIGINT
    joined = join_parts(parts, lost)
    return Outcome(code if code >= 0 else SIGNAL_BASE - code, joined, [*joined.messages, *_advise(joined)])


def _advise(joined: Joined) -> list[str]:
    """Say what to look at if no call was found."""
    processes, with_framework = joined.processes
    if joined.run is not None or joined.errors or joined.lost:
        return []
    return [NOT_YOURS] * bool(with_framework) or [NOT_SEEN] * (not processes)


@contextmanager
def _leaving_interrupts_to_program() -> Iterator[None]:
    """Leave Ctrl-C to the program, which the terminal sends it to as well: it may end in its own way, and we report."""
    try:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)

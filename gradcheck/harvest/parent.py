"""The side of the command line: run a program whose Python processes are watched, and join their results."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradcheck.errors import UsageError
from gradcheck.glossary.verdicts import SEVERITY
from gradcheck.harvest.child import ENVIRONMENT
from gradcheck.harvest.draft import DraftedCase
from gradcheck.results import RunResult

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from gradcheck.results import CheckResult

INJECTED = Path(__file__).parent / "inject"  # its sitecustomize runs when Python starts
LOST = "{} ended before the recorded calls could be checked: by os._exit, by a signal, or as a forked worker"
SIGNAL_BASE = 128  # what shells add to the number of the signal that ended a program


@dataclass(frozen=True)
class Outcome:
    """What came of a watched program.

    Attributes:
        exit_code: of the program, as a shell would give it.
        run: the results of all its processes; None if no call was recorded.
        drafts: the drafted cases, each once.
        not_recorded: why a target has no record, or lacks one, by its name.
        messages: what went wrong, or was not seen.
        is_broken: whether a process could not check its calls.
    """

    exit_code: int
    run: RunResult | None
    drafts: list[DraftedCase]
    not_recorded: dict[str, str]
    messages: list[str]
    is_broken: bool


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
    return _join(code if code >= 0 else SIGNAL_BASE - code, parts, lost)


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


def _join(code: int, parts: list[dict[str, Any]], lost: int) -> Outcome:
    """Join the parts of all processes."""
    errors = [part["error"] for part in parts if "error" in part]
    messages = [f"the calls of a process could not be checked: {error}" for error in errors]
    if lost:
        messages.append(LOST.format(f"{lost} process{'es' * (lost != 1)}"))
    if not any("run" in part for part in parts):
        messages.append(_explain_nothing_found(parts))
    runs = [RunResult.from_dict(part["run"]) for part in parts if "run" in part]
    drafts = [DraftedCase(**data) for part in parts for data in part.get("drafts", ())]
    not_recorded = {name: why for part in parts for name, why in part["not_recorded"].items()}
    return Outcome(code, join_runs(runs), drop_equal(drafts), not_recorded, messages, bool(errors))


def _explain_nothing_found(parts: list[dict[str, Any]]) -> str:
    looked_for = (
        "no call found of an autograd.Function, a registered operator, an nn.Module or a custom_vjp or custom_jvp of yours,"
        " with an input that requires a gradient"
    )
    loaded = sum(bool(part["loaded"]) for part in parts)
    seen = f"{len(parts)} Python process{'es' * (len(parts) != 1)} seen, {loaded} with PyTorch or JAX loaded"
    advice = "" if parts else "; is gradcheck installed for the Python of the program, and is it run without -I and -E?"
    return f"{looked_for}: {seen}{advice}; code of an installed package counts with --include PACKAGE"


def join_runs(runs: Sequence[RunResult]) -> RunResult | None:
    """Join the runs of several processes; of a case that several have checked, the worst result is kept. None if none ran."""
    if not runs:
        return None
    results: dict[str, CheckResult] = {}
    for result in (result for run in runs for result in run.results):
        before = results.get(result.case)
        if before is None or SEVERITY.index(result.outcome) < SEVERITY.index(before.outcome):
            results[result.case] = result
    return replace(
        runs[0],
        results=tuple(results.values()),
        seconds=max(run.seconds for run in runs),
        interrupted=any(run.interrupted for run in runs),
        planned=len(results),
        config={**runs[0].config, "not_recorded": {k: v for run in runs for k, v in run.config["not_recorded"].items()}},
    )


def drop_equal(drafts: Sequence[DraftedCase]) -> list[DraftedCase]:
    """Return each draft once."""
    kept: list[DraftedCase] = []
    for draft in drafts:
        if draft not in kept:
            kept.append(draft)
    return kept

"""What passes: the baseline of a run before and after it."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from gradcheck.errors import UsageError

if TYPE_CHECKING:
    from gradcheck.cli.options import Carried, Gate
    from gradcheck.results import Intent, RunResult
    from gradcheck.run.config.read import Config


def baseline_of(gate: Gate, carried: Carried, config: Config) -> Path | None:
    """Where the baseline is; None where there is none.

    Raises:
        UsageError: where what was asked for does not go together, or it is to be written and cannot be.
    """
    from gradcheck.report import files

    configured = config.running.get("baseline")
    path = Path(gate.baseline) if gate.baseline is not None else config.root / configured if configured else None
    if gate.reason is not None and not gate.update_baseline:
        raise UsageError("--reason is why new failures are listed in a baseline: it goes with --update-baseline")
    if gate.update_baseline and path is None:
        raise UsageError("--update-baseline: say which with --baseline PATH, or baseline = ... under [tool.gradcheck]")
    if gate.update_baseline and (carried.shard or carried.fail_fast):
        raise UsageError(f"--update-baseline needs all cases: leave out {'--shard' if carried.shard else '--fail-fast'}")
    if gate.update_baseline:
        files.ready(str(path))
    return path


def known_before(path: Path | None, gate: Gate) -> dict[str, Intent]:
    """What the baseline lists; nothing where it is about to be written for the first time."""
    from gradcheck.run import baseline

    return {} if path is None or (gate.update_baseline and not path.exists()) else baseline.read(path)


def updated(run: RunResult, known: dict[str, Intent], path: Path, reason: str, *, strict: bool) -> RunResult:
    """Write the baseline that lists the failures of a run; return the run as it then is.

    Raises:
        UsageError: where a reason is needed, or the file cannot be written.
    """
    from gradcheck.report import files
    from gradcheck.results import Reason
    from gradcheck.run import baseline

    if run.interrupted:
        sys.stderr.write("gradcheck: the run was interrupted: the baseline stays as it is\n")
        return run
    listed = baseline.updated(known, run, reason, strict=strict)
    files.write(str(path), baseline.text_of(listed))
    sys.stderr.write(f"gradcheck: {path} lists {len(listed)} known failure{'' if len(listed) == 1 else 's'}\n")
    results = [baseline.applied(r, listed) for r in run.results if r.reason is not Reason.STALE_BASELINE]
    return replace(run, results=tuple(results))

"""The baseline of a run: found and read before the run, updated after it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from gradcheck.cli.app import write_message
from gradcheck.cli.options import ExecutionOptions, PassOptions
from gradcheck.errors import UsageError

if TYPE_CHECKING:
    from gradcheck.results import Intent, RunResult
    from gradcheck.run.config.read import Config


def find_baseline(passing: PassOptions, execution: ExecutionOptions, config: Config) -> Path | None:
    """Return the path of the baseline; None if there is none.

    Raises:
        UsageError: if options contradict each other, or `--update-baseline` could not write the file.
    """
    from gradcheck.report import files

    configured = config.execution.get("baseline")
    path = Path(passing.baseline) if passing.baseline is not None else config.root / configured if configured else None
    if passing.reason is not None and not passing.update_baseline:
        raise UsageError("--reason says why new failures are listed in a baseline: use it with --update-baseline")
    if passing.update_baseline and path is None:
        raise UsageError("--update-baseline needs a file: give --baseline PATH, or set baseline = ... under [tool.gradcheck]")
    if passing.update_baseline and (execution.shard or execution.fail_fast):
        raise UsageError(f"--update-baseline needs all cases: leave out {'--shard' if execution.shard else '--fail-fast'}")
    if passing.update_baseline:
        files.ensure_writable(str(path))
    return path


def read_known_failures(path: Path | None, passing: PassOptions) -> dict[str, Intent]:
    """Read what the baseline lists: nothing if the file does not exist yet."""
    from gradcheck.run import baseline

    if path is None:
        return {}
    if path.exists():
        return baseline.read(path)
    if not passing.update_baseline:
        write_message(f"gradcheck: there is no baseline {path} yet, so no failure is known; --update-baseline writes it")
    return {}


def update_baseline(run: RunResult, path: Path, reason: str, *, strict: bool) -> RunResult:
    """Write the baseline that lists the failures of a run; return the run with these failures marked as known.

    The file is read again: another run may have changed it since this one began.

    Raises:
        UsageError: if a new failure needs a reason, or the file cannot be written.
    """
    from gradcheck.report import files
    from gradcheck.results import Reason
    from gradcheck.run import baseline

    if run.interrupted:
        write_message("gradcheck: the run was interrupted, so the baseline was not changed")
        return run
    with files.locked(path):
        known = baseline.read(path) if path.exists() else {}
        failures = baseline.update_known_failures(known, run, reason, strict=strict)
        files.write(str(path), baseline.to_json(failures))
    write_message(f"gradcheck: {path} lists {len(failures)} known failure{'' if len(failures) == 1 else 's'}")
    results = [
        baseline.attach_known_failure(result, failures) for result in run.results if result.reason is not Reason.STALE_BASELINE
    ]
    return replace(run, results=tuple(results))

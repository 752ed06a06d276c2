"""A takeover from its start to its records."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from gradcheck.compat.checker import Checker
from gradcheck.glossary.verdicts import Verdict
from gradcheck.run.provenance import format_command
from gradcheck.takeover.interception import INTERCEPTED, Interception, list_checkers
from gradcheck.takeover.interceptor import Interceptor
from gradcheck.takeover.records import Outcome, TakeoverCall, TakeoverRun
from gradcheck.takeover.storage import Store, read_calls

SMALL_ERROR = 1e-5  # part of the largest derivative up to which an error that a checker returns has passed
LARGE_ERROR = 0.1  # part from which on a test that passes may well expect the error


class Takeover:
    """Both checkers on every call, from `start` to `stop`, in this process and in children that it forks."""

    def __init__(
        self,
        mode: str,
        budget: float,
        *,
        folder: Path | None = None,
        checkers: tuple[Checker, ...] | None = None,
        command: str = "",
        rerun: str = "",
    ) -> None:
        """Prepare a takeover.

        Args:
            mode: 'report', 'enforce' or 'predict'.
            budget: seconds of gradcheck that each call may take.
            folder: where records are written; processes of one run share it. None: a temporary folder of this run.
            checkers: the checkers; None: all that `gradcheck.compat` declares.
            command: the command that starts it; '': that of this process.
            rerun: the command that runs a script again, with the answers of gradcheck.
        """
        self._mode, self._budget = mode, budget
        self._temporary = None if folder else tempfile.TemporaryDirectory(prefix="gradcheck-takeover-")
        self.folder = folder or Path(self._temporary.name if self._temporary else "")
        self._store = Store(self.folder)
        self._interception = Interception(
            list_checkers() if checkers is None else checkers, Interceptor(mode, budget, self._store).receive
        )
        self._command, self._rerun = command or format_command(sys.argv), rerun
        self._root, self._started = str(Path.cwd()), time.time()
        self.states: dict[str, str] = {}

    def start(self) -> None:
        """Intercept the checkers from here on."""
        self._interception.start()

    def stop(self) -> None:
        """Give every checker its code back."""
        self.states = self._interception.describe()
        self._interception.stop()
        self._store.close()

    def collect(self, passed_tests: Mapping[str, bool] | None = None, order: Mapping[str, int] | None = None) -> TakeoverRun:
        """Return what all processes recorded, after `stop`; the temporary folder is removed.

        Args:
            passed_tests: whether each test passed, by its id: this decides for checkers that return a number.
            order: the position of each test.
        """
        from gradcheck.run.runner import describe_environment
        from gradcheck.run.workers.worker import installed_version

        calls, processes = read_calls(self.folder)
        if self._temporary is not None:
            self._temporary.cleanup()
        positions = order or {}
        calls = tuple(sorted(calls, key=lambda call: positions.get(call.test, len(positions))))
        seen = {call.checker for call in calls}  # by xdist's workers
        return TakeoverRun(
            mode=self._mode,
            budget=self._budget,
            calls=tuple(_decide(call, passed_tests or {}) for call in calls),
            checkers={name: INTERCEPTED if name in seen else state for name, state in self.states.items()},
            seconds=time.time() - self._started,
            processes=processes,
            root=self._root,
            command=self._command,
            rerun=self._rerun,
            started=datetime.fromtimestamp(self._started, UTC).isoformat(timespec="seconds"),
            gradcheck_version=installed_version(),
            environment=describe_environment(),
        )


def _decide(call: TakeoverCall, passed_tests: Mapping[str, bool]) -> TakeoverCall:
    """Let the size of the error that a checker returns, and then the test, decide whether it has passed."""
    if call.theirs is not Outcome.UNKNOWN:
        return call
    share = LARGE_ERROR if call.error_share is None else call.error_share
    passed = True if share <= SMALL_ERROR else passed_tests.get(call.test)
    is_expected = passed and call.verdict is Verdict.FAIL and share >= LARGE_ERROR  # perhaps by the test
    if passed is None or is_expected:
        return call
    return replace(call, theirs=Outcome.PASSED if passed else Outcome.FAILED)

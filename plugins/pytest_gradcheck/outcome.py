"""From a result to what pytest knows: nothing, a warning, or a failure with the table as its message."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from gradcheck.results import CheckResult

MARGIN = 4  # columns that pytest puts before each line of a message


class InconclusiveWarning(pytest.PytestWarning):
    """The evidence of a check cannot decide, and `--gradcheck-strict` does not ask that it does."""

    __module__ = "pytest_gradcheck"


def judge(result: CheckResult, *, strict: bool, warn: Callable[[Warning], object]) -> None:
    """Return where a result is ok; warn where it is INCONCLUSIVE and that may be.

    Raises:
        GradientError: where it is not ok.
    """
    __tracebackhide__ = True
    from gradcheck.errors import GradientError
    from gradcheck.results import Verdict

    if result.ok:
        return
    if result.outcome is Verdict.INCONCLUSIVE and not strict:
        warn(InconclusiveWarning(f"{told(result)}\n--gradcheck-strict (gradcheck_strict) makes this a failure"))
        return
    raise GradientError(told(result), result)


def told(result: CheckResult) -> str:
    """The verdict in a line, and the table."""
    from gradcheck.report import phrases
    from gradcheck.report.terminal import table

    width = max(shutil.get_terminal_size((100, 24)).columns - MARGIN, 60)
    return f"{result.outcome.value}: {phrases.why(result).message}\n{table.to_text(result, width)}"

"""The outcome of a check in pytest: nothing, a warning, or a failure with the table as its message."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from gradcheck.results import CheckResult

MARGIN = 4  # columns that pytest inserts before each line of a message


class InconclusiveWarning(pytest.PytestWarning):
    """The evidence of a check cannot decide, and `--gradcheck-strict` is not set."""

    __module__ = "pytest_gradcheck"


class ReportOnlyWarning(pytest.PytestWarning):
    """A check fails, and `--gradcheck-report-only` has the test pass."""

    __module__ = "pytest_gradcheck"


def report_outcome(result: CheckResult, *, strict: bool, warn: Callable[[Warning], object]) -> None:
    """Warn if a result is INCONCLUSIVE and this is permitted; raise if it is not ok.

    Args:
        strict: whether INCONCLUSIVE is a failure, and a derivative of the user that was not checked.
        warn: the function that issues the warning.

    Raises:
        GradientError: if the result is not ok, or, under `strict`, a derivative was not checked.
    """
    __tracebackhide__ = True
    from gradcheck.errors import GradientError
    from gradcheck.results import Verdict

    if result.ok and not (strict and result.unchecked):
        return
    if result.outcome is Verdict.INCONCLUSIVE and not strict:
        warn(InconclusiveWarning(f"{format_message(result)}\n--gradcheck-strict (gradcheck_strict) makes this a failure"))
        return
    raise GradientError(format_message(result), result)


def shorten_summary(report: pytest.TestReport, call: pytest.CallInfo[None]) -> None:
    """Have pytest's line about a failed check begin with the outcome and not with the name of the exception."""
    if call.excinfo is None:
        return
    from gradcheck.errors import GradientError

    error = call.excinfo.value
    crash = getattr(report.longrepr, "reprcrash", None)
    if crash is not None and isinstance(error, GradientError):
        crash.message = summarise(error.result)


def pass_with_warning(item: pytest.Item, report: pytest.TestReport, call: pytest.CallInfo[None]) -> None:
    """Turn the report of a check that fails or cannot decide into that of a test that passed, with a warning; an ERROR stays.

    The warning does not pass the filters of warnings, which might turn it into another failure.
    """
    text = _describe_tolerable(call.excinfo.value) if call.excinfo is not None else ""
    if not report.failed or not text:
        return
    report.outcome, report.longrepr = "passed", None
    path, line, _ = item.location
    warning = ReportOnlyWarning(f"{text}\n--gradcheck-report-only (gradcheck_report_only) has the test pass")
    message = warnings.WarningMessage(warning, ReportOnlyWarning, path, (line or 0) + 1)
    details = {"warning_message": message, "when": "runtest", "nodeid": item.nodeid, "location": None}
    item.ihook.pytest_warning_recorded.call_historic(kwargs=details)


def _describe_tolerable(error: BaseException) -> str:
    """Return the message of an exception of a check that fails or cannot decide; '' for any other exception."""
    from gradcheck.errors import GradientError
    from gradcheck.results import Verdict

    if isinstance(error, InconclusiveWarning):  # a filter has turned it into an error
        return str(error)
    if isinstance(error, GradientError) and error.result.outcome is not Verdict.ERROR:
        return format_message(error.result)
    return ""


def summarise(result: CheckResult) -> str:
    """Return the outcome in one line, of which pytest shows the first words: verdict, leaf, entry and the two numbers."""
    from gradcheck.report.display import to_display
    from gradcheck.report.problems import summarise_briefly

    return summarise_briefly(to_display(result))


def format_message(result: CheckResult) -> str:
    """Return the outcome in one line, followed by the table."""
    from gradcheck.report.terminal import run_tables

    width = max(shutil.get_terminal_size((100, 24)).columns - MARGIN, 60)
    return f"{summarise(result)}\n{run_tables.to_text(result, width)}"

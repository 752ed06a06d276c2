"""`--gradcheck-takeover`: gradcheck on every call that the suite makes of another checker."""

from __future__ import annotations

import argparse
import difflib
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_gradcheck import aggregate, settings

if TYPE_CHECKING:
    from gradcheck.takeover.records import TakeoverRun

MODES = ("report", "enforce", "predict")
FORMATS = ("json", "markdown", "html")
MODE_HELP = (
    "run gradcheck on every call of another checker, such as torch.autograd.gradcheck, and report how they compare; 'report' "
    "(the default) keeps the outcome of the other checker, 'enforce' takes that of gradcheck, 'predict' predicts the time"
)
BUDGET_HELP = "time of gradcheck for each call of another checker; longer ones are not compared; default: 5s"
FOLDER = "gradcheck_takeover_folder"  # key in the input of xdist's workers: where they write their records
SETTINGS_OF_HYPOTHESIS = "_hypothesis_internal_use_settings"  # attribute of a test function


def add_options(parser: pytest.Parser) -> None:
    """Declare the options."""
    group = parser.getgroup("gradcheck")
    group.addoption(
        "--gradcheck-takeover",
        nargs="?",
        const="report",
        type=_parse_mode,
        metavar="MODE",
        dest="gradcheck_takeover",
        help=MODE_HELP,
    )
    group.addoption("--gradcheck-takeover-budget", metavar="SECONDS", dest="gradcheck_takeover_budget", help=BUDGET_HELP)
    parser.addini("gradcheck_takeover_budget", BUDGET_HELP)
    for name in FORMATS:
        help_ = f"write the report of a takeover as {name} to this path"
        group.addoption(f"--gradcheck-takeover-{name}", metavar="PATH", dest=f"gradcheck_takeover_{name}", help=help_)


def _parse_mode(text: str) -> str:
    if text not in MODES:
        near = difflib.get_close_matches(text, MODES, 1)
        hint = f"; did you mean {near[0]}?" if near else f"; to test {text}, write --gradcheck-takeover=report {text}"
        raise argparse.ArgumentTypeError(f"{text!r}: expected {', '.join(MODES)}{hint}")
    return text


def configure(config: pytest.Config) -> None:
    """Start a takeover if it is asked for; without the option, nothing is loaded.

    Raises:
        pytest.UsageError: if options of a takeover are given without it.
    """
    if config.getoption("gradcheck_takeover") is None:
        alone = [name for name in ("budget", *FORMATS) if config.getoption(f"gradcheck_takeover_{name}")]
        if alone:
            raise pytest.UsageError(f"--gradcheck-takeover-{alone[0]} has no effect without --gradcheck-takeover")
    else:
        config.pluginmanager.register(TakeoverPlugin(config), "gradcheck-takeover")


class TakeoverPlugin:
    """Hooks of a takeover, in the process of the session and on xdist's workers."""

    def __init__(self, config: pytest.Config) -> None:
        """Intercept the checkers from here on.

        Raises:
            pytest.UsageError: if the budget is no time, or a report cannot be written.
        """
        from gradcheck.report import files
        from gradcheck.run.parse_quantities import parse_seconds
        from gradcheck.takeover.records import DEFAULT_BUDGET
        from gradcheck.takeover.session import Takeover

        self._config, self._text = config, ""
        self._passed_tests: dict[str, bool] = {}
        worker = getattr(config, "workerinput", None)
        budget = config.getoption("gradcheck_takeover_budget") or config.getini("gradcheck_takeover_budget")
        self._paths = {} if worker else _report_paths(config)
        with settings.usage_errors("gradcheck takeover"):
            seconds = parse_seconds(budget) if budget else DEFAULT_BUDGET
            for path in self._paths.values():
                files.ensure_writable(path)
        folder = Path(worker[FOLDER]) if worker else None
        self._takeover: Takeover | None = Takeover(config.getoption("gradcheck_takeover"), seconds, folder=folder)
        self._takeover.start()

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell a worker where to write its records."""
        if self._takeover is not None:
            node.workerinput[FOLDER] = str(self._takeover.folder)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Lift the deadline of a Hypothesis test, which does not allow for gradcheck."""
        function = getattr(item, "obj", None)
        if "hypothesis" in sys.modules and hasattr(function, SETTINGS_OF_HYPOTHESIS):
            from hypothesis import settings

            function = getattr(function, "__func__", function)
            setattr(function, SETTINGS_OF_HYPOTHESIS, settings(getattr(function, SETTINGS_OF_HYPOTHESIS), deadline=None))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note which tests pass: they judge what a checker returns as a number."""
        if report.when == "call" or report.failed:
            self._passed_tests[report.nodeid] = report.passed

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Give the checkers back, and write the reports."""
        run = self._finish()
        if run is None or session.config.option.collectonly:
            return
        from gradcheck.errors import UsageError
        from gradcheck.takeover import reports, terminal

        width = max(shutil.get_terminal_size((80, 24)).columns, 40)
        self._text = terminal.render(run, width=width, color=session.config.get_terminal_writer().hasmarkup)
        try:
            reports.write(run, self._paths)
        except UsageError as error:
            self._text += f"\n{error}"

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Show the report."""
        if self._text:
            terminalreporter.section("gradcheck takeover")
            terminalreporter.write_line(self._text)

    def pytest_unconfigure(self) -> None:
        """Give the checkers back, if the session ended before it began."""
        self._finish()

    def _finish(self) -> TakeoverRun | None:
        """Stop the takeover; return its run, or None on a worker and if it has been stopped before."""
        if self._takeover is None:
            return None
        takeover, self._takeover = self._takeover, None
        takeover.stop()
        if hasattr(self._config, "workerinput"):
            return None
        run = takeover.collect(self._passed_tests, self._config.stash[aggregate.SESSION_RESULTS].order)
        return replace(run, test_root=str(self._config.rootpath))


def _report_paths(config: pytest.Config) -> dict[str, str]:
    """Return the paths of the reports by format."""
    folder = config.invocation_params.dir
    typed = {name: config.getoption(f"gradcheck_takeover_{name}") for name in FORMATS}
    return {name: str(folder / path) for name, path in typed.items() if path}

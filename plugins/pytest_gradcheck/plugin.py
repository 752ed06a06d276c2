"""The hooks: each hands over to the file of its subject."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import pytest

from pytest_gradcheck import fixture, gathered, marker, settings, summary
from pytest_gradcheck.fixture import Gradcheck
from pytest_gradcheck.items import of_file, of_session, once_each

SUMMARY = pytest.StashKey[list[str]]()


@pytest.fixture(scope="session", name="gradcheck")
def _gradcheck(pytestconfig: pytest.Config) -> Gradcheck:
    """Check a derivative: `gradcheck(MyLayer(8), normal(4, 8))`; arguments and result are those of `gradcheck.check`."""
    return Gradcheck(pytestconfig)  # of the session, so that Hypothesis has no fixture to reset between two examples


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options."""
    settings.add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Read the options, and make the marker known."""
    config.addinivalue_line("markers", marker.ABOUT)
    config.stash[settings.KEY] = settings.read(config)
    config.stash[gathered.KEY] = gathered.Gathered()
    config.pluginmanager.register(gathered.Listener(config.stash[gathered.KEY]), "gradcheck-listener")


def pytest_report_header(config: pytest.Config) -> str | None:
    """Show what was chosen, above all a seed that was drawn."""
    return settings.header(config.stash[settings.KEY])


# --- collection


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Add the targets to what the session collects."""
    report = yield
    if isinstance(collector, pytest.Session) and report.passed:
        report.result = [*report.result, *of_session(collector)]
    return report


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Find the cases of a file that is named, as in the ids of tests."""
    return of_file(file_path, parent)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out cases that several targets name."""
    once_each(items)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Note the order of the tests."""
    _note_order(session.config, [item.nodeid for item in session.items])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_node_collection_finished(node: Any, ids: Sequence[str]) -> None:
    """Note the order of the tests, which is the same on every worker."""
    _note_order(node.config, ids)


def _note_order(config: pytest.Config, ids: Sequence[str]) -> None:
    config.stash[gathered.KEY].order = {nodeid: place for place, nodeid in enumerate(ids)}


# --- one test


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tell the fixture which test runs, and refuse markers that cannot be understood."""
    gathered.begin(item)
    item.config.stash[fixture.CURRENT] = item
    marker.refuse_mistakes(item)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Give the last report of a test its results."""
    results = gathered.finish(item) if call.when == "teardown" else []
    report = yield
    if results:
        setattr(report, gathered.PREFIX, results)
    return report


# --- the whole session


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Give xdist's workers the seed that was drawn."""
    chosen = node.config.stash[settings.KEY]
    if chosen.drawn:
        node.workerinput[settings.DRAWN] = chosen.chosen["seed"]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take the versions that a worker ran with."""
    output = getattr(node, "workeroutput", {})  # of one that crashed there is none
    node.config.stash[gathered.KEY].environment.update(output.get(gathered.PREFIX, {}))


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Write the reports; on a worker, leave the versions it ran with."""
    known = session.config.stash[gathered.KEY]
    if hasattr(session.config, "workeroutput"):
        if known.results:
            session.config.workeroutput[gathered.PREFIX] = gathered.versions()
        return
    reports = session.config.stash[settings.KEY].reports
    if session.config.option.collectonly or not (known.results or reports):
        return
    run = gathered.run_of(session.config, interrupted=exitstatus == pytest.ExitCode.INTERRUPTED)
    mistake = summary.written(run, reports)
    told = summary.lines(run) if session.config.get_verbosity() >= 0 else ()
    session.config.stash[SUMMARY] = [*told, *([mistake] if mistake else [])]
    if mistake and exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.USAGE_ERROR


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Show the section of the checks."""
    lines = config.stash.get(SUMMARY, [])
    if lines:
        terminalreporter.section("gradcheck")
        for line in lines:
            terminalreporter.write_line(line)

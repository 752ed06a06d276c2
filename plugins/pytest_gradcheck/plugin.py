"""The hooks of the plugin; each delegates to the file of its subject."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import pytest

from pytest_gradcheck import aggregate, fixture, harvest, marker, outcome, settings, summary, takeover, targets
from pytest_gradcheck.fixture import Gradcheck, GradcheckStep
from pytest_gradcheck.items import GradcheckCase, collect_file, collect_session, drop_duplicates

SUMMARY = pytest.StashKey[list[str]]()


@pytest.fixture(scope="session", name="gradcheck")
def _gradcheck(pytestconfig: pytest.Config) -> Gradcheck:
    """Check a derivative: `gradcheck(MyLayer(8), normal(4, 8))`; arguments and result are those of `gradcheck.check`."""
    # The fixture has session scope, so that Hypothesis does not complain about a fixture that is not reset between examples.
    return Gradcheck(pytestconfig)


@pytest.fixture(scope="session")
def gradcheck_step(pytestconfig: pytest.Config) -> GradcheckStep:
    """Try the laws of a training step: `gradcheck_step(model, loss, batch)`, with the arguments of `gradcheck.step`."""
    return GradcheckStep(pytestconfig)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options."""
    settings.add_options(parser)
    takeover.add_options(parser)
    harvest.add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Read the options and the configuration, and register the marker."""
    config.addinivalue_line("markers", marker.HELP)
    config.stash[settings.SETTINGS] = settings.read_settings(config)
    config.stash[aggregate.SESSION_RESULTS] = aggregate.SessionResults()
    if targets.collects_section(config):
        targets.read_section(config)
    config.pluginmanager.register(aggregate.Listener(config.stash[aggregate.SESSION_RESULTS]), "gradcheck-listener")
    takeover.configure(config)
    harvest.start(config)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave the process as it was."""
    harvest.stop(config)


def pytest_report_header(config: pytest.Config) -> str | None:
    """Show the settings, in particular a random seed, and what is collected."""
    return settings.format_header(config.stash[settings.SETTINGS], [source.name for source in targets.list_sources(config)])


# --- collection


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Add the targets to what the session collects."""
    report = yield
    if isinstance(collector, pytest.Session) and report.passed:
        report.result = [*report.result, *collect_session(collector)]
    return report


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Collect the cases of a file on the command line, such as a file in the id of a test."""
    return collect_file(file_path, parent)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Drop cases that several targets name."""
    drop_duplicates(items)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Note the order of the tests."""
    _note_order(session.config, [item.nodeid for item in session.items])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_node_collection_finished(node: Any, ids: Sequence[str]) -> None:
    """Note the order of the tests; it is the same on every worker."""
    _note_order(node.config, ids)


def _note_order(config: pytest.Config, ids: Sequence[str]) -> None:
    config.stash[aggregate.SESSION_RESULTS].order = {nodeid: position for position, nodeid in enumerate(ids)}


# --- a single test


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Set the test for the fixture, and reject invalid markers."""
    aggregate.start_item(item)
    item.config.stash[fixture.CURRENT_ITEM] = item
    marker.reject_invalid_markers(item)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Attach the results of a test to its last report, and say in pytest's summary what is wrong, or only warn of it."""
    results = aggregate.finish_item(item) if call.when == "teardown" else []
    report = yield
    outcome.shorten_summary(report, call)
    if item.config.stash[settings.SETTINGS].report_only or (isinstance(item, GradcheckCase) and item.is_report_only):
        outcome.pass_with_warning(item, report, call)
    if results:
        setattr(report, aggregate.PREFIX, results)
    return report


# --- the whole session


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Send a random seed to xdist's workers."""
    chosen = node.config.stash[settings.SETTINGS]
    if chosen.seed_is_random:
        node.workerinput[settings.RANDOM_SEED] = chosen.options["seed"]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Store the versions of the packages on a worker."""
    output = getattr(node, "workeroutput", {})  # missing if the worker crashed
    node.config.stash[aggregate.SESSION_RESULTS].environment.update(output.get(aggregate.PREFIX, {}))
    harvest.receive(node.config, output)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Write the reports; on a worker, send the versions of the packages instead."""
    session_results = session.config.stash[aggregate.SESSION_RESULTS]
    harvest.finish(session)
    if hasattr(session.config, "workeroutput"):
        if session_results.results:
            session.config.workeroutput[aggregate.PREFIX] = aggregate.read_versions()
        return
    reports = session.config.stash[settings.SETTINGS].reports
    if session.config.option.collectonly or not (session_results.results or reports):
        return
    run = aggregate.build_run(session.config, interrupted=exitstatus == pytest.ExitCode.INTERRUPTED)
    error = summary.write_reports(run, reports)
    has_section = session_results.results.keys() == {harvest.KEY}  # the harvest's own, which has the same lines
    lines = summary.summary_lines(run) if not has_section and session.config.get_verbosity() >= 0 else ()
    session.config.stash[SUMMARY] = [*lines, *([error] if error else [])]
    if error and exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.USAGE_ERROR


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Show the section with the results of the checks."""
    lines = config.stash.get(SUMMARY, [])
    if lines:
        terminalreporter.section("gradcheck")
        for line in lines:
            terminalreporter.write_line(line)
    harvested = list(harvest.summary_lines(config))
    if harvested:
        terminalreporter.section("gradcheck harvest")
        for line in harvested:
            terminalreporter.write_line(line)

"""Declared cases as pytest items, under the file that declares them."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_gradcheck import aggregate, marker, outcome, settings
from pytest_gradcheck.targets import CASE_PREFIX, Source, list_sources, list_sources_of_file, plan_source, read_section

if TYPE_CHECKING:
    from gradcheck.targets.case import Case

NAMES_CASES = pytest.StashKey[bool]()  # whether a file that declares cases is among the arguments of pytest


class GradcheckSource(pytest.Collector):
    """A target, or all targets of the configuration; it collects the files in which the cases are declared."""

    def __init__(self, *, source: Source, **node_arguments: Any) -> None:
        super().__init__(**node_arguments)
        self.source = source

    def collect(self) -> Iterator[pytest.Collector | pytest.Item]:
        """Plan the cases as the command line does.

        Raises:
            CollectError: if the target cannot be found, raises when it is imported, or declares no case.
        """
        files: dict[Path | None, list[Case]] = {}
        for case in plan_source(self.source, self.config):
            files.setdefault(_file_path(case), []).append(case)
        for path, cases in files.items():
            if path is None:
                yield from (_make_item(self, case, self.source) for case in cases)
            else:
                nodeid = _make_nodeid(path, self.config)
                yield GradcheckFile.from_parent(self, path=path, nodeid=nodeid, sources=(self.source,))


class GradcheckFile(pytest.File):
    """A file with declared cases."""

    def __init__(self, *, sources: tuple[Source, ...], **node_arguments: Any) -> None:
        super().__init__(**node_arguments)
        self.sources = sources

    def collect(self) -> Iterator[pytest.Item]:
        """Make an item for each case that is declared in the file."""
        for source in self.sources:
            cases = plan_source(source, self.config)
            yield from (_make_item(self, case, source) for case in cases if _file_path(case) == self.path)


class GradcheckCase(pytest.Item):
    """A declared case."""

    def __init__(self, *, case: Case, source: Source, **node_arguments: Any) -> None:
        super().__init__(**node_arguments)
        self.case, self.source = case, source
        self.add_marker(marker.NAME)

    def runtest(self) -> None:
        """Check the case; if it fails as expected, or as the baseline lists it, it is an xfail for pytest.

        Raises:
            GradientError: if the outcome is not PASS.
        """
        from gradcheck import sweeps
        from gradcheck.options import Options, override_options
        from gradcheck.report.display import to_display
        from gradcheck.run.baseline import attach_known_failure
        from gradcheck.run.case import check_case_safely

        section = read_section(self.config)
        options = {**section.options, **marker.collect_options(self)}
        strict = options.pop("strict") or section.strict
        result = check_case_safely(self.case, override_options(Options(), sweeps.choose_common(options)))
        result = attach_known_failure(replace(result, replay=self._replay(result.seed)), section.known_failures)
        result = aggregate.record_result(self, result)
        if result.ok and (result.known or result.expect == "fail"):
            pytest.xfail(to_display(result.known.because if result.known else result.because))
        outcome.report_outcome(result, strict=strict, warn=self.warn)

    @property
    def is_report_only(self) -> bool:
        """Whether the configuration says that a wrong derivative fails no test."""
        return read_section(self.config).report_only

    def _replay(self, seed: int) -> str:
        if self.case.file is None:  # The ids of pytest begin with a file, so they cannot name this case.
            return shlex.join(["gradcheck", "run", self.case.target, "--seed", str(seed)])
        words = ("--gradcheck", self.source.name) if self.source.origin else ()  # the configuration is found again
        return settings.format_replay(self.config, self.nodeid, seed, *words)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Return only the table."""
        from gradcheck.errors import GradcheckError

        return str(excinfo.value) if isinstance(excinfo.value, GradcheckError) else super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int, str]:
        """Return where the case is declared."""
        from gradcheck.untrusted_text import escape_control_characters

        name = escape_control_characters(self.case.name, single_line=True)
        return self.path, (self.case.line or 1) - 1, name  # without a line, a warning would have no place


def collect_session(session: pytest.Session) -> list[pytest.Collector]:
    """Return what to collect in addition to pytest's arguments; none if these name a file with cases of a target."""
    if session.config.stash.get(NAMES_CASES, False):
        return []
    return [
        GradcheckSource.from_parent(session, name=source.name, nodeid=source.name, source=source)
        for source in list_sources(session.config)
    ]


def collect_file(path: Path, parent: pytest.Collector) -> GradcheckFile | None:
    """Collect the cases of a file that pytest's arguments name; None if no target is likely to declare cases there."""
    sources = list_sources_of_file(path, parent.config) if parent.session.isinitpath(path) else ()
    if not sources:
        return None
    parent.config.stash[NAMES_CASES] = True
    return GradcheckFile.from_parent(parent, path=path, sources=sources)


def drop_duplicates(items: list[pytest.Item]) -> None:
    """Drop cases that several targets name."""
    nodeids: set[str] = set()
    distinct = []
    for item in items:
        if not (isinstance(item, GradcheckCase) and item.nodeid in nodeids):
            distinct.append(item)
        nodeids.add(item.nodeid)
    items[:] = distinct


def _make_item(parent: pytest.Collector, case: Case, source: Source) -> GradcheckCase:
    from gradcheck.untrusted_text import escape_control_characters

    name = CASE_PREFIX + (case.target.rpartition(":")[2] + case.name.removeprefix(case.target) if case.file else case.name)
    name = escape_control_characters(name, single_line=True)
    return GradcheckCase.from_parent(parent, name=name, nodeid=f"{parent.nodeid}::{name}", case=case, source=source)


def _file_path(case: Case) -> Path | None:
    """Return the path of the file or the notebook that declares a case; None if Python does not know it."""
    from gradcheck.tracebacks import split_cell_file

    return Path(split_cell_file(case.file)[0]) if case.file else None


def _make_nodeid(path: Path, config: pytest.Config) -> str:
    return Path(os.path.relpath(path, config.rootpath)).as_posix()

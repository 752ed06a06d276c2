"""Declared cases as pytest items, under the file that declares them."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_gradcheck import (
    aggregate,
    marker,
    outcome,
    settings,
)

if TYPE_CHECKING:
    from gradcheck.targets.case import Case

NAMES_CASES = pytest.StashKey[bool]()  # whether a file that declares cases is among the arguments of pytest
PREFIX = "gradcheck:"  # begins the name of an item, so that it differs from the tests of the same file


class GradcheckTarget(pytest.Collector):
    """A target of `--gradcheck`; it collects the files in which its cases are declared."""

    def collect(self) -> Iterator[pytest.Collector | pytest.Item]:
        """Plan the cases as the command line does.

        Raises:
            CollectError: if the target cannot be found, raises when it is imported, or declares no case.
        """
        files: dict[Path | None, list[Case]] = {}
        for case in plan_target(self.name, self.config):
            files.setdefault(_file_path(case), []).append(case)
        for path, cases in files.items():
            if path is None:
                yield from (_make_item(self, case, self.name) for case in cases)
            else:
                yield GradcheckFile.from_parent(self, path=path, nodeid=_make_nodeid(path, self.config), targets=(self.name,))


class GradcheckFile(pytest.File):
    """A file with declared cases."""

    def __init__(self, *, targets: tuple[str, ...], **node_arguments: Any) -> None:
        super().__init__(**node_arguments)
        self.targets = targets

    def collect(self) -> Iterator[pytest.Item]:
        """Make an item for each case that is declared in the file."""
        for target in self.targets:
            cases = plan_target(target, self.config)
            yield from (_make_item(self, case, target) for case in cases if _file_path(case) == self.path)


class GradcheckCase(pytest.Item):
    """A declared case."""

    def __init__(self, *, case: Case, target: str, **node_arguments: Any) -> None:
        super().__init__(**node_arguments)
        self.case, self.target = case, target
        self.add_marker(marker.NAME)

    def runtest(self) -> None:
        """Check the case; if it fails as expected, it is an xfail for pytest.

        Raises:
            GradientError: if the outcome is not PASS.
        """
        from gradcheck.options import Options, override_options
        from gradcheck.report.display import to_display
        from gradcheck.run.case import check_case_safely

        options = marker.collect_options(self)
        strict = options.pop("strict")
        result = check_case_safely(self.case, override_options(Options(), options))
        result = aggregate.record_result(self, replace(result, replay=self._replay(result.seed)))
        if result.expect == "fail" and result.ok:
            pytest.xfail(to_display(result.because))
        outcome.report_outcome(result, strict=strict, warn=self.warn)

    def _replay(self, seed: int) -> str:
        if self.case.file is None:  # The ids of pytest begin with a file, so they cannot name this case.
            return shlex.join(["gradcheck", "run", self.case.target, "--seed", str(seed)])
        return settings.format_replay(self.config, self.nodeid, seed, "--gradcheck", self.target)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Return only the table."""
        from gradcheck.errors import GradcheckError

        return str(excinfo.value) if isinstance(excinfo.value, GradcheckError) else super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Return where the case is declared."""
        from gradcheck.untrusted_text import escape_control_characters

        name = escape_control_characters(self.case.name, single_line=True)
        return self.path, self.case.line - 1 if self.case.line else None, name


def collect_session(session: pytest.Session) -> list[pytest.Collector]:
    """Return the targets to collect in addition to pytest's arguments; none if these name a file with cases of a target."""
    chosen = session.config.stash[settings.SETTINGS]
    if session.config.stash.get(NAMES_CASES, False):
        return []
    has_no_arguments = session.config.args_source is not pytest.Config.ArgsSource.ARGS
    targets = dict.fromkeys((*chosen.targets, *(_ini_targets(session.config) if has_no_arguments else ())))
    return [GradcheckTarget.from_parent(session, name=target, nodeid=target) for target in targets]


def collect_file(path: Path, parent: pytest.Collector) -> GradcheckFile | None:
    """Collect the cases of a file that pytest's arguments name; None if no target is likely to declare cases there."""
    chosen = parent.config.stash[settings.SETTINGS]
    if not (chosen.targets or chosen.ini_targets) or not parent.session.isinitpath(path):
        return None
    targets = tuple(target for target in (*chosen.targets, *_ini_targets(parent.config)) if _may_declare(target, path))
    if not targets:
        return None
    parent.config.stash[NAMES_CASES] = True
    return GradcheckFile.from_parent(parent, path=path, targets=targets)


def drop_duplicates(items: list[pytest.Item]) -> None:
    """Drop cases that several targets name."""
    nodeids: set[str] = set()
    distinct = []
    for item in items:
        if not (isinstance(item, GradcheckCase) and item.nodeid in nodeids):
            distinct.append(item)
        nodeids.add(item.nodeid)
    items[:] = distinct


def plan_target(target: str, config: pytest.Config) -> list[Case]:
    """Plan the cases of a target.

    Raises:
        CollectError: if the target cannot be planned, or declares no case.
    """
    from gradcheck.errors import GradcheckError, TargetError
    from gradcheck.run.plan import Request, explain_empty_plan, plan

    request = Request(targets=(target,))
    try:
        cases = plan(request)
    except GradcheckError as error:
        frames = f"\n{error.frames}" if isinstance(error, TargetError) and error.frames else ""
        raise pytest.Collector.CollectError(f"--gradcheck {target}: {error}{frames}") from None
    if not cases:
        raise pytest.Collector.CollectError(explain_empty_plan(request, "pytest --gradcheck"))
    return cases


def _ini_targets(config: pytest.Config) -> list[str]:
    """Return the targets of the ini file, with paths relative to its folder resolved."""
    from gradcheck.targets.discover import is_path, split_target

    targets = []
    for target in config.stash[settings.SETTINGS].ini_targets:
        module, name = split_target(target)
        if config.inipath and is_path(module):
            module = os.path.relpath(config.inipath.parent / module)
        targets.append(f"{module}:{name}" if name else module)
    return targets


def _may_declare(target: str, path: Path) -> bool:
    """Whether a file may declare cases of a target, judged without importing it."""
    from gradcheck.targets.discover import is_path, split_target

    module, name = split_target(target)
    if is_path(module):
        return Path(module).resolve() == path.resolve()
    module = module.partition(".")[0] if name else module  # the name may be defined elsewhere in its package
    return f".{module}." in f".{'.'.join(path.with_suffix('').parts)}."


def _make_item(parent: pytest.Collector, case: Case, target: str) -> GradcheckCase:
    from gradcheck.untrusted_text import escape_control_characters

    name = PREFIX + (case.target.rpartition(":")[2] + case.name.removeprefix(case.target) if case.file else case.name)
    name = escape_control_characters(name, single_line=True)
    return GradcheckCase.from_parent(parent, name=name, nodeid=f"{parent.nodeid}::{name}", case=case, target=target)


def _file_path(case: Case) -> Path | None:
    """Return the path of the file or the notebook that declares a case; None if Python does not know it."""
    from gradcheck.tracebacks import split_cell_file

    return Path(split_cell_file(case.file)[0]) if case.file else None


def _make_nodeid(path: Path, config: pytest.Config) -> str:
    return Path(os.path.relpath(path, config.rootpath)).as_posix()

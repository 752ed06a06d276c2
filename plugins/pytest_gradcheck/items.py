"""Declared cases as pytest's items, under the file that declares them."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_gradcheck import gathered, marker, outcome, settings

if TYPE_CHECKING:
    from gradcheck.targets.case import Case

NAMED = pytest.StashKey[bool]()  # whether a file that declares cases is among pytest's own arguments
PREFIX = "gradcheck:"  # of an item's name, so that no test of the same file has it


class GradcheckTarget(pytest.Collector):
    """What `--gradcheck` names: the files in which its cases are declared."""

    def collect(self) -> Iterator[pytest.Collector | pytest.Item]:
        """Plan as the command line does.

        Raises:
            CollectError: where the target cannot be found, raises when it is imported, or declares nothing.
        """
        files: dict[str | None, list[Case]] = {}
        for case in planned(self.name, self.config):
            files.setdefault(case.file, []).append(case)
        for file, cases in files.items():
            if file is None:
                yield from (_item(self, case, self.name) for case in cases)
            else:
                path = Path(file)
                yield GradcheckFile.from_parent(self, path=path, nodeid=_nodeid(path, self.config), targets=(self.name,))


class GradcheckFile(pytest.File):
    """A file with declared cases."""

    def __init__(self, *, targets: tuple[str, ...], **place: Any) -> None:
        super().__init__(**place)
        self.targets = targets

    def collect(self) -> Iterator[pytest.Item]:
        """Make an item of each case that is declared here."""
        for target in self.targets:
            cases = planned(target, self.config)
            yield from (_item(self, case, target) for case in cases if case.file and Path(case.file) == self.path)


class GradcheckCase(pytest.Item):
    """A declared case."""

    def __init__(self, *, case: Case, target: str, **place: Any) -> None:
        super().__init__(**place)
        self.case, self.target = case, target
        self.add_marker(marker.NAME)

    def runtest(self) -> None:
        """Check the case; one that is expected to fail and does is an expected failure to pytest, too.

        Raises:
            GradientError: where the outcome is not PASS.
        """
        from gradcheck.options import Options, overridden
        from gradcheck.run.case import attempted

        chosen = marker.chosen(self)
        strict = chosen.pop("strict")
        result = attempted(self.case, overridden(Options(), chosen))
        result = gathered.record(self, replace(result, replay=self._replay(result.seed)))
        if result.expect == "fail" and result.ok:
            pytest.xfail(result.because)
        outcome.judge(result, strict=strict, warn=self.warn)

    def _replay(self, seed: int) -> str:
        if self.case.file is None:  # then pytest's ids, which begin with a file, do not lead here
            return shlex.join(["gradcheck", "run", self.case.target, "--seed", str(seed)])
        return settings.replay(self.config, self.nodeid, seed, "--gradcheck", self.target)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Show the table alone."""
        from gradcheck.errors import GradcheckError

        return str(excinfo.value) if isinstance(excinfo.value, GradcheckError) else super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Where the case is declared."""
        return self.path, self.case.line - 1 if self.case.line else None, self.case.name


def of_session(session: pytest.Session) -> list[pytest.Collector]:
    """The targets to collect besides what pytest's arguments name; none where these name a file of theirs."""
    chosen = session.config.stash[settings.KEY]
    if session.config.stash.get(NAMED, False):
        return []
    unnamed = session.config.args_source is not pytest.Config.ArgsSource.ARGS
    texts = dict.fromkeys((*chosen.targets, *(_usual(session.config) if unnamed else ())))
    return [GradcheckTarget.from_parent(session, name=text, nodeid=text) for text in texts]


def of_file(path: Path, parent: pytest.Collector) -> GradcheckFile | None:
    """The cases of a file that pytest's arguments name."""
    chosen = parent.config.stash[settings.KEY]
    if not (chosen.targets or chosen.usual) or not parent.session.isinitpath(path):
        return None
    texts = tuple(text for text in (*chosen.targets, *_usual(parent.config)) if _may_hold(text, path))
    if not texts:
        return None
    parent.config.stash[NAMED] = True
    return GradcheckFile.from_parent(parent, path=path, targets=texts)


def once_each(items: list[pytest.Item]) -> None:
    """Leave out cases that several targets name."""
    seen: set[str] = set()
    kept = []
    for item in items:
        if not (isinstance(item, GradcheckCase) and item.nodeid in seen):
            kept.append(item)
        seen.add(item.nodeid)
    items[:] = kept


def planned(target: str, config: pytest.Config) -> list[Case]:
    """The cases of a target; what is wrong with it is an error of the collection.

    Raises:
        CollectError: with one message.
    """
    from gradcheck.errors import GradcheckError, TargetError
    from gradcheck.run.plan import Request, no_case, plan

    request = Request(targets=(target,))
    try:
        cases = plan(request)
    except GradcheckError as error:
        frames = f"\n{error.frames}" if isinstance(error, TargetError) and error.frames else ""
        raise pytest.Collector.CollectError(f"--gradcheck {target}: {error}{frames}") from None
    if not cases:
        raise pytest.Collector.CollectError(no_case(request, "pytest --gradcheck"))
    return cases


def _usual(config: pytest.Config) -> list[str]:
    """The targets of the ini file; paths are relative to it."""
    from gradcheck.targets.discover import is_path, split

    found = []
    for text in config.stash[settings.KEY].usual:
        place, name = split(text)
        if config.inipath and is_path(place):
            place = os.path.relpath(config.inipath.parent / place)
        found.append(f"{place}:{name}" if name else place)
    return found


def _may_hold(target: str, path: Path) -> bool:
    """Whether a file may be one that a target leads to, told without importing it."""
    from gradcheck.targets.discover import is_path, split

    place, name = split(target)
    if is_path(place):
        return Path(place).resolve() == path.resolve()
    place = place.partition(".")[0] if name else place  # what is named may be defined elsewhere in its package
    return f".{place}." in f".{'.'.join(path.with_suffix('').parts)}."


def _item(parent: pytest.Collector, case: Case, target: str) -> GradcheckCase:
    name = PREFIX + (case.target.rpartition(":")[2] + case.name.removeprefix(case.target) if case.file else case.name)
    return GradcheckCase.from_parent(parent, name=name, nodeid=f"{parent.nodeid}::{name}", case=case, target=target)


def _nodeid(path: Path, config: pytest.Config) -> str:
    return Path(os.path.relpath(path, config.rootpath)).as_posix()

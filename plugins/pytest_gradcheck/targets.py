"""What a session collects: the targets of the command line, of the ini file, and of `[tool.gradcheck]`, as lists of cases.

The configuration describes a target as it does for `gradcheck run`, wherever the target is named.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_gradcheck import settings

if TYPE_CHECKING:
    from gradcheck.results import Intent
    from gradcheck.run.plan import Entry
    from gradcheck.targets.case import Case


@dataclass(frozen=True)
class Source:
    """What a collector plans cases from.

    Attributes:
        name: how messages call it: a target as it was typed, or the file of the configuration.
        targets: the targets; none: all that the configuration lists.
        origin: the option that names the target, for messages; '' for the configuration, whose messages name its lines.
    """

    name: str
    targets: tuple[str, ...]
    origin: str = "--gradcheck "


@dataclass(frozen=True)
class Section:
    """The configuration of the project as a session uses it.

    Attributes:
        entries: the targets.
        options: the options for the whole run.
        strict: whether INCONCLUSIVE fails.
        report_only: whether neither FAIL nor INCONCLUSIVE fails.
        known_failures: what its baseline lists, by case.
    """

    entries: tuple[Entry, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    strict: bool = False
    report_only: bool = False
    known_failures: Mapping[str, Intent] = field(default_factory=dict)

    @property
    def targets(self) -> list[str]:
        """The targets by name."""
        return [entry.target for entry in self.entries]


CASE_PREFIX = "gradcheck:"  # begins the name of an item, so that it differs from the tests of the same file
SECTION = pytest.StashKey[Section]()
PLANS = pytest.StashKey[dict[Source, "list[Case]"]]()


def read_section(config: pytest.Config) -> Section:
    """Read the configuration of the project, once in a session; it is empty if there is none.

    Raises:
        pytest.UsageError: if it is invalid.
    """
    if SECTION not in config.stash:
        path = config.stash[settings.SETTINGS].section
        config.stash[SECTION] = _read_file(path, config) if path else Section()
    return config.stash[SECTION]


def _read_file(path: Path, session_config: pytest.Config) -> Section:
    from gradcheck.errors import UsageError
    from gradcheck.run import baseline
    from gradcheck.run.config.read import read_config

    try:
        config = read_config(path)
        known = config.root / config.execution.get("baseline", "")
        failures = baseline.read(known) if known.is_file() else {}
    except UsageError as error:
        raise pytest.UsageError(f"gradcheck: {error}; with gradcheck_collect = false, pytest ignores the table") from None
    entries = config.override_entries(session_config.stash[settings.SETTINGS].typed_options)
    strict, report_only = (config.execution.get(name, False) for name in ("strict", "report_only"))
    return Section(entries, config.options, strict, report_only, failures)


def collects_section(config: pytest.Config) -> bool:
    """Whether the targets of the configuration are collected: there is one, and pytest has no file arguments."""
    return config.stash[settings.SETTINGS].section is not None and settings.has_no_arguments(config)


def list_sources(config: pytest.Config) -> list[Source]:
    """Return what is collected in addition to pytest's arguments; without any, the targets of both files, too.

    The configuration comes first: how it describes a case takes precedence over a module that declares the case.
    """
    chosen = config.stash[settings.SETTINGS]
    sources = []
    if collects_section(config) and read_section(config).entries:
        sources = [Source(os.path.relpath(str(chosen.section), config.rootpath), (), "")]
    targets = (*chosen.targets, *(_ini_targets(config) if settings.has_no_arguments(config) else ()))
    return sources + [Source(target, (target,)) for target in dict.fromkeys(targets)]


def list_sources_of_file(path: Path, config: pytest.Config) -> tuple[Source, ...]:
    """Return what may declare cases in a file that pytest's arguments name, judged without importing it.

    The configuration counts only if the id of a case is named: it must not delay the tests of a file, nor stop them.
    """
    chosen = config.stash[settings.SETTINGS]
    targets = dict.fromkeys((*chosen.targets, *_ini_targets(config)))
    sources = [Source(target, (target,)) for target in targets if _may_declare(target, path)]
    if chosen.section and any(f"::{CASE_PREFIX}" in argument for argument in config.args):
        from gradcheck.run.config.find import list_targets

        root = chosen.section.parent
        listed = tuple(target for target in list_targets(chosen.section) if _may_declare(target, path, root))
        sources += [Source(chosen.section.name, listed, "")] if listed else []
    return tuple(sources)


def plan_source(source: Source, config: pytest.Config) -> list[Case]:
    """Plan the cases of a source as `gradcheck run` does, once in a session.

    Raises:
        CollectError: if a target cannot be planned, or declares no case.
    """
    plans = config.stash.setdefault(PLANS, {})
    if source not in plans:
        plans[source] = _plan_source(source, config)
    return plans[source]


def _plan_source(source: Source, config: pytest.Config) -> list[Case]:
    from gradcheck import sweeps
    from gradcheck.errors import GradcheckError, TargetError
    from gradcheck.run.plan import Request, explain_empty_plan, plan

    try:
        section = read_section(config)
        swept = sweeps.select_swept({**section.options, **config.stash[settings.SETTINGS].options})
        request = Request(targets=source.targets, entries=section.entries, sweep=sweeps.freeze(swept))
        cases = plan(request)
    except pytest.UsageError as error:
        raise pytest.Collector.CollectError(str(error)) from None
    except GradcheckError as error:
        frames = f"\n{error.frames}" if isinstance(error, TargetError) and error.frames else ""
        label = f"{source.origin}{source.name}: " if source.origin else ""
        raise pytest.Collector.CollectError(f"{label}{error}{frames}") from None
    if not cases:
        raise pytest.Collector.CollectError(explain_empty_plan(request, "pytest --gradcheck"))
    return cases


def _ini_targets(config: pytest.Config) -> Iterable[str]:
    """Yield the targets of the ini file, with paths relative to its folder resolved."""
    targets = config.stash[settings.SETTINGS].ini_targets
    if not targets:
        return  # without loading gradcheck
    from gradcheck.targets.discover import is_path, split_target

    for target in targets:
        module, name = split_target(target)
        if config.inipath and is_path(module):
            module = os.path.relpath(config.inipath.parent / module)
        yield f"{module}:{name}" if name else module


def _may_declare(target: str, path: Path, root: Path | None = None) -> bool:
    """Whether a file may declare cases of a target.

    Args:
        root: the folder that paths start from; None: the working directory.
    """
    from gradcheck.errors import UsageError
    from gradcheck.targets.discover import is_path, split_target

    try:
        module, name = split_target(target)
    except UsageError:
        return False
    if is_path(module):
        return Path(root or "", module).resolve() == path.resolve()
    module = module.partition(".")[0] if name else module  # the name may be defined elsewhere in its package
    return f".{module}." in f".{'.'.join(path.with_suffix('').parts)}."

"""The settings from the command line and the ini file, read and validated once, when pytest is configured."""

from __future__ import annotations

import os
import secrets
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

# The options of a check: the type they are read as, and the help.
OPTIONS: dict[str, tuple[type, str]] = {
    "seed": (int, "seed of all random numbers; 'random' draws one and shows it"),
    "rtol": (float, "relative error above which a derivative is wrong; default: 1e-7 in float64, 1e-4 in float32"),
    "trials": (int, "number of times the inputs are drawn"),
    "mode": (str, "auto, full (every partial derivative) or probe (random directions)"),
}
EXACT_HELP = "decide derivatives exactly, too, where their code can be traced: a proof instead of a tolerance"
STRICT_HELP = "INCONCLUSIVE checks fail; default: they warn"
TARGETS_HELP = "collect the declared cases of a target: module, module:name, path/file.py[:name] or a notebook. Repeatable"
REPORT_ONLY_HELP = "FAIL and INCONCLUSIVE checks fail no test: they warn, and the reports say FAIL"
COLLECT_HELP = "whether the targets of [tool.gradcheck] are collected, if pytest has no file arguments; default: true"
RANDOM_SEED = "gradcheck_seed"  # key in the input of xdist's workers: they must not draw another seed


@dataclass(frozen=True)
class Settings:
    """The settings of a session.

    Attributes:
        options: the options of a check that were set, by name.
        seed_is_random: whether the seed was drawn at random.
        strict: whether INCONCLUSIVE fails.
        report_only: whether neither FAIL nor INCONCLUSIVE fails a test.
        typed_options: the names of the options of a check on the command line.
        replay_options: the command-line options that change what is checked, as they can be typed again.
        targets: the targets on the command line.
        ini_targets: the targets in the ini file, for a session without files on the command line.
        section: the file of the project with the table [tool.gradcheck]; None: there is none, or it is not to be used.
        reports: the paths of the reports, by format.
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    seed_is_random: bool = False
    strict: bool = False
    report_only: bool = False
    typed_options: tuple[str, ...] = ()
    replay_options: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    ini_targets: tuple[str, ...] = ()
    section: Path | None = None
    reports: Mapping[str, str] = field(default_factory=dict)


SETTINGS = pytest.StashKey[Settings]()


def add_options(parser: pytest.Parser) -> None:
    """Declare the options for the command line and the ini file."""
    from gradcheck.report.formats import FORMATS

    group = parser.getgroup("gradcheck", "checks of derivatives")
    group.addoption("--gradcheck", action="append", default=[], metavar="TARGET", dest="gradcheck_targets", help=TARGETS_HELP)
    parser.addini("gradcheck_targets", f"{TARGETS_HELP.removesuffix('. Repeatable')}, if pytest has no file arguments", "args")
    parser.addini("gradcheck_collect", COLLECT_HELP, "bool", default=True)
    helps = {name: help_ for name, (_, help_) in OPTIONS.items()}
    for name, help_ in {**helps, **{name: f"write {what} to this path" for name, what in FORMATS.items()}}.items():
        group.addoption(f"--gradcheck-{name}", dest=_option_dest(name), metavar=name.upper(), help=help_)
        parser.addini(_option_dest(name), help_)
    group.addoption("--gradcheck-exact", action="store_true", dest="gradcheck_exact", help=EXACT_HELP)
    parser.addini("gradcheck_exact", EXACT_HELP, "bool", default=False)
    group.addoption("--gradcheck-strict", action="store_true", dest="gradcheck_strict", help=STRICT_HELP)
    parser.addini("gradcheck_strict", STRICT_HELP, "bool", default=False)
    group.addoption("--gradcheck-report-only", action="store_true", dest="gradcheck_report_only", help=REPORT_ONLY_HELP)
    parser.addini("gradcheck_report_only", REPORT_ONLY_HELP, "bool", default=False)


def read_settings(config: pytest.Config) -> Settings:
    """Read and validate the settings.

    Raises:
        pytest.UsageError: if an option is invalid; the message contains the value and what was expected.
    """
    texts = {name: _option_text(config, name) for name in OPTIONS}
    seed_is_random = texts["seed"] == "random"
    if seed_is_random:
        texts["seed"] = str(getattr(config, "workerinput", {}).get(RANDOM_SEED, secrets.randbelow(2**31)))
    options = {name: _parse_option(name, text) for name, text in texts.items() if text is not None}
    if _read_flag(config, "gradcheck_exact"):
        options["exact"] = True
    _validate_options(options)
    reports = _report_paths(config)
    if "html" in reports:
        options["every_entry"] = True  # for the heat maps
    return Settings(
        options=options,
        seed_is_random=seed_is_random,
        strict=_read_flag(config, "gradcheck_strict"),
        report_only=_read_flag(config, "gradcheck_report_only"),
        typed_options=tuple(name for name in (*OPTIONS, "exact") if config.getoption(_option_dest(name)) not in (None, False)),
        replay_options=_replay_options(config),
        targets=tuple(config.getoption("gradcheck_targets")),
        ini_targets=tuple(config.getini("gradcheck_targets")),
        section=_find_section(config),
        reports=reports,
    )


@contextmanager
def usage_errors(subject: str) -> Iterator[None]:
    """Turn a `UsageError` of gradcheck into pytest's, which ends the session with its message."""
    from gradcheck.errors import UsageError

    try:
        yield
    except UsageError as error:
        raise pytest.UsageError(f"{subject}: {error}") from None


def format_replay(config: pytest.Config, nodeid: str, seed: int, *more: str) -> str:
    """Return the command that repeats a test with the same seed, as typed in the folder where pytest was called."""
    path, colons, name = nodeid.partition("::")
    folder = config.invocation_params.dir
    file = path if folder == config.rootpath else os.path.relpath(config.rootpath / path, folder)
    options = [*more, *config.stash[SETTINGS].replay_options, "--gradcheck-seed", str(seed)]
    return shlex.join(["pytest", f"{file}{colons}{name}", *options])


def has_no_arguments(config: pytest.Config) -> bool:
    """Whether no files are named on the command line of pytest."""
    return config.args_source is not pytest.Config.ArgsSource.ARGS


def format_header(settings: Settings, sources: Sequence[str]) -> str | None:
    """Return one line with the settings and the names of what is collected; None if there are none."""
    parts = [
        f"{name} {value}{' (random)' * (name == 'seed' and settings.seed_is_random)}".removesuffix(" True")
        for name, value in settings.options.items()
    ]
    parts += ["strict"] * settings.strict + ["report only"] * settings.report_only
    parts += [f"targets {' '.join(sources)}"] * bool(sources)
    return f"gradcheck: {', '.join(parts)}" if parts else None


def _find_section(config: pytest.Config) -> Path | None:
    """Find the table [tool.gradcheck] as the command line does from the root folder of the session.

    Raises:
        pytest.UsageError: if a file that may hold it cannot be read.
    """
    root = config.rootpath
    if not config.getini("gradcheck_collect") or not any(_may_hold_section(folder) for folder in (root, *root.parents)):
        return None
    from gradcheck.run.config.find import find_nearest

    with usage_errors("gradcheck"):
        return find_nearest(root)


def _may_hold_section(folder: Path) -> bool:
    """Whether a folder may hold the table, judged without loading gradcheck in sessions that have nothing to do with it."""
    project = folder / "pyproject.toml"
    return (folder / "gradcheck.toml").is_file() or (project.is_file() and b"gradcheck" in project.read_bytes())


def _read_flag(config: pytest.Config, name: str) -> bool:
    return bool(config.getoption(name) or config.getini(name))


def _option_dest(name: str) -> str:
    return f"gradcheck_{name.replace('-', '_')}"


def _option_text(config: pytest.Config, name: str) -> str | None:
    """Return an option of the command line, else of the ini file; None if neither has it."""
    text: str | None = config.getoption(_option_dest(name))
    return text if text is not None else config.getini(_option_dest(name)) or None


def _parse_option(name: str, text: str) -> Any:
    kind = OPTIONS[name][0]
    try:
        return kind(text)
    except ValueError:
        expected = {int: "an integer", float: "a number such as 1e-6"}[kind] + " or 'random'" * (name == "seed")
        raise pytest.UsageError(f"--gradcheck-{name} ({_option_dest(name)}) {text}: expected {expected}") from None


def _validate_options(options: Mapping[str, Any]) -> None:
    if not options:
        return
    from gradcheck.options import Options, override_options

    with usage_errors("gradcheck"):
        override_options(Options(), options)


def _replay_options(config: pytest.Config) -> tuple[str, ...]:
    texts = {name: config.getoption(_option_dest(name)) for name in OPTIONS if name != "seed"}
    words = [word for name, text in texts.items() if text is not None for word in (f"--gradcheck-{name}", text)]
    flags = [f"--gradcheck-{name}" for name in ("exact", "strict") if config.getoption(_option_dest(name))]
    return (*words, *flags)


def _report_paths(config: pytest.Config) -> dict[str, str]:
    """Return the paths of the reports: relative to the working folder if typed, to the ini file if written there."""
    from gradcheck.report.formats import FORMATS

    ini_folder = config.inipath.parent if config.inipath else config.rootpath
    paths = {}
    for name in FORMATS:
        typed = config.getoption(_option_dest(name))
        path = typed or config.getini(_option_dest(name))
        if path == "-":
            raise pytest.UsageError(f"--gradcheck-{name} -: pytest itself writes to stdout; pass a path")
        if path:
            paths[name] = str((config.invocation_params.dir if typed else ini_folder) / Path(path))
    return paths

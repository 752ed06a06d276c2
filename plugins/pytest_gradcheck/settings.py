"""What the command line and the ini file choose, read and checked once, when pytest is configured."""

from __future__ import annotations

import os
import secrets
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

OPTIONS: dict[str, tuple[type, str]] = {  # options of a check: what they are read as, and the help
    "seed": (int, "of all random numbers; 'random' draws one and shows it"),
    "rtol": (float, "the relative error that matters; default: as sharp as the evidence allows"),
    "trials": (int, "how many times inputs are drawn"),
    "mode": (str, "auto, full (every partial derivative) or probe (random directions)"),
}
STRICT = "a check that is INCONCLUSIVE fails; default: it warns"
TARGETS = "collect the declared cases of a target: module, module:name, path/file.py or path/file.py:name. Repeatable"
DRAWN = "gradcheck_seed"  # in the input of xdist's workers, which must not draw another


@dataclass(frozen=True)
class Settings:
    """What a session was asked for.

    Attributes:
        chosen: options of a check, those alone that were chosen.
        drawn: whether the seed was drawn.
        strict: whether INCONCLUSIVE fails.
        typed: options of the command line that change what is checked, as they can be typed again.
        targets: of the command line; `usual`: of the ini file, for a session that names no files.
        reports: paths by format.
    """

    chosen: Mapping[str, Any] = field(default_factory=dict)
    drawn: bool = False
    strict: bool = False
    typed: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    usual: tuple[str, ...] = ()
    reports: Mapping[str, str] = field(default_factory=dict)


KEY = pytest.StashKey[Settings]()


def add_options(parser: pytest.Parser) -> None:
    """Declare the options, each for the command line and the ini file."""
    from gradcheck.report.formats import FORMATS

    group = parser.getgroup("gradcheck", "checks of derivatives")
    group.addoption("--gradcheck", action="append", default=[], metavar="TARGET", dest="gradcheck_targets", help=TARGETS)
    parser.addini("gradcheck_targets", f"{TARGETS.removesuffix('. Repeatable')}, where pytest is given no files", "args")
    helps = {name: help_ for name, (_, help_) in OPTIONS.items()}
    for name, help_ in {**helps, **{name: f"write {what} to this path" for name, what in FORMATS.items()}}.items():
        group.addoption(f"--gradcheck-{name}", dest=_dest(name), metavar=name.upper(), help=help_)
        parser.addini(_dest(name), help_)
    group.addoption("--gradcheck-strict", action="store_true", dest="gradcheck_strict", help=STRICT)
    parser.addini("gradcheck_strict", STRICT, "bool", default=False)


def read(config: pytest.Config) -> Settings:
    """Read and check what was chosen.

    Raises:
        pytest.UsageError: with what was got and what was expected.
    """
    texts = {name: _text(config, name) for name in OPTIONS}
    drawn = texts["seed"] == "random"
    if drawn:
        texts["seed"] = str(getattr(config, "workerinput", {}).get(DRAWN, secrets.randbelow(2**31)))
    chosen = {name: _read(name, text) for name, text in texts.items() if text is not None}
    _check(chosen)
    strict = config.getoption("gradcheck_strict") or config.getini("gradcheck_strict")
    return Settings(
        chosen=chosen,
        drawn=drawn,
        strict=bool(strict),
        typed=_typed(config),
        targets=tuple(config.getoption("gradcheck_targets")),
        usual=tuple(config.getini("gradcheck_targets")),
        reports=_places(config),
    )


def replay(config: pytest.Config, nodeid: str, seed: int, *more: str) -> str:
    """The command that repeats a test with the seed it had."""
    path, colons, name = nodeid.partition("::")
    here = config.invocation_params.dir
    place = path if here == config.rootpath else os.path.relpath(config.rootpath / path, here)
    return shlex.join(["pytest", f"{place}{colons}{name}", *more, *config.stash[KEY].typed, "--gradcheck-seed", str(seed)])


def header(settings: Settings) -> str | None:
    """One line about what was chosen; None where nothing was."""
    told = [f"{name} {value}{' (random)' * (name == 'seed' and settings.drawn)}" for name, value in settings.chosen.items()]
    told += ["strict"] * settings.strict + [f"targets {' '.join((*settings.targets, *settings.usual))}".rstrip()]
    told = [words for words in told if words != "targets"]
    return f"gradcheck: {', '.join(told)}" if told else None


def _dest(name: str) -> str:
    return f"gradcheck_{name.replace('-', '_')}"


def _text(config: pytest.Config, name: str) -> str | None:
    """What the command line says, else the ini file; None where neither does."""
    found: str | None = config.getoption(_dest(name))
    return found if found is not None else config.getini(_dest(name)) or None


def _read(name: str, text: str) -> Any:
    kind = OPTIONS[name][0]
    try:
        return kind(text)
    except ValueError:
        expected = {int: "an integer", float: "a number such as 1e-6"}[kind] + " or 'random'" * (name == "seed")
        raise pytest.UsageError(f"--gradcheck-{name} ({_dest(name)}) {text}: expected {expected}") from None


def _check(chosen: Mapping[str, Any]) -> None:
    if not chosen:
        return
    from gradcheck.errors import UsageError
    from gradcheck.options import Options, overridden

    try:
        overridden(Options(), chosen)
    except UsageError as error:
        raise pytest.UsageError(f"gradcheck: {error}") from None


def _typed(config: pytest.Config) -> tuple[str, ...]:
    given = {name: config.getoption(_dest(name)) for name in OPTIONS if name != "seed"}
    words = [word for name, text in given.items() if text is not None for word in (f"--gradcheck-{name}", text)]
    return (*words, *["--gradcheck-strict"] * config.getoption("gradcheck_strict"))


def _places(config: pytest.Config) -> dict[str, str]:
    """Where reports go: from the command line relative to where pytest was called, from the ini file to where that is."""
    from gradcheck.report.formats import FORMATS

    home = config.inipath.parent if config.inipath else config.rootpath
    found = {}
    for name in FORMATS:
        typed = config.getoption(_dest(name))
        path = typed or config.getini(_dest(name))
        if path == "-":
            raise pytest.UsageError(f"--gradcheck-{name} -: stdout is pytest's own; give a path")
        if path:
            found[name] = str((config.invocation_params.dir if typed else home) / Path(path))
    return found

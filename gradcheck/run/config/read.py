"""[tool.gradcheck] in pyproject.toml, or gradcheck.toml: choices for every run, and targets. Read as data, never run."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gradcheck.errors import UsageError
from gradcheck.options import Options, overridden
from gradcheck.run.config.schema import (
    CLAIMS,
    INTENT,
    OF_CASE,
    OF_OPTIONS,
    OF_RUN,
    OF_TARGET,
    TABLES,
    Kind,
)
from gradcheck.run.config.toml_lines import line_of
from gradcheck.run.plan import Entry, Request
from gradcheck.targets.intent import declared

NAMES = ("gradcheck.toml", "pyproject.toml")  # in one folder the first of them that has a configuration
UNKNOWN = "TODO"  # in place of what `gradcheck init` could not infer


@dataclass(frozen=True)
class Config:
    """What a project has chosen.

    Attributes:
        path: None where there is no configuration.
        options: of Options, by name.
        running: how a run is carried out and what passes: jobs, timeout (seconds), executor, address, strict, baseline.
        entries: the targets.
    """

    path: Path | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    running: Mapping[str, Any] = field(default_factory=dict)
    entries: tuple[Entry, ...] = ()

    @property
    def root(self) -> Path:
        """The folder that paths in it start from."""
        return self.path.parent if self.path else Path()


def nearest(start: Path) -> Path | None:
    """The configuration of the folder, or of the nearest above that has one."""
    for folder in (start, *start.parents):
        for name in NAMES:
            path = folder / name
            if path.is_file() and _table(_loaded(path)[0], _base(path)) is not None:
                return path
    return None


def read(path: Path) -> Config:
    """Read one configuration.

    Raises:
        UsageError: where it cannot be read, or a key is unknown or of a wrong form: with the line.
    """
    whole, text = _loaded(path)
    file = _File(path, text, _base(path))
    data = _table(whole, file.base)
    if data is None:
        raise UsageError(f"{path} has no table [{'.'.join(file.base)}]")
    found = _checked(file, data, {**OF_OPTIONS, **OF_RUN, "target": TABLES})
    options = {name: found[name] for name in OF_OPTIONS if name in found}
    _valid(file, options)
    entries = tuple(_entry(file, number, one) for number, one in enumerate(found.get("target", [])))
    _each_once(entries)
    return Config(path, options, {name: found[name] for name in OF_RUN if name in found}, entries)


@dataclass(frozen=True)
class _File:
    """A configuration as text, and the table of it that is read."""

    path: Path
    text: str
    base: tuple[str, ...]
    inner: tuple[str | int, ...] = ()

    def at(self, *keys: str | int) -> str:
        """File and line of a key."""
        return f"{self.path.name}:{line_of(self.text, (*self.base, *self.inner, *keys))}"


def _base(path: Path) -> tuple[str, ...]:
    """The table that a file holds its configuration in."""
    return ("tool", "gradcheck") if path.name == "pyproject.toml" else ()


def _table(data: Any, names: tuple[str, ...]) -> dict[str, Any] | None:
    for name in names:
        data = data.get(name) if isinstance(data, dict) else None
    return data if isinstance(data, dict) else None


def _loaded(path: Path) -> tuple[dict[str, Any], str]:
    try:
        text = path.read_text(encoding="utf-8")
        return tomllib.loads(text), text
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is no TOML: {error}") from None


def _checked(file: _File, data: dict[str, Any], kinds: Mapping[str, Kind]) -> dict[str, Any]:
    """The values of a table, each read by its kind."""
    found = {}
    for key, value in data.items():
        if key not in kinds:
            near = difflib.get_close_matches(key, kinds, 1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(kinds)}"
            raise UsageError(f"{file.at(key)}: unknown key {key!r}; {hint}")
        if not kinds[key].fits(value):
            raise UsageError(f"{file.at(key)}: {key} = {value!r}: expected {kinds[key].expected}")
        try:
            found[key] = kinds[key].read(value)
        except UsageError as error:
            raise UsageError(f"{file.at(key)}: {key}: {error}") from None
    return found


def _valid(file: _File, options: Mapping[str, Any]) -> None:
    for name, value in options.items():
        try:
            overridden(Options(), {name: value})
        except UsageError as error:
            raise UsageError(f"{file.at(name)}: {error}") from None


def _entry(outer: _File, number: int, data: dict[str, Any]) -> Entry:
    file = replace(outer, inner=("target", number))
    found = _checked(file, data, OF_TARGET)
    options = {name: found[name] for name in OF_CASE if name in found}
    _valid(file, options)
    if "target" not in found:
        raise UsageError(f'{file.at()}: a target needs target = "module:name", or a module or file')
    if not re.fullmatch(r"[\w.+-]+", found.get("name", "x")):  # what -k can select
        raise UsageError(f"{file.at('name')}: name = {found['name']!r}: expected letters, digits and any of _ - . +")
    meant = {name: found[name] for name in INTENT if name in found}
    try:
        intents = declared(**meant)
    except UsageError as error:
        raise UsageError(f"{file.at()}: {error}") from None
    return Entry(
        asked=_asked(found),
        place=file.at("target"),
        root=str(file.path.parent),
        name=found.get("name", ""),
        options=tuple((name, tuple(v.items()) if isinstance(v, dict) else v) for name, v in options.items()),
        expect=found.get("expect", "pass"),
        because=found.get("because", ""),
        intents=intents,
        unfinished=_unfinished(file, found),
    )


def _asked(found: Mapping[str, Any]) -> Request:
    inputs = found.get("inputs", [])
    named = inputs.items() if isinstance(inputs, dict) else [("", spec) for spec in inputs]
    return Request(
        targets=(found["target"],),
        inputs=tuple((f"{name}=" if name else "") + _spec(value) for name, value in named),
        init=tuple(f"{name}={value!r}" for name, value in found.get("init", {}).items()),
        claims=tuple((kind, found[kind]) for kind in CLAIMS if kind in found),
        reference=found.get("reference"),
        wrt=found.get("wrt", ()),
        framework=found.get("framework"),
        optimizer=found.get("optimizer"),
        partners=found.get("partners", ()),
    )


def _spec(value: Any) -> str:
    """An input as text: a string is a spec, a table or a list a pytree, anything else a plain value."""
    match value:
        case str():
            return value
        case dict():
            return f"{{{', '.join(f'{name!r}: {_spec(item)}' for name, item in value.items())}}}"
        case list():
            return f"[{', '.join(_spec(item) for item in value)}]"
    return repr(value)


def _unfinished(file: _File, found: Mapping[str, Any]) -> str:
    """What `gradcheck init` left to be filled in, in a sentence; '' where nothing is left."""
    for key, value in found.items():
        if re.search(rf"\b{UNKNOWN}\b", repr(value)):
            return f"{file.at(key)}: {key} of {found['target']} holds a {UNKNOWN}: put in what is meant, or remove the target"
    return ""


def _each_once(entries: tuple[Entry, ...]) -> None:
    seen: dict[tuple[str, str], Entry] = {}
    for entry in entries:
        first = seen.setdefault((entry.target, entry.name), entry)
        if first is not entry:
            raise UsageError(
                f"{entry.place}: target {entry.target!r} is described twice, first at {first.place}: "
                'give each a name of its own, as in name = "large"'
            )

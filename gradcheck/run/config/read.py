"""Read the configuration: the table [tool.gradcheck] in pyproject.toml, or gradcheck.toml. It is data; no code is run."""

from __future__ import annotations

import difflib
import re
from collections.abc import Container, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gradcheck import sweeps
from gradcheck.errors import UsageError
from gradcheck.run.config.find import find_table, load_toml, table_path
from gradcheck.run.config.schema import (
    INTENT_KEYS,
    OPTION_KEYS,
    RUN_KEYS,
    STEP_KEYS,
    TABLES,
    TARGET_KEYS,
    ValueType,
)
from gradcheck.run.config.toml_lines import line_of
from gradcheck.run.plan import Entry, Request
from gradcheck.targets.case import CLAIM_KINDS
from gradcheck.targets.intent import parse_intents

ENTRY_KEYS = {"target": TARGET_KEYS, "step": STEP_KEYS}  # the arrays of tables, and the keys of each
PLACEHOLDER = "TODO"  # what `gradcheck init` writes for a value that it cannot infer


@dataclass(frozen=True)
class Config:
    """The configuration of a project.

    Attributes:
        path: the file; None: there is no configuration.
        options: fields of `gradcheck.Options`, by name.
        execution: how to carry out a run and what passes: the keys of `RUN_KEYS`; `timeout` in seconds.
        entries: the targets.
    """

    path: Path | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    execution: Mapping[str, Any] = field(default_factory=dict)
    entries: tuple[Entry, ...] = ()

    @property
    def root(self) -> Path:
        """The folder that relative paths in the configuration start from."""
        return self.path.parent if self.path else Path()

    def override_entries(self, names: Container[str]) -> tuple[Entry, ...]:
        """Return the targets without the options of these names, which the command line sets for all of them."""
        return tuple(
            replace(entry, options=tuple((name, value) for name, value in entry.options if name not in names))
            for entry in self.entries
        )


def read_config(path: Path) -> Config:
    """Read a configuration.

    Raises:
        UsageError: if it cannot be read, or a key is unknown or has a wrong value; the message names the line.
    """
    document, text = load_toml(path)
    file = _File(path, text, table_path(path))
    data = find_table(document, file.base)
    if data is None:
        raise UsageError(f"{path} has no table [{'.'.join(file.base)}]")
    values = _read_values(file, data, {**OPTION_KEYS, **RUN_KEYS, "target": TABLES, "step": TABLES})
    options = _read_options(file, values)
    entries = tuple(
        _read_entry(file, kind, number, entry) for kind in ENTRY_KEYS for number, entry in enumerate(values.get(kind, []))
    )
    _require_unique_entries(entries)
    return Config(path, options, {name: values[name] for name in RUN_KEYS if name in values}, entries)


@dataclass(frozen=True)
class _File:
    """A configuration file and a table in it, to find the lines of keys.

    Attributes:
        path: the file.
        text: its content.
        base: the path of the table that is the configuration.
        inner: the path of a table inside the configuration.
    """

    path: Path
    text: str
    base: tuple[str, ...]
    inner: tuple[str | int, ...] = ()

    def at(self, *keys: str | int) -> str:
        """Return the file and line of a key, for messages."""
        return f"{self.path.name}:{line_of(self.text, (*self.base, *self.inner, *keys))}"


def _read_values(file: _File, data: dict[str, Any], types: Mapping[str, ValueType]) -> dict[str, Any]:
    """Check and convert the values of a table.

    Raises:
        UsageError: if a key is unknown or its value has the wrong type.
    """
    values = {}
    for key, value in data.items():
        if key not in types:
            matches = difflib.get_close_matches(key, types, 1)
            hint = f"did you mean {matches[0]}?" if matches else f"the keys are {', '.join(types)}"
            raise UsageError(f"{file.at(key)}: unknown key {key!r}; {hint}")
        if not types[key].fits(value):
            raise UsageError(f"{file.at(key)}: {key} = {value!r}: expected {types[key].expected}")
        try:
            values[key] = types[key].read(value)
        except UsageError as error:
            raise UsageError(f"{file.at(key)}: {key}: {error}") from None
    return values


def _read_options(file: _File, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options among some values; several values of one are `sweeps.Values`.

    Raises:
        UsageError: if an option is wrong; the message names its line.
    """
    options: dict[str, Any] = {}
    for name in OPTION_KEYS:
        try:
            options |= sweeps.read_options({name: values[name]}) if name in values else {}
        except UsageError as error:
            raise UsageError(f"{file.at(name)}: {error}") from None
    return options


def _read_entry(outer: _File, kind: str, number: int, data: dict[str, Any]) -> Entry:
    """Read the table of a target or a training step; `number` is its index in the array of tables."""
    file = replace(outer, inner=(kind, number))
    values = _read_values(file, data, ENTRY_KEYS[kind])
    options = _read_options(file, values)
    if "target" not in values:
        raise UsageError(f'{file.at()}: a {kind} needs target = "module:name", or a module or file')
    if not re.fullmatch(r"[\w.+-]+", values.get("name", "x")):  # these characters form one word of -k
        raise UsageError(f"{file.at('name')}: name = {values['name']!r}: expected letters, digits and any of _ - . +")
    declarations = {name: values[name] for name in INTENT_KEYS if name in values}
    try:
        intents = parse_intents(**declarations)
    except UsageError as error:
        raise UsageError(f"{file.at()}: {error}") from None
    return Entry(
        request=replace(_build_request(values), step=kind == "step", laws=values.get("laws", ())),
        place=file.at("target"),
        root=str(file.path.parent),
        name=values.get("name", ""),
        options=sweeps.freeze(options),
        expect=values.get("expect", "pass"),
        because=values.get("because", ""),
        intents=intents,
        depends=values.get("depends", ()),
        unfinished=_describe_placeholder(file, values),
    )


def _build_request(values: Mapping[str, Any]) -> Request:
    """Return the target of an entry, with its inputs and claims, as the command line would give them."""
    inputs = values.get("inputs", [])
    named_inputs = inputs.items() if isinstance(inputs, dict) else [("", spec) for spec in inputs]
    return Request(
        targets=(values["target"],),
        inputs=tuple((f"{name}=" if name else "") + _spec_text(value) for name, value in named_inputs),
        init=tuple(f"{name}={value!r}" for name, value in values.get("init", {}).items()),
        claims=tuple((kind, values[kind]) for kind in CLAIM_KINDS if kind in values),
        backward_takes=values.get("backward_takes", ""),
        params=values.get("params", ()),
        reference=values.get("reference"),
        wrt=values.get("wrt", ()),
        framework=values.get("framework"),
        optimizer=values.get("optimizer"),
        partners=values.get("partners", ()),
    )


def _spec_text(value: Any) -> str:
    """Return an input as text: a string is a spec, a table or a list is a pytree, anything else is a plain value."""
    match value:
        case str():
            return value
        case dict():
            return f"{{{', '.join(f'{name!r}: {_spec_text(item)}' for name, item in value.items())}}}"
        case list():
            return f"[{', '.join(_spec_text(item) for item in value)}]"
    return repr(value)


def _describe_placeholder(file: _File, values: Mapping[str, Any]) -> str:
    """Say which placeholder of `gradcheck init` is left; '' if there is none."""
    for key, value in values.items():
        if re.search(rf"\b{PLACEHOLDER}\b", repr(value)):
            return f"{file.at(key)}: {key} of {values['target']} contains a {PLACEHOLDER}: replace it, or remove the target"
    return ""


def _require_unique_entries(entries: tuple[Entry, ...]) -> None:
    """Refuse two entries of the same target and name."""
    entries_by_key: dict[tuple[str, str], Entry] = {}
    for entry in entries:
        first = entries_by_key.setdefault((entry.target, entry.name), entry)
        if first is not entry:
            raise UsageError(
                f"{entry.place}: target {entry.target!r} is described twice, first at {first.place}: "
                'give each entry a different name, as in name = "large"'
            )

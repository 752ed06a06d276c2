"""A first configuration: what a package holds that can be checked, with what its signatures tell of the inputs."""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradcheck.backends.loading import missing_init
from gradcheck.errors import TargetError, UsageError
from gradcheck.run.config.read import NAMES, UNKNOWN
from gradcheck.targets import discover
from gradcheck.targets.case import Case, declared_on
from gradcheck.targets.framework import Kind, hints_of, kind_of, unwrapped
from gradcheck.targets.signature import parameters
from gradcheck.targets.specs.annotations import spec_from

PASSED_OVER = ("tests", "test", "docs", "examples", "scripts", "build", "dist")


@dataclass(frozen=True)
class Drafted:
    """A target, and what stands below it; a value that could not be told is UNKNOWN.

    Attributes:
        about: what it is, for a comment.
    """

    target: str
    about: str
    init: dict[str, str] | None = None
    inputs: dict[str, str] | None = None

    @property
    def unknown(self) -> bool:
        """Whether something is left to be filled in."""
        return UNKNOWN in (*(self.init or {}).values(), *(self.inputs or {}).values())


def drafted(package: str) -> tuple[list[Drafted], list[str]]:
    """What a module or package holds: modules with declared cases, custom Functions and modules; and what cannot be imported.

    Raises:
        UsageError: where there is no such module.
        TargetError: where it cannot be imported itself.
    """
    refused: list[TargetError] = []
    found: dict[str, Drafted] = {}
    for text, value in discover.targets_in(discover.find(package), refused.append):
        kind = kind_of(value)
        if declared_on(value):
            place = discover.split(text)[0]
            found.setdefault(place, Drafted(place, "the cases that it declares"))
        elif kind is Kind.AUTOGRAD_FUNCTION or (kind is Kind.MODULE_CLASS and "forward" in _own(value)):
            found[text] = Drafted(text, f"{kind.value}", _init(text, value), _inputs(value))
    return list(found.values()), [str(error) for error in refused]


def _own(module: type) -> set[str]:
    """What a module's class and its bases define beside what every nn.Module has."""
    return {name for base in module.__mro__ if not base.__module__.startswith("torch.") for name in vars(base)}


def _init(text: str, target: Any) -> dict[str, str] | None:
    if kind_of(target) is not Kind.MODULE_CLASS:
        return None
    return dict.fromkeys(missing_init(Case(text, target)), UNKNOWN)


def _inputs(target: Any) -> dict[str, str]:
    """A spec for each parameter that needs one, as its annotation tells."""
    hints = hints_of(unwrapped(target.forward))
    found = {}
    for p in parameters(target) or ():
        spec = spec_from(hints.get(p.name, p.annotation), p.name)
        if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD) and (p.default is p.empty or spec is not None):
            found[p.name] = str(spec or UNKNOWN)
    return found


def text_of(targets: list[Drafted], refused: list[str], prefix: str) -> str:
    """The configuration as text.

    Args:
        refused: what could not be looked at, for comments.
        prefix: of its tables: '' in gradcheck.toml, 'tool.gradcheck.' in pyproject.toml.
    """
    head = [f"# Checked by `gradcheck run`. What stands as {UNKNOWN} is to be filled in, or its target removed."]
    head += [f"# Not looked at: {' '.join(reason.split())}" for reason in refused]
    head += [f"[{prefix.rstrip('.')}]"] if prefix else []
    return "\n\n".join(["\n".join([*head, "seed = 0"]), *(_table(one, prefix) for one in targets)]) + "\n"


def _table(one: Drafted, prefix: str) -> str:
    lines = [f"[[{prefix}target]]  # {one.about}", f"target = {_quoted(one.target)}"]
    if one.init:
        lines.append(f"init = {_inline(one.init)}" + ("  # values for its constructor" if one.unknown else ""))
    if one.inputs:
        told = '  # specs such as "normal(4, 3)" or "integers(0, 10, 4)"' if UNKNOWN in one.inputs.values() else ""
        lines.append(f"inputs = {_inline(one.inputs)}{told}")
    return "\n".join(lines)


def _inline(values: dict[str, str]) -> str:
    keys = {name: name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _quoted(name) for name in values}
    return f"{{ {', '.join(f'{keys[name]} = {_quoted(value)}' for name, value in values.items())} }}"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def place(folder: Path) -> Path:
    """Where a configuration goes: into pyproject.toml where there is one, else into gradcheck.toml."""
    project = folder / NAMES[1]
    return project if project.is_file() else folder / NAMES[0]


def package_of(folder: Path) -> str:
    """The package that a project consists of: the one of its name, or the only one there.

    Raises:
        UsageError: where it cannot be told.
    """
    found = [path.parent.name for root in (folder, folder / "src") for path in sorted(root.glob("*/__init__.py"))]
    packages = [name for name in found if name not in PASSED_OVER]
    own = [name for name in packages if name == _project_name(folder)]
    if len(own or packages) != 1:
        raise UsageError(f"which package? Here are {', '.join(packages) or 'none'}: say gradcheck init PACKAGE")
    return (own or packages)[0]


def _project_name(folder: Path) -> str:
    try:
        data = tomllib.loads((folder / NAMES[1]).read_text(encoding="utf-8"))
        return re.sub(r"[-.]+", "_", str(data["project"]["name"])).lower()
    except (OSError, ValueError, KeyError, TypeError):
        return ""

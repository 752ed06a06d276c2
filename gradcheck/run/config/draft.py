"""A first configuration: the targets of a package, with the inputs that can be inferred from their signatures."""

from __future__ import annotations

import json
import re
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradcheck.backends.load_target import find_missing_init
from gradcheck.errors import TargetError, UsageError
from gradcheck.run.config.find import FILE_NAMES
from gradcheck.run.config.read import PLACEHOLDER
from gradcheck.targets import discover
from gradcheck.targets.case import Case, get_declared_cases
from gradcheck.targets.framework import TargetKind, classify_target, read_annotations, unwrap_target
from gradcheck.targets.signature import read_parameters
from gradcheck.targets.specs.annotations import parse_annotation

if TYPE_CHECKING:
    from collections.abc import Sequence

# Top-level packages that are not the package of the project.
IGNORED_FOLDERS = ("tests", "test", "docs", "examples", "scripts", "build", "dist")


@dataclass(frozen=True)
class DraftTarget:
    """A target of the draft; a value that could not be inferred is PLACEHOLDER.

    Attributes:
        target: the target, such as `module:name`.
        about: what it is, for a comment in the file.
        init: constructor arguments by name; None: it is not constructed.
        inputs: input specs by name; None: it declares its own cases.
        wrt: paths of the inputs to differentiate with respect to; (): all.
    """

    target: str
    about: str
    init: dict[str, str] | None = None
    inputs: dict[str, str] | None = None
    wrt: tuple[str, ...] = ()

    @property
    def has_placeholder(self) -> bool:
        """Return whether the user has to fill in a value."""
        return PLACEHOLDER in (*(self.init or {}).values(), *(self.inputs or {}).values())


def draft_targets(package: str) -> tuple[list[DraftTarget], list[str]]:
    """Find the targets of a module or package: modules with declared cases, custom Functions, nn.Module classes, and forwards.

    A forward is a function with a backward beside it.

    Returns:
        The targets, and a message for each submodule that cannot be imported.

    Raises:
        UsageError: if there is no such module.
        TargetError: if the module itself cannot be imported.
    """
    import_errors: list[TargetError] = []
    targets: dict[str, DraftTarget] = {}
    for text, value in discover.iterate_targets(discover.import_target(package), import_errors.append):
        kind = classify_target(value)
        if get_declared_cases(value):
            module = discover.split_target(text)[0]
            targets.setdefault(module, DraftTarget(module, "the cases that it declares"))
        elif kind is TargetKind.AUTOGRAD_FUNCTION or (kind is TargetKind.MODULE_CLASS and "forward" in _defined_names(value)):
            targets[text] = DraftTarget(text, f"{kind.value}", _draft_init(text, value), _draft_inputs(value))
        elif backward := discover.find_backward(sys.modules.get(value.__module__), value):
            targets[text] = DraftTarget(text, f"with {backward.__name__}, found by its name", None, _draft_inputs(value))
    return list(targets.values()), [str(error) for error in import_errors]


def _defined_names(module: type) -> set[str]:
    """Return the names that a module class and its bases define in addition to those of nn.Module."""
    return {name for base in module.__mro__ if not base.__module__.startswith("torch.") for name in vars(base)}


def _draft_init(text: str, target: Any) -> dict[str, str] | None:
    """Return a placeholder for each constructor argument without a default; None if the target is no class."""
    if classify_target(target) is not TargetKind.MODULE_CLASS:
        return None
    return dict.fromkeys(find_missing_init(Case(text, target)), PLACEHOLDER)


def _draft_inputs(target: Any) -> dict[str, str]:
    """Return a spec for each parameter that needs one, inferred from its annotation if possible."""
    hints = read_annotations(unwrap_target(getattr(target, "forward", target)))
    specs = {}
    for parameter in read_parameters(target) or ():
        spec = parse_annotation(hints.get(parameter.name, parameter.annotation), parameter.name)
        is_variadic = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        if not is_variadic and (parameter.default is parameter.empty or spec is not None):
            specs[parameter.name] = str(spec or PLACEHOLDER)
    return specs


def to_toml(targets: list[DraftTarget], import_errors: list[str], prefix: str) -> str:
    """Return the configuration as text.

    Args:
        targets: the targets.
        import_errors: why submodules could not be imported, for comments.
        prefix: put before the names of tables: '' in gradcheck.toml, 'tool.gradcheck.' in pyproject.toml.
    """
    head = [f"# Checked by `gradcheck run`. Replace each {PLACEHOLDER} by a value, or remove its target."]
    head += [f"# Skipped: {' '.join(error.split())}" for error in import_errors]
    head += [f"[{prefix.rstrip('.')}]"] if prefix else []
    return "\n\n".join(["\n".join([*head, "seed = 0"]), *(_target_table(target, prefix) for target in targets)]) + "\n"


def _target_table(target: DraftTarget, prefix: str) -> str:
    lines = [f"[[{prefix}target]]  # {target.about}", f"target = {_quote(target.target)}"]
    if target.init:
        hint = "  # values for its constructor" if target.has_placeholder else ""
        lines.append(f"init = {_inline_table(target.init)}{hint}")
    if target.inputs:
        hint = '  # specs such as "normal(4, 3)" or "integers(0, 10, 4)"' if PLACEHOLDER in target.inputs.values() else ""
        lines.append(f"inputs = {_inline_table(target.inputs)}{hint}")
    if target.wrt:
        lines.append(f"wrt = [{', '.join(map(_quote, target.wrt))}]")
    return "\n".join(lines)


def _inline_table(values: dict[str, str]) -> str:
    keys = {name: name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _quote(name) for name in values}
    return f"{{ {', '.join(f'{keys[name]} = {_quote(value)}' for name, value in values.items())} }}"


def _quote(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def choose_file(folder: Path) -> Path:
    """Return the file that a configuration belongs in: pyproject.toml if it exists, else gradcheck.toml."""
    pyproject = folder / FILE_NAMES[1]
    return pyproject if pyproject.is_file() else folder / FILE_NAMES[0]


def resolve_package(text: str, project: Path) -> str:
    """Return the module that a folder stands for, such as `pkg` for `src/pkg` or for `src`; any other text as it is.

    Raises:
        UsageError: if a folder holds several packages.
    """
    folder = Path(text)
    if (folder / "__init__.py").is_file():
        parts = [folder.resolve()]
        while (parts[0].parent / "__init__.py").is_file():
            parts.insert(0, parts[0].parent)
        return ".".join(part.name for part in parts)
    holds_packages_only = any(folder.glob("*/__init__.py")) and not any(folder.glob("*.py"))
    return find_package(project, (folder,)) if holds_packages_only else text


def find_package(project: Path, folders: Sequence[Path] = ()) -> str:
    """Return the name of a project's package: the package with the name of the project, or the only one.

    Args:
        project: the folder of the project.
        folders: where packages may lie; none: in the project and in its `src`.

    Raises:
        UsageError: if there is none, or several and none has the name of the project.
    """
    roots = folders or (project, project / "src")
    names = [path.parent.name for root in roots for path in sorted(root.glob("*/__init__.py"))]
    packages = [name for name in names if name not in IGNORED_FOLDERS]
    of_project_name = [name for name in packages if name == _project_name(project)]
    if len(of_project_name or packages) != 1:
        raise UsageError(
            f"cannot infer the package: expected one here, found {', '.join(packages) or 'none'}; run gradcheck init PACKAGE"
        )
    return (of_project_name or packages)[0]


def _project_name(folder: Path) -> str:
    """Return the name of the project in pyproject.toml, as a package has it; '' if there is none."""
    try:
        data = tomllib.loads((folder / FILE_NAMES[1]).read_text(encoding="utf-8"))
        return re.sub(r"[-.]+", "_", str(data["project"]["name"])).lower()
    except (OSError, ValueError, KeyError, TypeError):
        return ""

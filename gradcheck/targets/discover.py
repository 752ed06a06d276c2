"""From `module`, `module:name`, `path/file.py` or `path/file.py:name` to Python objects and declared cases."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import pkgutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradcheck.errors import TargetError, TargetNotFoundError, UsageError
from gradcheck.targets.case import Case, declared_on, source_of
from gradcheck.tracebacks import one_line, user_frames

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

EXTRAS = ("jax", "triton")  # what a user's code imports, and an extra of that name brings


@dataclass(frozen=True)
class Found:
    """What a target's text leads to: a module, and the value named in it (None where no name was given)."""

    text: str
    module: ModuleType
    name: str | None
    value: Any


def find(text: str, root: str = "") -> Found:
    """Import what a target names.

    Args:
        root: the folder that paths start from, and where modules are looked for too; '' for the working directory.

    Raises:
        TargetNotFoundError: where file, module or name does not exist; the message lists near names.
        TargetError: where importing it raises.
    """
    place, name = split(text)
    if root and root not in sys.path:
        sys.path.insert(0, root)
    module = _load_file(Path(root, place)) if is_path(place) else _load_module(place)
    return Found(text, module, name, _attribute(module, name, place) if name else None)


def find_callable(text: str, root: str = "") -> Any:
    """Import a function or class by `module:name`.

    Raises:
        UsageError: where the text names no callable.
    """
    found = find(text, root)
    if found.name is None:
        raise UsageError(f"{text!r}: expected module:name, got a module alone{_offer(found.module, found.text)}")
    if not callable(found.value):
        raise UsageError(f"{text!r} is {_an(type(found.value).__name__)}: expected a function or class that can be called")
    return found.value


def declared_cases(found: Found) -> list[Case]:
    """The cases declared with `@gradcheck.case` on the named target, or anywhere in the module or package."""
    if found.name is not None:
        return _named(found.text, found.value)
    return [case for text, value in targets_in(found) for case in _named(text, value)]


def targets_in(found: Found, refused: Callable[[TargetError], None] | None = None) -> Iterator[tuple[str, Any]]:
    """Every function and class that a module or package itself defines, once, with the text that names it.

    Args:
        refused: told of each submodule that cannot be imported; None: such a one is raised.
    """
    seen: set[int] = set()
    for module in _with_submodules(found.module, refused):
        text = found.text if module is found.module else module.__name__
        for name, value in vars(module).items():
            if getattr(value, "__module__", None) == module.__name__ and callable(value) and id(value) not in seen:
                seen.add(id(value))  # another name for the same target is no other case
                yield f"{text}:{name}", value


def callables_in(module: ModuleType) -> list[str]:
    """Names of the public functions and classes that a module itself defines."""
    return [
        name
        for name, value in vars(module).items()
        if callable(value) and not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    ]


def _named(text: str, target: Any) -> list[Case]:
    cases = declared_on(target)
    file, line = source_of(target) if cases else (None, None)
    names = [f"{text}[{c.name or i}]" if len(cases) > 1 or c.name else text for i, c in enumerate(cases)]
    return [replace(c, name=n, fn=target, target=text, file=file, line=line) for c, n in zip(cases, names, strict=True)]


def split(text: str) -> tuple[str, str | None]:
    """The module or file that a target's text names, and the name in it.

    Raises:
        UsageError: where the text is of neither form.
    """
    if not text.strip() or (text.startswith((".", ":")) and not text.startswith(("./", "../"))):
        raise UsageError(f"target {text!r}: expected module, module:name, path/file.py or path/file.py:name")
    place, colon, name = text.rpartition(":")
    if not colon or ("\\" in name or "/" in name):
        return text, None
    if not place or not name:
        raise UsageError(f"target {text!r}: expected module, module:name, path/file.py or path/file.py:name")
    return place, name


def is_path(place: str) -> bool:
    """Whether a target's place is a file rather than a module."""
    return place.endswith(".py") or "/" in place or "\\" in place


def _load_file(path: Path) -> ModuleType:
    if path.is_dir():
        raise TargetNotFoundError(f"{path} is a folder: name a file in it, or its package as a module, as in pkg.layers")
    if not path.is_file():
        folder = path.parent if path.parent.is_dir() else Path()
        raise TargetNotFoundError(f"no file {path}{_near(path.name, [p.name for p in folder.glob('*.py')])}")
    path = path.resolve()
    root, parts = path.parent, [path.stem]
    while (root / "__init__.py").exists():
        root, parts = root.parent, [root.name, *parts]
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    name = ".".join(parts)
    loaded = sys.modules.get(name)
    if loaded is not None and getattr(loaded, "__file__", None) == str(path):
        return loaded
    if len(parts) > 1:
        found = _load_module(name)
        if Path(found.__file__ or "").resolve() != path:
            raise UsageError(f"{path} is module {name}, but that name is taken by {found.__file__}: run them one at a time")
        return found
    name = name if loaded is None and name not in sys.stdlib_module_names else f"_target_{name}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise TargetNotFoundError(f"{path} cannot be imported: expected a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise _import_raised(str(path), error) from None
    return module


def _load_module(name: str) -> ModuleType:
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(error.name + ".")):
            raise TargetNotFoundError(f"no module {name!r}{_near_module(error.name)}") from None
        raise _import_raised(name, error) from None
    except (Exception, SystemExit) as error:
        raise _import_raised(name, error) from None


def _import_raised(place: str, error: BaseException) -> TargetError:
    advice = ""
    if isinstance(error, ModuleNotFoundError) and error.name:
        wanted = f"install {error.name.split('.')[0]!r}"
        if error.name in EXTRAS:
            wanted = f"pip install 'gradcheck[{error.name}]'"
        advice = f": {wanted} into the environment gradcheck runs in"
    return TargetError(f"importing {place} raised {one_line(error)}{advice}", user_frames(error))


def _attribute(module: ModuleType, name: str, place: str) -> Any:
    value: Any = module
    for i, part in enumerate(name.split(".")):
        try:
            value = getattr(value, part)
        except Exception as error:
            if not isinstance(error, AttributeError):
                raise TargetError(f"reading {place}:{name} raised {one_line(error)}", user_frames(error)) from None
            owner = ":".join([place, ".".join(name.split(".")[:i])]).rstrip(":")
            raise TargetNotFoundError(f"{owner} has no {part!r}{_near(part, dir(value))}") from None
    return value


def _with_submodules(module: ModuleType, refused: Callable[[TargetError], None] | None) -> list[ModuleType]:
    """The module and, of a package, every module below it; imported one by one, so that an error names its module."""
    found = [module]
    for info in sorted(pkgutil.iter_modules(getattr(module, "__path__", ())), key=lambda m: m.name):
        if info.name == "__main__":
            continue
        try:
            found += _with_submodules(_load_module(f"{module.__name__}.{info.name}"), refused)
        except TargetError as error:
            if refused is None:
                raise
            refused(error)
    return found


def _near_module(name: str) -> str:
    parent, _, last = name.rpartition(".")
    if Path("src", name).is_dir():
        return "; it lies in src: install the project (pip install -e .), or put src on PYTHONPATH"
    if parent:
        paths = getattr(sys.modules.get(parent), "__path__", None)
        known = [m.name for m in pkgutil.iter_modules(paths)] if paths else []
    else:
        known = [m.name for m in pkgutil.iter_modules()]
    return _near(last, known)


def _near(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, [k for k in known if not k.startswith("__")], 3)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def _offer(module: ModuleType, text: str) -> str:
    names = callables_in(module)
    return f"; it defines {', '.join(f'{text}:{n}' for n in names[:5])}" if names else ""


def _an(word: str) -> str:
    return f"{'an' if word[:1].lower() in 'aeiou' else 'a'} {word}"

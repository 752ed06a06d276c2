"""Targets by their text: import `module`, `module:name`, `path/file.py` or `path/file.py:name`, and list declared cases.

A notebook, `path/file.ipynb`, takes the place of a file, and one of its cells, `path/file.ipynb:cell[3]`, that of a module.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import itertools
import pkgutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from gradcheck.errors import TargetError, TargetNotFoundError, UsageError
from gradcheck.interrupts import is_interrupt
from gradcheck.targets import notebook as notebooks
from gradcheck.targets.case import Case, get_declared_cases, locate_source
from gradcheck.targets.framework import TargetKind, classify_target
from gradcheck.tracebacks import format_user_frames, summarise_error

EXTRAS = ("jax", "triton")  # packages that a user's code may import, each installed by an extra of its name


@dataclass(frozen=True)
class ImportedTarget:
    """The module that a target's text names, and the value in it (None if the text names the module alone)."""

    text: str
    module: ModuleType
    name: str | None
    value: Any


def import_target(text: str, root: str = "") -> ImportedTarget:
    """Import the module and the value that a target's text names.

    Args:
        text: `module`, `module:name`, `path/file.py` or `path/file.py:name`; also a notebook, `path/file.ipynb`, and a cell of
            it, `path/file.ipynb:cell[3]` or `path/file.ipynb:cell[3].name`.
        root: the folder that paths start from, and a further place to look for modules; '' for the working directory.

    Raises:
        TargetNotFoundError: if the file, module or name does not exist; the message lists similar names.
        TargetError: if importing it raises.
    """
    module_or_file, name = split_target(text)
    if root and root not in sys.path:
        sys.path.insert(0, root)
    if module_or_file.endswith(notebooks.SUFFIX):
        return _import_from_notebook(text, Path(root, module_or_file), name or "")
    module = _load_file(Path(root, module_or_file)) if is_path(module_or_file) else _load_module(module_or_file)
    return ImportedTarget(text, module, name, _read_attribute(module, name, module_or_file) if name else None)


def import_callable(text: str, root: str = "") -> Any:
    """Import a function or class by `module:name`.

    Raises:
        UsageError: if the text names no callable.
    """
    target = import_target(text, root)
    if target.name is None:
        raise UsageError(f"{text!r}: expected module:name, got a module alone{_offer_callables(target.module, target.text)}")
    if not callable(target.value):
        kind = _with_article(type(target.value).__name__)
        raise UsageError(f"{text!r} is {kind}: expected a function or class that can be called")
    return target.value


def collect_declared_cases(target: ImportedTarget) -> list[Case]:
    """Return the cases declared with `@gradcheck.case` on the named target, or anywhere in the module or package."""
    if target.name is not None:
        return _name_cases(target.text, bind_method(target) or target.value)
    named = itertools.chain.from_iterable(_with_methods(text, value) for text, value in iterate_targets(target))
    return [case for text, value in named for case in _name_cases(text, value)]


def _with_methods(text: str, target: Any) -> list[tuple[str, Any]]:
    """Return a target and, of a class, the methods that it defines itself, each with the text that names it.

    A method that needs an object is the factory that makes one.
    """
    methods = vars(target) if inspect.isclass(target) else {}
    routines = [name for name, value in methods.items() if isinstance(value, (FunctionType, staticmethod, classmethod))]
    return [(text, target), *((f"{text}.{name}", _make_factory(target, name) or getattr(target, name)) for name in routines)]


def iterate_targets(target: ImportedTarget, on_error: Callable[[TargetError], None] | None = None) -> Iterator[tuple[str, Any]]:
    """Yield every function and class that a module or package itself defines, once, with the text that names it.

    Args:
        on_error: called with the error of each submodule that cannot be imported; None: the error is raised.
    """
    visited: set[int] = set()
    for module in _list_modules(target.module, on_error):
        text = target.text if module is target.module else module.__name__
        for name, value in vars(module).items():
            if getattr(value, "__module__", None) == module.__name__ and callable(value) and id(value) not in visited:
                visited.add(id(value))  # A second name for the same target does not make a second case.
                yield name_member(text, name), value


def list_callables(module: ModuleType) -> list[str]:
    """Return the names of the public functions and classes that a module itself defines."""
    return [
        name
        for name, value in vars(module).items()
        if callable(value) and not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    ]


def find_backward(module: ModuleType | None, function: Any) -> Any:
    """Return the backward that stands beside a forward in its module, such as `relu_backward`; None if there is none."""
    name = getattr(function, "__name__", "")
    if not inspect.isfunction(function) or "forward" not in name:
        return None
    backward = getattr(module, name.replace("forward", "backward"), None)
    return backward if inspect.isfunction(backward) and backward is not function else None


def list_forwards(module: ModuleType) -> list[tuple[str, Any]]:
    """Return the functions of a module that have a backward beside them, with their names."""
    functions = [(name, getattr(module, name)) for name in list_callables(module)]
    return [(name, function) for name, function in functions if find_backward(module, function) is not None]


class MethodOfNewObject:
    """A factory of a bound method: it constructs an object of a class and returns the method of this object."""

    def __init__(self, cls: type, name: str) -> None:
        self.cls, self.name = cls, name
        self.__name__ = f"{cls.__name__}.{name}"
        self.__wrapped__ = inspect.getattr_static(cls, name)
        self.__signature__ = inspect.signature(cls)

    def __call__(self, **arguments: Any) -> Any:
        """Construct the object and return its method."""
        return getattr(self.cls(**arguments), self.name)


def bind_method(target: ImportedTarget) -> MethodOfNewObject | None:
    """Return the factory of the method that a target `module:Class.method` names; None if it names something else."""
    owner_name, _, name = (target.name or "").rpartition(".")
    return _make_factory(_read_attribute(target.module, owner_name, target.text), name) if owner_name else None


def _make_factory(owner: Any, name: str) -> MethodOfNewObject | None:
    """Return the factory of a method of a plain class; None for anything else."""
    is_method = isinstance(owner, type) and inspect.isfunction(inspect.getattr_static(owner, name, None))
    is_plain = is_method and classify_target(owner) is TargetKind.FUNCTION
    return MethodOfNewObject(owner, name) if is_plain and isinstance(owner, type) else None


def name_member(text: str, name: str) -> str:
    """Return the target that a name in a module, a file or a cell of a notebook is."""
    is_cell = notebooks.CELL_NAME.fullmatch(text.rpartition(f"{notebooks.SUFFIX}:")[2])
    return f"{text}.{name}" if is_cell else f"{text}:{name}"


def _name_cases(text: str, target: Any) -> list[Case]:
    """Return the cases declared on a target, named by its text and their own names or numbers."""
    cases = get_declared_cases(getattr(target, "__wrapped__", target) if isinstance(target, MethodOfNewObject) else target)
    if isinstance(target, MethodOfNewObject):
        cases = tuple(replace(case, init=case.init or {}) for case in cases)
    file, line = locate_source(target) if cases else (None, None)
    names = [f"{text}[{case.name or i}]" if len(cases) > 1 or case.name else text for i, case in enumerate(cases)]
    return [
        replace(case, name=name, fn=target, target=text, file=file, line=line) for case, name in zip(cases, names, strict=True)
    ]


def split_target(text: str) -> tuple[str, str | None]:
    """Split a target's text into the module or file, and the name in it (None without a name).

    Raises:
        UsageError: if the text has none of the known forms.
    """
    if not text.strip() or (text.startswith((".", ":")) and not text.startswith(("./", "../"))):
        raise UsageError(f"target {text!r}: expected module, module:name, path/file.py or path/file.py:name")
    text = normalise_target(text)
    module_or_file, colon, name = text.rpartition(":")
    if not colon or ("\\" in name or "/" in name):
        return text, None
    if not module_or_file or not name:
        raise UsageError(f"target {text!r}: expected module, module:name, path/file.py or path/file.py:name")
    return module_or_file, name


def normalise_target(text: str) -> str:
    """Return a target's text with the `::` of pytest written as `:` and `.`."""
    return text.replace("::", ":", 1).replace("::", ".")


def is_path(module_or_file: str) -> bool:
    """Whether the first part of a target's text is a path rather than a module's name."""
    return module_or_file.endswith((".py", notebooks.SUFFIX)) or "/" in module_or_file or "\\" in module_or_file


def _require_file(path: Path) -> None:
    if path.is_dir():
        raise TargetNotFoundError(f"{path} is a folder: name a file in it, or its package as a module, as in pkg.layers")
    if not path.is_file():
        folder = path.parent if path.parent.is_dir() else Path()
        known = [file.name for file in folder.iterdir() if file.suffix in (".py", notebooks.SUFFIX)]
        raise TargetNotFoundError(f"no file {path}{_suggest(path.name, known)}")


def _import_from_notebook(text: str, path: Path, name: str) -> ImportedTarget:
    """Execute the cells of a notebook through the one that a target names, or that defines what it names."""
    _require_file(path)
    notebook = notebooks.read_notebook(path)
    named_cell = notebooks.CELL_NAME.fullmatch(name)
    if not named_cell:
        last = _find_definition(notebook, name).number if name else len(notebook.cells)
        module = notebooks.load_cells(notebook, last)
    else:
        cell, name = _find_cell(notebook, int(named_cell[1])), named_cell[2] or ""
        module = notebooks.load_cells(notebook, cell.number)
        if not name:
            module = notebooks.select_names(module, cell)
            name, *others = [*list_callables(module), ""]
            name = "" if others[1:] else name  # A cell with one function or class stands for it.
    return ImportedTarget(text, module, name or None, _read_attribute(module, name, str(path)) if name else None)


def _find_definition(notebook: notebooks.Notebook, name: str) -> notebooks.Cell:
    cell = notebook.find_definition(name)
    if cell is None:
        hint = _suggest(name.partition(".")[0], notebook.names) or f"; a cell is named as in {notebook.path}:cell[1]"
        raise TargetNotFoundError(f"{notebook.path} has no {name!r}{hint}")
    return cell


def _find_cell(notebook: notebooks.Notebook, number: int) -> notebooks.Cell:
    count = len(notebook.cells)
    if not 1 <= number <= count:
        raise TargetNotFoundError(
            f"{notebook.path} has no cell {number}: its {count} code cells are numbered from 1, without empty ones"
        )
    return notebook.cells[number - 1]


def _load_file(path: Path) -> ModuleType:
    _require_file(path)
    path = path.resolve()
    root, parts = path.parent, [path.stem]
    while (root / "__init__.py").exists():
        root, parts = root.parent, [root.name, *parts]
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    name = ".".join(parts)
    loaded = sys.modules.get(name)
    known = next((m for m in (loaded, sys.modules.get(f"_target_{name}")) if getattr(m, "__file__", None) == str(path)), None)
    if known is not None:
        return known
    if len(parts) > 1:
        module = _load_module(name)
        if Path(module.__file__ or "").resolve() != path:
            raise UsageError(f"{path} is module {name}, but that name is taken by {module.__file__}: run them one at a time")
        return module
    name = name if loaded is None and name not in sys.stdlib_module_names else f"_target_{name}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise TargetNotFoundError(f"{path} cannot be imported: expected a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        raise _import_error(str(path), error) from None
    return module


def _load_module(name: str) -> ModuleType:
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(error.name + ".")):
            raise TargetNotFoundError(f"no module {name!r}{_suggest_module(error.name, name)}") from None
        raise _import_error(name, error) from None
    except BaseException as error:
        raise _import_error(name, error) from None


def _import_error(module_or_file: str, error: BaseException) -> TargetError:
    if is_interrupt(error):
        raise error
    advice = ""
    if isinstance(error, ModuleNotFoundError) and error.name:
        command = f"install {error.name.split('.')[0]!r}"
        if error.name in EXTRAS:
            command = f"pip install 'gradcheck[{error.name}]'"
        advice = f": {command} into the environment gradcheck runs in"
    return TargetError(f"importing {module_or_file} raised {summarise_error(error)}{advice}", format_user_frames(error))


def _read_attribute(module: ModuleType, name: str, module_or_file: str) -> Any:
    value: Any = module
    for i, part in enumerate(name.split(".")):
        try:
            value = getattr(value, part)
        except Exception as error:
            if not isinstance(error, AttributeError):
                message = f"reading {module_or_file}:{name} raised {summarise_error(error)}"
                raise TargetError(message, format_user_frames(error)) from None
            owner = ":".join([module_or_file, ".".join(name.split(".")[:i])]).rstrip(":")
            raise TargetNotFoundError(f"{owner} has no {part!r}{_suggest(part, dir(value))}") from None
    return value


def _list_modules(module: ModuleType, on_error: Callable[[TargetError], None] | None) -> list[ModuleType]:
    """Return the module and, for a package, every module below it; each is imported alone, so that an error names it."""
    modules = [module]
    for info in sorted(pkgutil.iter_modules(getattr(module, "__path__", ())), key=lambda m: m.name):
        if info.name == "__main__":
            continue
        try:
            modules += _list_modules(_load_module(f"{module.__name__}.{info.name}"), on_error)
        except TargetError as error:
            if on_error is None:
                raise
            on_error(error)
    return modules


def _suggest_module(name: str, text: str) -> str:
    """Return a hint for a module that does not exist.

    Args:
        name: the part of the text that is no module.
        text: what the user wrote.
    """
    parent, _, last = name.rpartition(".")
    callables = (
        [n for n in dir(sys.modules.get(parent)) if callable(getattr(sys.modules[parent], n, None))]
        if parent in sys.modules
        else []
    )
    if last in callables:
        return f"; did you mean {parent}:{last}{text.removeprefix(name)}?"
    if Path("src", name).is_dir():
        return "; it lies in src: install the project (pip install -e .), or put src on PYTHONPATH"
    if parent:
        paths = getattr(sys.modules.get(parent), "__path__", None)
        known = [m.name for m in pkgutil.iter_modules(paths)] if paths else []
        known += [f"{parent}:{n}" for n in difflib.get_close_matches(last, callables, 1)]
        last = last if paths else f"{parent}:{last}"
    else:
        known = [m.name for m in pkgutil.iter_modules()]
    return _suggest(last, known)


def _suggest(name: str, known: list[str]) -> str:
    """Return a hint with the known names that are similar to a misspelt one; '' without any."""
    near = difflib.get_close_matches(name, [k for k in known if not k.startswith("__")], 3)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def _offer_callables(module: ModuleType, text: str) -> str:
    names = list_callables(module)
    return f"; it defines {', '.join(name_member(text, name) for name in names[:5])}" if names else ""


def _with_article(word: str) -> str:
    return f"{'an' if word[:1].lower() in 'aeiou' else 'a'} {word}"

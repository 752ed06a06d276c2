"""Jupyter notebooks as targets: their code cells are executed in a module, from the first to the one that is needed."""

from __future__ import annotations
import __future__

import ast
import contextlib
import functools
import linecache
import operator
import os
import re
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from gradcheck.errors import TargetError, UsageError
from gradcheck.interrupts import is_interrupt
from gradcheck.tracebacks import format_user_frames, name_cell_file, summarise_error

SUFFIX = ".ipynb"
CELL_NAME = re.compile(r"cell\[(\d+)\](?:\.(.+))?")  # a cell, or a name in it, after the colon of a target
# Tags of a cell that Jupyter's own tools understand: it is left out, or an exception of it is expected.
SKIPPED, MAY_RAISE = "skip-execution", "raises-exception"
PYTHON_CELL_MAGICS = ("capture", "prun", "time")  # The body of such a cell is Python code like that of any other.
# Lines that only IPython understands: magics, shell commands, requests for help, and assignments of a magic or a command.
IPYTHON_LINE = re.compile(r"\s*(?:[%!?]|[\w\s,.\[\]]+=\s*[%!]|.*\?\s*$)")
TIMED = re.compile(r"(\s*(?:[\w\s,.\[\]]+=\s*)?)%time\s+(?=\S)")  # before a statement that is executed as usual
LEFT_OUT = "lines of magics (%) and shell commands (!) are left out, so what they define is missing"
FUTURE_FLAGS: int = functools.reduce(
    operator.or_, (getattr(__future__, name).compiler_flag for name in __future__.all_feature_names)
)
CLASS_PLACES = "__gradcheck_class_places__"  # in a notebook's module: file and line of each class
_loaded: dict[tuple[str, tuple[str, ...]], ModuleType] = {}


@dataclass(frozen=True)
class Cell:
    """A code cell.

    Attributes:
        number: its number among the code cells that are not empty, from 1: what Jupyter shows after "Restart and run all".
        shown: the number that Jupyter shows beside it in the saved notebook; None if it was not executed.
        file: the name of its file for Python.
        source: its text.
        code: its Python code, line by line; a line that only IPython understands is replaced by `pass`.
        bindings: the names that it binds; `Net.loss` for an attribute that it sets, `*` for all names of a module.
        classes: the line of each class.
        tags: its tags.
    """

    number: int
    shown: int | None
    file: str
    source: str
    code: str
    bindings: tuple[str, ...]
    classes: dict[str, int]
    tags: tuple[str, ...]

    @property
    def title(self) -> str:
        """The number of the cell, and the one that Jupyter shows if that is another: 'cell 4, shown as [17]'."""
        return f"cell {self.number}" + (f", shown as [{self.shown}]" if self.shown not in (None, self.number) else "")

    def defines(self, name: str) -> bool:
        """Whether the cell binds a dotted name or what it is an attribute of."""
        return any(name == bound or name.startswith(f"{bound}.") for bound in self.bindings)


@dataclass(frozen=True)
class Notebook:
    """The code cells of a notebook."""

    path: Path
    cells: tuple[Cell, ...]

    @property
    def names(self) -> list[str]:
        """The names that its cells bind, as far as their code shows."""
        return list(dict.fromkeys(name for cell in self.cells for name in cell.bindings if name.isidentifier()))

    def find_definition(self, name: str) -> Cell | None:
        """Return the last cell that defines a dotted name, or else one that imports all names of a module; else None."""
        candidates = (cell for wanted in (name, "*") for cell in reversed(self.cells) if cell.defines(wanted))
        return next(candidates, None)


def read_notebook(path: Path) -> Notebook:
    """Read a notebook; its file is not changed.

    Raises:
        UsageError: if nbformat is not installed, the file holds no notebook, or its code is not Python.
    """
    try:
        import nbformat.reader  # it does not validate what we do not need, such as the outputs
    except ModuleNotFoundError as error:
        raise UsageError(f"{path}: notebooks need {error.name}; pip install 'gradcheck[notebook]'") from None
    try:
        with path.open(encoding="utf-8") as file:
            content: Any = nbformat.convert(nbformat.reader.read(file), 4)
        metadata, cells = content.metadata, [cell for cell in content.cells if cell.cell_type == "code" and cell.source.strip()]
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from None
    except Exception as error:
        got = summarise_error(error, 120) if path.stat().st_size else "an empty file"
        raise UsageError(f"{path} is not a notebook: expected the JSON of nbformat, got {got}") from None
    language = metadata.get("language_info", {}).get("name") or metadata.get("kernelspec", {}).get("language") or "python"
    if str(language).lower() not in ("python", "ipython"):
        raise UsageError(f"{path} is a notebook in {language}: expected one in Python")
    return Notebook(path, tuple(_read_cell(path, number, cell) for number, cell in enumerate(cells, 1)))


def _read_cell(path: Path, number: int, cell: Any) -> Cell:
    code, tags = to_python(cell.source), tuple(cell.metadata.get("tags", ()))
    tree = None if SKIPPED in tags else _parse(code)
    return Cell(
        number=number,
        shown=cell.get("execution_count"),
        file=name_cell_file(str(path.resolve()), number),
        source=cell.source,
        code=code,
        bindings=tuple(dict.fromkeys(_list_bindings(tree))) if tree else (),
        classes={node.name: node.lineno for node in tree.body if isinstance(node, ast.ClassDef)} if tree else {},
        tags=tags,
    )


def to_python(source: str) -> str:
    """Replace the lines of a cell that only IPython understands by `pass`, so that the others keep their numbers.

    A line is such a line if it looks like one and Python cannot parse it: text in a string that looks like one is kept.
    """
    lines = source.split("\n")
    head = next((k for k, line in enumerate(lines) if line.strip()), 0)
    if lines[head].startswith("%%"):
        if lines[head][2:].split()[:1] not in [[name] for name in PYTHON_CELL_MAGICS]:
            return ""
        lines[head] = ""
    while True:
        try:
            _parse_strictly("\n".join(lines))
        except SyntaxError as error:
            place = (error.lineno or 0) - 1
            if 0 <= place < len(lines) and IPYTHON_LINE.match(lines[place]):
                _replace_line(lines, place)
                continue
        except ValueError:
            pass  # such as a null character, which is reported when the cell is executed
        return "\n".join(lines)


def _replace_line(lines: list[str], place: int) -> None:
    """Replace a line that only IPython understands, with the lines that continue it; of `%time x = 1`, keep `x = 1`."""
    line = lines[place]
    timed = TIMED.match(line)
    if timed:
        lines[place] = f"{timed[1]}{line[timed.end() :]}"
        return
    lines[place] = f"{line[: len(line) - len(line.lstrip())]}pass"
    while line.endswith("\\") and place + 1 < len(lines):
        place += 1
        line, lines[place] = lines[place], ""


def _parse_strictly(code: str) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python gives its warnings when the code is executed
        return ast.parse(code)


def _parse(code: str) -> ast.Module | None:
    try:
        return _parse_strictly(code)
    except (SyntaxError, ValueError):
        return None


def _list_bindings(node: ast.AST) -> Iterator[str]:
    """Yield the names that a statement binds in the module, and the attributes that it sets."""
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            yield node.name
            return
        case ast.Lambda() | ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
            return
        case ast.Import() | ast.ImportFrom():
            yield from (alias.asname or alias.name.partition(".")[0] for alias in node.names)
        case ast.Name(ctx=ast.Store()) | ast.Attribute(ctx=ast.Store()):
            yield ast.unparse(node)
    for child in ast.iter_child_nodes(node):
        yield from _list_bindings(child)


def load_cells(notebook: Notebook, last: int) -> ModuleType:
    """Execute the cells of a notebook from the first to number `last` in a fresh module, once in a process.

    As in Jupyter, the folder of the notebook is the working directory meanwhile and the first place to import from.

    Raises:
        TargetError: if a cell raises; the message names the cell and its line.
    """
    cells, folder = notebook.cells[:last], notebook.path.resolve().parent
    key = (str(notebook.path.resolve()), tuple(cell.source for cell in cells))
    if key not in _loaded:
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
        _loaded[key] = _execute_cells(notebook, cells)
    return _loaded[key]


def is_notebook(module: ModuleType | None) -> bool:
    """Whether a module holds the cells of a notebook, so that nothing can be imported from it by name."""
    return CLASS_PLACES in getattr(module, "__dict__", {})


def select_names(module: ModuleType, cell: Cell) -> ModuleType:
    """Return a module of the same name with those names alone that a cell binds."""
    selection = ModuleType(module.__name__)
    vars(selection).update({name: vars(module)[name] for name in cell.bindings if name in vars(module)})
    return selection


def _execute_cells(notebook: Notebook, cells: tuple[Cell, ...]) -> ModuleType:
    name = "_notebook_" + re.sub(r"\W", "_", notebook.path.stem) + f"_{len(cells)}"
    while name in sys.modules:
        name += "_"
    module = sys.modules[name] = ModuleType(name)
    places: dict[str, tuple[str, int]] = {}
    vars(module).update({"display": _display, CLASS_PLACES: places})
    flags = 0
    try:
        with _settings_of_jupyter(notebook.path.parent):
            for cell in cells:
                if SKIPPED not in cell.tags:
                    flags = _execute_cell(cell, notebook, module, flags)
                    places.update({name: (cell.file, line) for name, line in cell.classes.items()})
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _display(*_: Any, **__: Any) -> None:
    """Show nothing, as nobody looks at the outputs; Jupyter has a function of this name."""


@contextlib.contextmanager
def _settings_of_jupyter(folder: Path) -> Iterator[None]:
    """Make the folder of the notebook the current one, and have matplotlib, once imported, draw without windows."""
    backend = os.environ.get("MPLBACKEND")
    os.environ["MPLBACKEND"] = backend or "agg"
    try:
        with contextlib.chdir(folder):
            yield
    finally:
        if backend is None:
            os.environ.pop("MPLBACKEND", None)
        else:
            os.environ["MPLBACKEND"] = backend


def _execute_cell(cell: Cell, notebook: Notebook, module: ModuleType, flags: int) -> int:
    """Execute a cell, and return the flags of `from __future__` that hold in the next one."""
    # A time of None keeps the lines in the cache, although no file has this name.
    linecache.cache[cell.file] = (len(cell.source), None, [f"{line}\n" for line in cell.source.split("\n")], cell.file)
    try:
        code: CodeType = compile(cell.code, cell.file, "exec", flags, dont_inherit=True)
        exec(code, vars(module))
    except BaseException as error:
        if is_interrupt(error):
            raise
        if MAY_RAISE not in cell.tags:
            raise _make_cell_error(cell, notebook, error) from None
        return flags
    return flags | (code.co_flags & FUTURE_FLAGS)


def _make_cell_error(cell: Cell, notebook: Notebook, error: BaseException) -> TargetError:
    line = error.lineno if isinstance(error, SyntaxError) and error.filename == cell.file else _find_line(cell, error)
    place = cell.title + (f", line {line}" if line else "")
    advice = f"tag the cell {SKIPPED!r} to leave it out"
    if isinstance(error, ModuleNotFoundError) and error.name:
        advice = f"install {error.name.partition('.')[0]!r} into the environment gradcheck runs in, or {advice}"
    if isinstance(error, NameError) and any(known.code != known.source for known in notebook.cells[: cell.number]):
        advice = f"{LEFT_OUT}; define it in Python, or {advice}"
    return TargetError(
        f"running {notebook.path} raised {summarise_error(error)}, in {place}; {advice}", format_user_frames(error)
    )


def _find_line(cell: Cell, error: BaseException) -> int | None:
    """Return the line of a cell that raised, directly or in what it calls; None if the cell was not running."""
    traceback, line = error.__traceback__, None
    while traceback is not None:
        line = traceback.tb_lineno if traceback.tb_frame.f_code.co_filename == cell.file else line
        traceback = traceback.tb_next
    return line

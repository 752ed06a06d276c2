"""The examples in README and guide: run each code block of a page, and compare what it prints with what the page shows.

    python reports/guide/page_examples.py PAGE.md ...       # run the pages and report the differences
    python reports/guide/page_examples.py --update PAGE.md  # write the present output into the pages

A page's blocks run in order, in an empty folder of the page:

- a block of `python`, `toml` or `yaml` whose first line is `# name.ext` is written to that file;
- any other block of `python` is executed, in one namespace for the page;
- in a block of `pycon`, what follows `>>>` is executed and its output compared;
- in a block of `ipython`, what follows `In [1]:` is executed by IPython in the same namespace and its output compared;
- in a block of `console`, each line after `$ ` is a command; the lines after it are its output (stdout and stderr), if the page
  shows any. `echo $?` prints the exit code of the command before;
- blocks of other languages (`sh`, `text`, `ini`, ...) are not run.

A line `...` in an output stands for any lines. Times, counts of evaluations and what depends on them are not compared. Other
numbers may differ by 5 %, and numbers below 1e-4, which are errors and bounds, by any amount.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import doctest
import io
import os
import re
import shlex
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from markdown_it import MarkdownIt
from typer.testing import CliRunner

WIDTH = 78  # columns of the terminal: `gradcheck explain` pads a block by one column on each side
_FILE_NAME = re.compile(r"# ([\w./-]+\.(?:py|toml|ya?ml))\n")
_NUMBER = re.compile(r"-?\d+\.\d+(?:e[+-]?\d+)?|-?\d+e[+-]?\d+")
_COLOR = re.compile(r"\x1b\[[\d;]*m")
_VARYING = [
    # A slow machine leaves out the last contracts.
    (re.compile(r"contracts not tried after [\d.]+ s \(--budget allows more\):(?:\s+[\w-]+,)*\s+[\w-]+(?:\s|$)"), ""),
    (re.compile(r"\d+(?:\.\d+)? (?:ms|s|min)\b|\bin \d+\.\d+s\b"), "TIME"),
    (re.compile(r"\d+ evaluations?"), "N evaluations"),
    (re.compile(r"0x[0-9a-f]{6,}"), "ADDRESS"),
    (re.compile(r"(--seed \d+) --mode (?:full|probe)\b"), r"\1"),  # a replay pins the mode if the time may change it
    (re.compile(r"─+|━+|═+|-{4,}|={4,}"), "-"),
]


@dataclass
class Page:
    """The state of a page while its blocks run."""

    folder: Path
    module: ModuleType = field(default_factory=lambda: ModuleType("__main__"))
    exit_code: int = 0

    @property
    def namespace(self) -> dict[str, Any]:
        """What the blocks of the page define."""
        return vars(self.module)


@dataclass(frozen=True)
class Difference:
    """An output that is not what the page shows.

    Attributes:
        line: the line of the page, from 1.
        text: what differs, to print.
    """

    line: int
    text: str


def run_page(path: Path) -> tuple[list[Difference], str]:
    """Run the examples of a page.

    Returns:
        What differs, and the text of the page with the present output.
    """
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines(keepends=True)
    differences, edits = [], []
    with tempfile.TemporaryDirectory() as folder, _ready(page := Page(Path(folder))):
        for token in MarkdownIt().parse(text):
            if token.type != "fence" or token.map is None:
                continue
            first, last = token.map[0] + 1, token.map[1] - 1
            try:
                content = _run_block(token.info.split(" ")[0], token.content, page)
            except Exception:
                differences.append(Difference(first + 1, f"{token.content}\n{traceback.format_exc(limit=-3)}"))
                break
            if is_alike(token.content, content):
                continue
            differences.append(
                Difference(first + 1, "".join(difflib.ndiff(token.content.splitlines(True), content.splitlines(True))))
            )
            edits.append((first, last, content))
    for first, last, content in reversed(edits):
        lines[first:last] = [content]
    return differences, "".join(lines)


@contextlib.contextmanager
def _ready(page: Page) -> Iterator[None]:
    """Make the page the main module and its folder the current one, put that on the import path, and set the width."""
    settings = {"COLUMNS": str(WIDTH), "NO_COLOR": "1", "TERM": "dumb", "PYTHONWARNINGS": "ignore"}
    settings["IPYTHONDIR"] = str(page.folder / ".ipython")
    settings["PYTEST_ADDOPTS"] = "-p no:hypothesispytest -p no:jaxtyping -p no:pytest_cov"  # which take a second to load
    settings["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # for `python` and `gradcheck`
    before, path, modules = dict(os.environ), list(sys.path), set(sys.modules)
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "FORCE_COLOR", "CI", "PYTEST_CURRENT_TEST"):
        os.environ.pop(name, None)
    os.environ.update(settings)
    sys.path.insert(0, str(page.folder))
    main_module, sys.modules["__main__"] = sys.modules["__main__"], page.module
    with contextlib.chdir(page.folder):
        try:
            yield
        finally:
            sys.modules["__main__"] = main_module
            sys.path[:] = path
            os.environ.clear()
            os.environ.update(before)
            for name in set(sys.modules) - modules:  # a module of a page must not be found by the next
                source = getattr(sys.modules[name], "__file__", None) or ""
                if source.startswith(str(page.folder)):
                    del sys.modules[name]


def _run_block(language: str, content: str, page: Page) -> str:
    """Run a block and return it with the present output."""
    if named := _FILE_NAME.match(content):
        path = page.folder / named[1]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
        if path.suffix == ".py":  # a file of the same name may have been imported from another folder before
            sys.modules.pop(path.stem, None)
    elif language == "python":
        exec(compile(content, "<page>", "exec"), page.namespace)
    elif language == "pycon":
        return _run_session(content, page)
    elif language == "ipython":
        return _run_ipython(content, page)
    elif language == "console":
        return _run_commands(content, page)
    return content


def _run_ipython(content: str, page: Page) -> str:
    """Execute the cells of a session of IPython."""
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.utils.capture import capture_output
    from traitlets.config import Config

    shell, shown = InteractiveShell(user_ns=page.namespace, config=Config(HistoryManager={"enabled": False})), []
    cells = re.findall(r"^In \[(\d+)\]: (.*(?:\n   \.\.\.: .*)*)\n((?:(?!In \[).*\n?)*)", content, flags=re.MULTILINE)
    for number, source, wanted in cells:
        with capture_output() as captured:
            shell.run_cell(source.replace("\n   ...: ", "\n"), store_history=True)
        output = _COLOR.sub("", captured.stdout + captured.stderr).strip("\n")
        printed = "".join(f"{line.rstrip()}\n" for line in output.splitlines())
        shown.append(f"In [{number}]: {source}\n" + (_fill_ellipsis(wanted, printed) if printed else ""))
    shell.restore_sys_module_state()  # which it replaced by its own, such as the main module
    return "\n".join(shown)


def _run_session(content: str, page: Page) -> str:
    """Execute the statements of an interactive session."""
    shown = []
    for example in doctest.DocTestParser().get_examples(content):
        source = example.source.rstrip("\n").split("\n")
        shown.append("\n".join([f">>> {source[0]}", *(f"... {line}".rstrip() for line in source[1:])]))
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            try:
                exec(compile(example.source, "<page>", "single"), page.namespace)
            except Exception as error:
                name = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
                print("Traceback (most recent call last):\n    ...", f"\n{name}: {error}", sep="")  # noqa: T201
        if output.getvalue().strip():
            shown.append(_fill_ellipsis(example.want, output.getvalue()).rstrip("\n"))
    return "\n".join(shown) + "\n"


def _run_commands(content: str, page: Page) -> str:
    """Run the commands of a block in a shell."""
    shown = []
    for command, wanted in re.findall(r"^\$ ((?:.*\\\n)*.*)\n((?:(?!\$ ).*\n)*)", content, flags=re.M):
        output = _run_command(command.replace("\\\n", " "), page)
        if not wanted and page.exit_code not in (0, 1):
            raise RuntimeError(f"`{command}` exits with {page.exit_code}:\n{output}")
        shown.append(f"$ {command}\n" + (_fill_ellipsis(wanted, output) if wanted.strip() else ""))
    return "".join(shown)


def _run_command(command: str, page: Page) -> str:
    """Run a command: gradcheck in this process, which has its imports, others in a shell."""
    if command == "echo $?":
        return f"{page.exit_code}\n"
    if command.startswith("gradcheck ") and not set(command) & set("|;&<>"):
        from gradcheck.cli import app

        _forget_modules(page.folder)
        done = CliRunner().invoke(app, shlex.split(command)[1:])
        page.exit_code, output = done.exit_code, done.output
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
    else:
        ran = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
        page.exit_code, output = ran.returncode, ran.stdout + ran.stderr
    output = re.sub(rf"(/private)?{re.escape(str(page.folder))}/?", "", output)
    return "".join(f"{line.rstrip()}\n" for line in output.strip("\n").splitlines())


def _forget_modules(folder: Path) -> None:
    """Forget the modules that earlier commands imported from the folder, as a new process would."""
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(str(folder)):
            del sys.modules[name]
    if tracer := sys.modules.get("torch._dynamo.symbolic_convert"):  # it keeps each module that it has traced, by its name
        tracer._import_module.cache_clear()
        names = vars(sys.modules["torch._dynamo.external_utils"])
        for name in [name for name in names if name.startswith("__import_")]:
            if sys.modules.get(names[name].__name__) is not names[name]:
                del names[name]


def _fill_ellipsis(wanted: str, output: str) -> str:
    """Return the output, or what is wanted if that leaves lines out and the rest is alike."""
    return wanted if is_alike(wanted, output) else output


def is_alike(wanted: str, output: str) -> bool:
    """Whether an output is the one that is wanted, except for what varies between runs and machines."""
    want, got = _normalise(wanted), _normalise(output)
    pattern = ".*".join(re.escape(_NUMBER.sub("#", part)) for part in re.split(r"(?:^|(?<= ))\.\.\.(?= |$)", want))
    if not re.fullmatch(pattern, _NUMBER.sub("#", got), flags=re.S):
        return False
    if "..." in want:
        return True
    return all(_is_near(float(a), float(b)) for a, b in zip(_NUMBER.findall(want), _NUMBER.findall(got), strict=True))


def _normalise(text: str) -> str:
    text = " ".join(text.split())
    for pattern, name in _VARYING:
        text = pattern.sub(name, text)
    return text


def _is_near(a: float, b: float) -> bool:
    return abs(a - b) <= 0.05 * max(abs(a), abs(b)) or max(abs(a), abs(b)) < 1e-4


def main() -> None:
    """Run pages from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--update", action="store_true")
    parser.add_argument("pages", nargs="+", type=Path)
    arguments = parser.parse_args()
    failed = False
    for path in arguments.pages:
        differences, text = run_page(path.resolve())
        for difference in differences:
            print(f"{path}:{difference.line}\n{difference.text}")  # noqa: T201
        if arguments.update:
            path.write_text(text, encoding="utf-8")
        failed |= bool(differences) and not arguments.update
    sys.exit(failed)


if __name__ == "__main__":
    main()

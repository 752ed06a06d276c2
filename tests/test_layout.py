"""The structure of the package: every import of every file goes one way, and a framework is imported only in its own place."""

import ast
import functools
import subprocess
import sys
from pathlib import Path

import pytest

import gradcheck

PACKAGE = Path(gradcheck.__file__).parent
# Each floor may import those before it and none after it.
FLOORS = [
    "untrusted_text", "result_text", "progress", "glossary", "results", "errors", "interrupts", "options", "sweeps", "seeds",
    "tracebacks", "trees", "number_format", "import_hook", "last_place",
    "targets", "exact", "backends", "evidence", "verdict", "compare", "checks", "training_step",
    "run", "strategies", "fuzzing", "report",
    "reference", "compat", "takeover", "harvest",
    "cli",
]  # fmt: skip
# What a floor does not need to know, although it comes before it.
BLIND = {
    "exact": {"targets", "glossary", "results", "options"},
    "evidence": {"targets", "backends"},
    "verdict": {"targets", "backends"},
    "report": {"targets", "backends", "checks", "run"},
}
# Imports that go the other way, each with its reason. They run inside functions, when everything is loaded.
PERMITTED = {
    ("gradcheck", "gradcheck.results"): "the root composes: it knows what results are, for a type",
    ("gradcheck", "gradcheck.report.terminal.run_tables"): "the root composes: it has results printed as the report's table",
}


def module_of(path: Path) -> str:
    parts = ("gradcheck", *path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {module_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}
OF_FLOORS = {module: path for module, path in SOURCES.items() if module not in ("gradcheck", "gradcheck.__main__")}


def imported_names(tree: ast.AST, modules: set[str]) -> set[str]:
    """Every module that is imported anywhere in a file: at its top, inside functions, and under TYPE_CHECKING."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            members = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= {member if member in modules else node.module for member in members}
    return names


@functools.cache
def parse(text: str) -> ast.Module:
    return ast.parse(text)


def import_graph(sources: dict[str, str]) -> dict[str, set[str]]:
    """From each module of the package to those that it imports, without what is permitted."""
    modules = set(sources)
    edges = {module: imported_names(parse(text), modules) & modules - {module} for module, text in sources.items()}
    return {module: {to for to in imports if (module, to) not in PERMITTED} for module, imports in edges.items()}


def circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """The modules that import each other: those left when modules that only import, or are only imported, are removed."""
    left = {module: set(imports) for module, imports in graph.items()}
    while True:
        imported = set().union(*left.values()) if left else set()
        ends = {module for module, imports in left.items() if not imports or module not in imported}
        if not ends:
            break
        left = {module: imports - ends for module, imports in left.items() if module not in ends}
    return [set(left)] if left else []


TEXTS = {module: path.read_text() for module, path in SOURCES.items()}
GRAPH = import_graph(TEXTS)


def floor_of(module: str) -> str:
    return module.split(".")[1]


def test_no_files_import_each_other_in_a_circle():
    assert circles(GRAPH) == []


@pytest.mark.parametrize(
    ("module", "imports"),
    [
        ("gradcheck.results.case", "from gradcheck.report.terminal import run_tables"),
        ("gradcheck.backends.torch.derivatives", "from gradcheck.backends.numpy.bind import bind"),
        ("gradcheck.backends.contract_target", "from gradcheck.backends.torch.contract_target import make_layer"),
        ("gradcheck.backends.flat", "def f():\n    from gradcheck.backends.program import Program"),
    ],
)
def test_a_circle_that_was_opened_is_noticed_when_it_closes_again(module, imports):
    sources = {**TEXTS, module: f"{TEXTS[module]}\n{imports}\n"}
    (circle,) = circles(import_graph(sources))
    assert module in circle


@pytest.mark.parametrize("module", OF_FLOORS)
def test_imports_go_one_way(module):
    floors = {floor_of(name) for name in GRAPH[module] if name != "gradcheck"}
    assert not {floor for floor in floors if FLOORS.index(floor) > FLOORS.index(floor_of(module))}
    assert not floors & BLIND.get(floor_of(module), set())


@pytest.mark.parametrize("module", OF_FLOORS)
def test_frameworks_are_imported_where_they_are_needed_alone(module):
    heads = {name.split(".")[0] for name in imported_names(parse(TEXTS[module]), set(SOURCES))}
    floors = ("backends", "reference", "compat", "harvest", "training_step")  # loaded for targets of theirs alone
    own = floor_of(module) in floors or ".contracts.torch" in module
    assert own or not heads & {"torch", "jax"}


def loaded_after(*statements: str) -> set[str]:
    code = "; ".join(["import sys", *statements, "print(*sys.modules)"])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_gradcheck_loads_neither_a_framework_nor_numpy():
    assert not loaded_after("import gradcheck", "gradcheck.__all__") & {
        "torch",
        "numpy",
        "optree",
        "rich",
        "typer",
        "hypothesis",
    }


def test_the_help_loads_neither_a_framework_nor_numpy():
    help_ = "import gradcheck.cli, contextlib, io; sys.argv = ['gradcheck', 'run', '--help']; out = io.StringIO()"
    run = "\nwith contextlib.redirect_stdout(out), contextlib.suppress(SystemExit): gradcheck.cli.main()\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", f"import sys; {help_}{run}"], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {"torch", "numpy", "optree"}


def test_importing_the_plugin_loads_neither_a_framework_nor_the_core():
    loaded = loaded_after("import pytest_gradcheck.plugin")
    assert not {m for m in loaded if m.startswith(("torch", "numpy", "gradcheck."))}


@pytest.mark.parametrize("arguments", [["."], ["test_it.py"], []])
def test_a_session_of_pytest_without_checks_loads_neither_either(tmp_path, arguments):
    (tmp_path / "test_it.py").write_text("def test_it():\n    pass\n")
    others = [word for name in ("jaxtyping", "hypothesispytest", "cacheprovider") for word in ("-p", f"no:{name}")]
    words = ["--rootdir", str(tmp_path), *others, *arguments]
    loaded = loaded_after("import os, pytest", f"os.chdir({str(tmp_path)!r})", f"pytest.main({words!r})")
    found = {m for m in loaded if m.startswith(("torch", "numpy", "gradcheck."))}
    assert found == {"gradcheck.result_text", "gradcheck.report", "gradcheck.report.formats"}  # the latter name the options


NUMPY_CASE = """
import numpy as np
from gradcheck import case, normal

@case(x=normal(3), gradient=lambda x: 2 * x)
def square(x):
    return np.sum(x**2)
"""


@pytest.mark.parametrize("command", ["list", "run"])
def test_a_numpy_module_with_a_right_gradient_by_hand_is_listed_and_checked_without_another_framework(tmp_path, command):
    (tmp_path / "squares.py").write_text(NUMPY_CASE)
    call = f"app([{command!r}, {str(tmp_path / 'squares.py')!r}], standalone_mode=False)"
    loaded = loaded_after("from gradcheck.cli import app", call)
    assert not loaded & {"torch", "jax", "hypothesis", "loky"}
    assert "numpy" in loaded


def test_every_public_name_can_be_had_and_is_listed_once():
    assert len(gradcheck.__all__) == len(set(gradcheck.__all__))
    assert all(getattr(gradcheck, name) is not None for name in gradcheck.__all__)
    assert {"check", "assert_gradients", "case", "normal", "Verdict", "GradientError"} <= set(gradcheck.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError):
        gradcheck.no_such_name  # noqa: B018 - the access itself is under test

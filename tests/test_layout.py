import ast
import subprocess
import sys
from pathlib import Path

import pytest

import gradcheck

PACKAGE = Path(gradcheck.__file__).parent
# Each may import those before it, none after.
FLOORS = [
    "errors", "listening", "reasons", "diagnoses", "comparison", "results", "options", "seeds", "tracebacks",
    "trees", "targets", "backends", "evidence", "verdict", "checks", "run", "strategies", "report", "reference", "cli",
]  # fmt: skip
BLIND = {
    "evidence": {"targets", "backends"},
    "verdict": {"targets", "backends"},
    "report": {"targets", "backends", "checks", "run"},
}
SOURCES = sorted(p for p in PACKAGE.rglob("*.py") if p.parent != PACKAGE or p.stem not in ("__init__", "__main__"))


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_when_loaded(path: Path) -> set[str]:
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names} if node.module == "gradcheck" else {node.module}
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_one_way(path):
    room = room_of(path)
    rooms = {name.split(".")[1] for name in imports_when_loaded(path) if name.startswith("gradcheck.")}
    assert not {r for r in rooms if FLOORS.index(r) > FLOORS.index(room)}
    assert not rooms & BLIND.get(room, set())


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_frameworks_are_imported_in_backends_and_reference_alone(path):
    heads = {name.split(".")[0] for name in imports_when_loaded(path)}
    own = room_of(path) in ("backends", "reference") or "contracts" in path.parts  # these are loaded for torch targets alone
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


def test_a_session_of_pytest_without_checks_loads_neither_either(tmp_path):
    others = [word for name in ("jaxtyping", "hypothesispytest", "cacheprovider") for word in ("-p", f"no:{name}")]
    words = ["--rootdir", str(tmp_path), *others, str(tmp_path)]
    loaded = loaded_after("import pytest", f"pytest.main({words!r})")
    found = {m for m in loaded if m.startswith(("torch", "numpy", "gradcheck."))}
    assert found == {"gradcheck.report", "gradcheck.report.formats"}  # which name the options


def test_every_public_name_can_be_had_and_is_listed_once():
    assert len(gradcheck.__all__) == len(set(gradcheck.__all__))
    assert all(getattr(gradcheck, name) is not None for name in gradcheck.__all__)
    assert {"check", "assert_gradients", "case", "normal", "Verdict", "GradientError"} <= set(gradcheck.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError):
        gradcheck.no_such_name  # noqa: B018 - the access itself is under test

"""`gradcheck init`: the targets of a package, with what their signatures say, as a configuration that can be read."""

import re
import textwrap

import pytest
from typer.testing import CliRunner

from gradcheck.cli import app
from gradcheck.run.config import read
from gradcheck.run.config.draft import draft_targets, find_package, resolve_package
from gradcheck.run.plan import Request, plan

SOURCE = '''
    import torch
    from gradcheck import case, normal

    class Array:  # in jaxtyping's form
        def __init__(self, dim_str, dtypes=("float32", "float64")):
            self.dim_str, self.dtypes = dim_str, dtypes

    class Told(torch.nn.Module):
        def __init__(self, features: int, bias=True, *, eps: float = 1e-5):
            super().__init__()
        def forward(self, x: Array("batch 3"), where: Array("batch", ("int64",)) = None, power=2):
            return x.sum() ** power

    class Inherits(Told):
        pass

    class Holder(torch.nn.Module):
        """Has no forward of its own."""

    class Swish(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, größe):
            return x
        @staticmethod
        def backward(ctx, g):
            return g, None

    @case(x=normal(3))
    def declared(x):
        return torch.sum(x**2)

    Alias = Told
    Linear = torch.nn.Linear
'''


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "drafted.py").write_text(textwrap.dedent(SOURCE))
    return tmp_path


def init(*words):
    return CliRunner().invoke(app, ["init", *words])


def test_layers_functions_and_declared_cases_are_found_with_what_is_known_of_their_inputs(project):
    found, refused = draft_targets("drafted.py")
    assert refused == []
    told = {"x": "normal(batch, 3)", "where": "integers(batch, low=0, high=2, dtype='int64')"}
    assert {draft.target: (draft.init, draft.inputs) for draft in found} == {
        "drafted.py:Told": ({"features": "TODO"}, told),
        "drafted.py:Inherits": ({"features": "TODO"}, told),
        "drafted.py:Swish": (None, {"x": "TODO", "größe": "TODO"}),
        "drafted.py": (None, None),
    }


@pytest.mark.parametrize("name", ["pyproject.toml", "gradcheck.toml"])
def test_what_is_written_is_read_and_runs_once_it_is_filled_in(project, name):
    before = "[project]\nname = 'x'" if name == "pyproject.toml" else ""
    if before:
        (project / name).write_text(before)
    printed = init("drafted.py")
    assert (project / name).exists() == bool(before)
    done = init("drafted.py", "--write")
    assert done.exit_code == 0
    assert f"4 targets, 3 of them to be filled in; written to {name}" in done.stderr
    text = (project / name).read_text()
    assert text.startswith(before)
    assert text.endswith(printed.stdout)
    assert CliRunner().invoke(app, ["run"]).exit_code == 2
    (project / name).write_text(text.replace('features = "TODO"', "features = 3").replace("TODO", "normal(2)"))
    cases = plan(Request((), entries=read.read_config(project / name).entries))
    assert [case.name for case in cases] == [f"drafted.py:{n}" for n in ("Told", "Inherits", "Swish", "declared")]
    assert cases[0].init == {"features": 3}


def test_nothing_that_is_there_is_overwritten(project):
    (project / "gradcheck.toml").write_text("seed = 3\n")
    done = init("drafted.py", "--write")
    assert (done.exit_code, "gradcheck.toml already has a configuration, which is left unchanged" in done.stderr) == (2, True)
    assert (project / "gradcheck.toml").read_text() == "seed = 3\n"
    assert init("drafted.py").exit_code == 0


def test_a_module_that_cannot_be_imported_is_named_and_the_others_are_drafted(project):
    package = project / "partly_broken"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "broken.py").write_text("import nowhere_to_be_found\n")
    (package / "whole.py").write_text(textwrap.dedent(SOURCE))
    done = init()
    assert "# Skipped: importing partly_broken.broken raised ModuleNotFoundError" in done.stdout
    assert 'target = "partly_broken.whole:Swish"' in done.stdout
    assert done.exit_code == 0


@pytest.mark.parametrize(
    ("folders", "name", "found"),
    [
        (["one"], None, "one"),
        (["one", "tests"], None, "one"),
        (["src/one"], None, "one"),
        (["one", "my_project"], "My-Project", "my_project"),
        (["one", "two"], None, r"cannot infer the package: expected one here, found one, two; run gradcheck init PACKAGE"),
        ([], None, r"cannot infer the package: expected one here, found none"),
    ],
)
def test_the_package_is_that_of_the_project(tmp_path, folders, name, found):
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "__init__.py").touch()
    if name:
        (tmp_path / "pyproject.toml").write_text(f"[project]\nname = '{name}'\n")
    try:
        told = find_package(tmp_path)
    except Exception as error:
        told = str(error)
    assert re.match(found, told)


@pytest.mark.parametrize(
    ("text", "module"),
    [
        ("src", "one"),
        ("src/", "one"),
        ("./src/one", "one"),
        ("src/one/inner", "one.inner"),
        ("src.one", "src.one"),
        ("plain", "plain"),
        ("loose", "loose"),
        ("nowhere", "nowhere"),
        ("src/one/inner/layers.py", "src/one/inner/layers.py"),
    ],
)
def test_a_folder_stands_for_its_package(tmp_path, monkeypatch, text, module):
    monkeypatch.chdir(tmp_path)
    for file in ("src/one/__init__.py", "src/one/inner/__init__.py", "src/one/inner/layers.py", "plain/__init__.py"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    (tmp_path / "loose" / "sub").mkdir(parents=True)
    (tmp_path / "loose" / "layers.py").touch()
    (tmp_path / "loose" / "sub" / "__init__.py").touch()
    assert resolve_package(text, tmp_path) == module


def test_a_folder_of_sources_is_drafted_by_the_name_of_its_package(project, monkeypatch):
    (project / "src" / "held").mkdir(parents=True)
    (project / "src" / "held" / "__init__.py").write_text("")
    (project / "src" / "held" / "layers.py").write_text(textwrap.dedent(SOURCE))
    assert "it lies in src: install the project" in init("src").stderr
    monkeypatch.syspath_prepend(project / "src")
    text = init("src").stdout
    assert 'target = "held.layers:Swish"' in text
    assert "src." not in text


def test_a_package_without_anything_to_check_is_nothing_collected(project):
    (project / "plain.py").write_text("def f(x): return x\n")
    done = init("plain.py")
    assert (done.exit_code, "holds no custom layer, autograd.Function or declared case" in done.stderr) == (5, True)


def test_a_package_that_is_not_there_is_an_error(project):
    assert init("no_such_package").exit_code == 2

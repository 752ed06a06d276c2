"""Targets in Jupyter notebooks: which cells are executed, how, and what is said of those that cannot be."""

import json
import os
import sys
from pathlib import Path

import nbformat
import pytest

from gradcheck.errors import TargetError, TargetNotFoundError, UsageError
from gradcheck.run.plan import Request, explain_empty_plan, plan
from gradcheck.targets import notebook
from gradcheck.targets.case import locate_source
from gradcheck.targets.discover import collect_declared_cases, import_callable, import_target, list_callables
from gradcheck.tracebacks import format_user_frames

LOSS = "def loss(x):\n    return (x * x).sum()\n"
DECLARED = f"import gradcheck\n\n@gradcheck.case(x=gradcheck.normal(3))\n{LOSS}"
METADATA = {"kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"}}


@pytest.fixture
def save(tmp_path, monkeypatch):
    """Write a notebook of code cells to the working directory; no module of it outlives the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])

    def saved(*cells, path="fit.ipynb", metadata=METADATA):
        content = nbformat.v4.new_notebook(metadata=metadata)
        content.cells = [nbformat.v4.new_markdown_cell("# Title")]
        content.cells += [cell if isinstance(cell, dict) else nbformat.v4.new_code_cell(cell) for cell in cells]
        Path(path).parent.mkdir(exist_ok=True)
        nbformat.write(content, path)
        return path

    before = set(sys.modules)
    yield saved
    for name in set(sys.modules) - before:
        del sys.modules[name]


def tagged(source, *tags, count=None):
    return nbformat.v4.new_code_cell(source, metadata={"tags": list(tags)}, execution_count=count)


def fails(error, text, words):
    with pytest.raises(error, match=words) as caught:
        import_target(text)
    return caught.value


# --- which cells are executed


def test_the_cells_through_the_one_that_defines_a_name_are_executed_in_order(save):
    save("seen = ['a']", "seen.append('b')\ndef f():\n    return seen", "seen.append('c')")
    assert import_callable("fit.ipynb:f")() == ["a", "b"]
    assert import_target("fit.ipynb:seen").value == ["a"]
    assert import_target("fit.ipynb").module.seen == ["a", "b", "c"]


def test_of_several_definitions_the_last_counts(save):
    save("def f():\n    return 1", "x = 1", "def f():\n    return 2", "raise ValueError")
    assert import_callable("fit.ipynb:f")() == 2


@pytest.mark.parametrize(
    "definition",
    [
        "f = len",
        "f: object = len",
        "from math import sin as f",
        "import math as f",
        "for f in range(3):\n    pass",
        "with open(__import__('os').devnull) as f:\n    pass",
        "if True:\n    def f(): pass",
        "a, *f = [1, 2]",
        "(f := 3)",
        "class f: pass",
        "try:\n    import missing_module\nexcept ImportError:\n    f = None",
    ],
)
def test_a_definition_of_any_kind_is_found(save, definition):
    save("x = 1", definition, "raise ValueError('executed too far')")
    assert import_target("fit.ipynb:f").module.x == 1


@pytest.mark.parametrize("other", ["def g():\n    f = 1", "[f for f in range(3)]", "g = lambda f: f", "print(f)", "f.x = 1"])
def test_a_name_in_an_inner_scope_or_a_use_is_no_definition(save, other):
    save("class f: pass", other, "raise ValueError('executed too far')", "g = 2")
    assert import_target("fit.ipynb:f").value.__name__ == "f"


def test_a_method_that_a_later_cell_adds_is_found(save):
    save("class Net: pass", "def loss(self, x):\n    return x\nNet.loss = loss", "raise ValueError('executed too far')")
    assert import_target("fit.ipynb:Net.loss").value(None, 3) == 3
    assert not hasattr(import_target("fit.ipynb:Net").value, "loss")


def test_names_of_a_star_import_are_found_unless_a_cell_defines_them(save):
    save("def cos(x):\n    return 7", "from math import *", "raise ValueError('executed too far')")
    assert import_target("fit.ipynb:sin").value(0.0) == 0.0
    assert import_target("fit.ipynb:cos").value(0.0) == 7


def test_a_notebook_is_executed_once_until_it_changes(save):
    save(LOSS)
    first = import_target("fit.ipynb:loss")
    assert import_target("fit.ipynb:loss").value is first.value
    save(f"changed = True\n{LOSS}")
    assert import_target("fit.ipynb:loss").module.changed


def test_notebooks_of_one_name_and_a_file_of_that_name_are_kept_apart(save, tmp_path):
    for folder in ("a", "b"):
        save(f"import fit\nwhere = '{folder}'", path=f"{folder}/fit.ipynb")
    (tmp_path / "a" / "fit.py").write_text("where = 'file'")
    assert [import_target(text).value for text in ("a/fit.ipynb:where", "b/fit.ipynb:where")] == ["a", "b"]
    assert import_target("a/fit.ipynb").module.fit.where == "file"


def test_the_file_of_a_notebook_is_left_as_it_is(save, tmp_path):
    save("%matplotlib inline\nx = 1", LOSS)
    before = (tmp_path / "fit.ipynb").read_bytes()
    import_target("fit.ipynb:loss")
    assert (tmp_path / "fit.ipynb").read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["fit.ipynb"]


def test_an_older_format_is_read(save):
    cell = {"cell_type": "code", "language": "python", "collapsed": False, "input": [LOSS], "metadata": {}, "outputs": []}
    content = {"metadata": {"name": ""}, "nbformat": 3, "nbformat_minor": 0, "worksheets": [{"cells": [cell], "metadata": {}}]}
    Path("old.ipynb").write_text(json.dumps(content))
    assert import_target("old.ipynb:loss").value.__name__ == "loss"


# --- a cell by its number


def test_a_cell_is_counted_as_jupyter_counts_when_it_runs_all(save):
    save("a = 1", "", "%%bash\nls", "b = 2\nc = a", "raise ValueError('executed too far')")
    found = import_target("fit.ipynb:cell[3]")
    assert {name: value for name, value in vars(found.module).items() if not name.startswith("__")} == {"b": 2, "c": 1}
    assert import_target("fit.ipynb:cell[3].c").value == 1


def test_a_cell_with_one_function_stands_for_it(save):
    save("def f(): return 1", "def f(): return 2\nsize = 3", "def f(): return 3\ndef g(): pass")
    assert import_callable("fit.ipynb:cell[2]")() == 2
    assert import_callable("fit.ipynb:cell[1]")() == 1
    assert import_target("fit.ipynb:cell[3]").name is None


def test_a_cell_gives_the_cases_that_it_declares(save):
    save(DECLARED, DECLARED.replace("loss", "other") + "\n\ndef plain(x): pass")
    (case,) = collect_declared_cases(import_target("fit.ipynb:cell[2]"))
    assert case.name == case.target == "fit.ipynb:cell[2].other"
    assert [case.name for case in plan(Request(targets=["fit.ipynb:cell[1]"]))] == ["fit.ipynb:cell[1]"]
    assert [case.name for case in collect_declared_cases(import_target("fit.ipynb"))] == ["fit.ipynb:loss", "fit.ipynb:other"]


def test_a_cell_without_a_case_offers_its_functions_as_they_can_be_pasted(save):
    save("def f(x): pass\ndef g(x): pass")
    request = Request(targets=["fit.ipynb:cell[1]"])
    assert plan(request) == []
    assert "    gradcheck run 'fit.ipynb:cell[1].f'\n" in explain_empty_plan(request, "gradcheck run")
    with pytest.raises(UsageError, match=r"need a single target, fit\.ipynb:cell\[1\]\.name"):
        plan(Request(targets=["fit.ipynb:cell[1]"], inputs=["normal(3)"]))


@pytest.mark.parametrize("number", [0, 3, 99])
def test_a_cell_that_is_not_there_is_reported_with_their_number(save, number):
    save("a = 1", "b = 2")
    words = rf"fit\.ipynb has no cell {number}: its 2 code cells are numbered from 1, without empty ones$"
    fails(TargetNotFoundError, f"fit.ipynb:cell[{number}]", words)


# --- lines that only IPython understands


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("%matplotlib inline\nx = 1", "pass\nx = 1"),
        ("!pip install it\nx = 1", "pass\nx = 1"),
        ("files = !ls\nx = 1", "pass\nx = 1"),
        ("out = %timeit -o f(x)\nx = 1", "pass\nx = 1"),
        ("f?\n?f\nf.g??\nx = 1", "pass\npass\npass\nx = 1"),
        ("if x:\n    %cd ..\n    y = 1", "if x:\n    pass\n    y = 1"),
        ("!ls \\\n  -l \\\n  -a\nx = 1", "pass\n\n\nx = 1"),
        ("!echo 'it is\n%cd (here\nx = 1", "pass\npass\nx = 1"),
        ("%time x = 1\ny = %time f(x)", "x = 1\ny = f(x)"),
        ("%%time\nx = 1\n%who\ny = 2", "\nx = 1\npass\ny = 2"),
        ("\n%%capture out\nx = 1", "\n\nx = 1"),
        ("%%bash\nls", ""),
        ("%%timeit\nx = 1", ""),
        ("%%", ""),
    ],
)
def test_lines_of_ipython_are_left_out_and_the_others_keep_their_numbers(source, code):
    assert notebook.to_python(source) == code


@pytest.mark.parametrize(
    "source",
    [
        "x = 7\\\n% 4",
        "x = (7\n% 4)",
        's = """\n%matplotlib inline\n!ls\n"""',
        "# %matplotlib inline\nx = 1  # what?",
        "s = 'really?'",
        "x = = 1",
        "print 'hello'",
        "",
    ],
)
def test_python_code_stays_as_it_is(source):
    assert notebook.to_python(source) == source


def test_a_name_that_a_left_out_line_would_define_is_explained(save):
    save("files = !ls", "count = len(files)\ndef f(): pass")
    words = r"NameError: name 'files' is not defined, in cell 2, line 1; lines of magics \(%\) and shell commands "
    fails(TargetError, "fit.ipynb:f", words)


# --- as in Jupyter


def test_the_folder_of_the_notebook_is_the_current_one_and_the_first_to_import_from(save, tmp_path):
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "numbers.txt").write_text("3")
    (tmp_path / "code" / "neighbour_of_fit.py").write_text("two = 2")
    (tmp_path / "neighbour_of_fit.py").write_text("two = 'other'")
    save(
        "from neighbour_of_fit import two\nfrom pathlib import Path\nthree = int(Path('numbers.txt').read_text())",
        path="code/fit.ipynb",
    )
    module = import_target("code/fit.ipynb").module
    assert (module.two, module.three) == (2, 3)
    assert Path.cwd() == tmp_path


def test_matplotlib_draws_without_windows_unless_a_backend_is_chosen(save, monkeypatch):
    save("import os\nbackend = os.environ['MPLBACKEND']")
    monkeypatch.delenv("MPLBACKEND", raising=False)
    assert import_target("fit.ipynb:backend").value == "agg"
    assert "MPLBACKEND" not in os.environ
    monkeypatch.setenv("MPLBACKEND", "svg")
    save("import os\n\nbackend = os.environ['MPLBACKEND']")
    assert import_target("fit.ipynb:backend").value == "svg"
    assert os.environ["MPLBACKEND"] == "svg"


def test_display_shows_nothing(save, capsys):
    save("display('a table')\ndisplay(1, metadata={})\nx = 1")
    assert import_target("fit.ipynb:x").value == 1
    assert capsys.readouterr() == ("", "")
    assert list_callables(import_target("fit.ipynb").module) == []


def test_a_future_of_one_cell_holds_in_the_next(save):
    save("from __future__ import annotations", "def f(x: not_there): pass\n")
    assert import_target("fit.ipynb:f").value.__annotations__ == {"x": "not_there"}


def test_a_dataclass_with_text_as_annotations_finds_its_module(save):
    save("import dataclasses\n@dataclasses.dataclass\nclass P:\n    w: 'float' = 2.0")
    assert import_target("fit.ipynb:P").value().w == 2.0


def test_the_tags_of_jupyter_leave_a_cell_out_or_let_it_raise(save):
    save(
        tagged("x = 1\nraise ValueError", "raises-exception"),
        tagged("raise ValueError\nx = 2", "skip-execution"),
        "y = x",
    )
    assert import_target("fit.ipynb:y").value == 1
    assert import_target("fit.ipynb:x").value == 1


# --- places


def test_functions_and_classes_are_located_in_their_cell(save, tmp_path):
    save("x = 1", "\nclass Net:\n    size = 3\n\n\n@staticmethod\ndef f():\n    pass")
    file = f"{tmp_path / 'fit.ipynb'} cell 2"
    assert locate_source(import_target("fit.ipynb:Net").value) == (file, 2)
    assert locate_source(import_target("fit.ipynb:f").value) == (file, 6)


def test_a_class_that_was_made_in_no_cell_has_no_place(save):
    save("import types\nP = types.new_class('P')")
    assert locate_source(import_target("fit.ipynb:P").value) == (None, None)


def test_a_traceback_quotes_the_lines_of_cells(save, tmp_path):
    save("def inner(x):\n    return x / 0", "def f(x):\n    y = 1\n    return inner(y)")
    f = import_target("fit.ipynb:f").value
    with pytest.raises(ZeroDivisionError) as caught:
        f(1)
    frames = format_user_frames(caught.value)
    assert f'File "{tmp_path / "fit.ipynb"} cell 2", line 3, in f\n    return inner(y)' in frames
    assert f'File "{tmp_path / "fit.ipynb"} cell 1", line 2, in inner\n    return x / 0' in frames


# --- what cannot be executed


def test_a_cell_that_raises_is_named_with_its_line(save):
    save("def load(name):\n    raise FileNotFoundError(name)", "x = 1\nload('data.csv')\ny = 2", LOSS)
    words = (
        r"^running fit\.ipynb raised FileNotFoundError: data\.csv, in cell 2, line 2; "
        r"tag the cell 'skip-execution' to leave it out$"
    )
    loaded_before = set(sys.modules)
    error = fails(TargetError, "fit.ipynb:loss", words)
    assert 'cell 2", line 2, in <module>' in error.frames
    assert "    load('data.csv')\n" in error.frames
    assert error.frames.count("File ") == 2
    assert not [name for name in set(sys.modules) - loaded_before if name.startswith("_notebook_fit")]


def test_a_cell_with_a_syntax_error_is_named_with_its_line(save):
    save("x = 1", "y = 2\ndef loss(x:\n    pass", "def after(): pass")
    error = fails(TargetError, "fit.ipynb:after", r"raised SyntaxError: .*, in cell 2, line 2;")
    assert "    def loss(x:\n" in error.frames


def test_the_number_that_jupyter_shows_is_given_if_it_is_another(save):
    save(tagged("x = 1", count=1), tagged("1 / 0", count=17))
    fails(TargetError, "fit.ipynb", r"ZeroDivisionError: division by zero, in cell 2, shown as \[17\], line 1;")


def test_an_exit_is_an_error_and_an_interrupt_is_none(save):
    save("raise SystemExit(3)")
    fails(TargetError, "fit.ipynb", "raised SystemExit: 3, in cell 1, line 1")
    save("raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        import_target("fit.ipynb")


def test_a_package_that_is_missing_is_named(save):
    save("import not_there.linalg")
    fails(TargetError, "fit.ipynb", "install 'not_there' into the environment gradcheck runs in, or tag the cell")


# --- what is not there


def test_a_misspelt_name_is_reported_before_anything_is_executed(save):
    save("raise ValueError('executed')", LOSS)
    fails(TargetNotFoundError, "fit.ipynb:losss", r"^fit\.ipynb has no 'losss'; did you mean loss\?$")
    fails(TargetNotFoundError, "fit.ipynb:cell3", r"^fit\.ipynb has no 'cell3'; a cell is named as in fit\.ipynb:cell\[1\]$")


def test_an_attribute_that_is_not_there_is_reported_with_its_owner(save):
    save("class Net:\n    def forward(self): pass")
    fails(TargetNotFoundError, "fit.ipynb:Net.forwrd", r"fit\.ipynb:Net has no 'forwrd'; did you mean forward\?")


def test_a_notebook_that_is_not_there_is_reported_with_a_similar_one(save):
    save(LOSS)
    fails(TargetNotFoundError, "fits.ipynb:loss", r"no file fits\.ipynb; did you mean fit\.ipynb\?")
    fails(TargetNotFoundError, "fit.py:loss", r"no file fit\.py; did you mean fit\.ipynb\?")


@pytest.mark.parametrize(
    ("content", "got"),
    [("", "an empty file"), ("{'cells'", "NotJSONError"), ("[1, 2]", "AttributeError"), ('{"cells": 3}', ".+"), ("3", ".+")],
)
def test_a_file_that_is_no_notebook_is_reported(save, content, got):
    Path("fit.ipynb").write_text(content)
    fails(UsageError, "fit.ipynb", rf"^fit\.ipynb is not a notebook: expected the JSON of nbformat, got {got}")


@pytest.mark.parametrize(
    "metadata", [{"kernelspec": {"name": "ir", "language": "R", "display_name": "R"}}, {"language_info": {"name": "R"}}]
)
def test_a_notebook_in_another_language_is_reported(save, metadata):
    save("x <- 1", metadata=metadata)
    fails(UsageError, "fit.ipynb:x", r"^fit\.ipynb is a notebook in R: expected one in Python$")


def test_a_notebook_that_does_not_say_its_language_is_python(save):
    save(LOSS, metadata={})
    assert import_target("fit.ipynb:loss").name == "loss"


def test_a_notebook_without_nbformat_says_what_to_install(save, monkeypatch):
    save(LOSS)
    monkeypatch.setitem(sys.modules, "nbformat", None)
    words = r"^fit\.ipynb: notebooks need nbformat; pip install 'gradcheck\[notebook\]'$"
    fails(UsageError, "fit.ipynb:loss", words)

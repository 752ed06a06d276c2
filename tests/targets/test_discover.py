import json
import re
import sys

import pytest

from gradcheck.errors import TargetError, TargetNotFoundError, UsageError
from gradcheck.targets.discover import collect_declared_cases, import_callable, import_target, list_callables
from gradcheck.targets.specs.spec import normal

PLAIN = "def loss(x):\n    return (x * x).sum()\n"
DECLARED = "import gradcheck\n\n@gradcheck.case(x=gradcheck.normal(3))\n" + PLAIN


def names_of(text):
    return [case.name for case in collect_declared_cases(import_target(text))]


# --- modules


def test_a_module_alone_names_no_value(write):
    write({"model.py": PLAIN})
    found = import_target("model")
    assert (found.text, found.module.__name__, found.name, found.value) == ("model", "model", None, None)


def test_a_name_after_the_colon_is_looked_up_in_the_module(write):
    write({"model.py": "class Model:\n    class Head:\n        def forward(self): pass\n"})
    found = import_target("model:Model.Head.forward")
    assert found.value is found.module.Model.Head.forward


def test_a_module_in_the_working_directory_is_found_without_being_on_the_path(write, tmp_path):
    write({"model.py": PLAIN})
    sys.path.remove(str(tmp_path))
    assert import_target("model").module.__file__ == str(tmp_path / "model.py")


@pytest.mark.parametrize("text", [":loss", "model:", ":", "model.py:"])
def test_half_a_target_is_refused_with_the_forms_that_are_known(text):
    with pytest.raises(UsageError, match=f"target '{text}': expected module, module:name, path/file.py or path/file.py:name"):
        import_target(text)


# --- files


def test_a_file_is_found_by_its_path(write, tmp_path):
    write({"code/model.py": PLAIN})
    assert import_target("code/model.py:loss").value.__name__ == "loss"
    assert import_target(str(tmp_path / "code" / "model.py")).module is import_target("code/model.py").module


def test_a_file_may_import_its_neighbours_before_all_others(write):
    write({"code/model.py": "from helper import two\n", "code/helper.py": "two = 2\n", "helper.py": "two = 'other'\n"})
    assert import_target("code/model.py:two").value == 2


def test_a_file_in_a_package_is_a_module_of_the_package(write):
    write({"code/pkg/__init__.py": "", "code/pkg/a/__init__.py": "", "code/pkg/a/model.py": "from ..base import two\n"})
    write({"code/pkg/base.py": "two = 2\n"})
    assert import_target("code/pkg/base.py").module.__name__ == "pkg.base"
    found = import_target("code/pkg/a/model.py:two")
    assert (found.module.__name__, found.value) == ("pkg.a.model", 2)


def test_files_of_one_name_are_kept_apart(write):
    write({"a/model.py": "where = 'a'\n", "b/model.py": "where = 'b'\n", "c/model.py": "where = 'c'\n"})
    first = import_target("a/model.py").module
    assert [import_target(f"{folder}/model.py:where").value for folder in "abca"] == ["a", "b", "c", "a"]
    assert sys.modules["model"] is first


def test_a_file_named_like_a_standard_module_does_not_replace_it(write):
    write({"code/json.py": PLAIN})
    assert import_target("code/json.py:loss").value.__module__ != "json"
    assert sys.modules["json"] is json


def test_a_file_that_could_not_be_imported_is_tried_anew(write, tmp_path):
    write({"code/model.py": "raise ValueError('not yet')\n"})
    with pytest.raises(TargetError, match="not yet"):
        import_target("code/model.py")
    (tmp_path / "code" / "model.py").write_text("ready = 'now it is'\n")
    assert import_target("code/model.py:ready").value == "now it is"


# --- what is not there


def test_a_module_that_is_not_there_is_reported_with_a_similar_one(write):
    write({"my_model.py": PLAIN})
    with pytest.raises(TargetNotFoundError, match="no module 'my_modle'; did you mean my_model"):
        import_target("my_modle:loss")


def test_a_module_that_is_not_in_its_package_is_reported_with_a_similar_one(write):
    write({"pkg/__init__.py": "", "pkg/layers.py": ""})
    with pytest.raises(TargetNotFoundError, match=r"no module 'pkg\.layrs'; did you mean layers\?"):
        import_target("pkg.layrs")


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("torch.nn.functional.gelu", "torch.nn.functional:gelu"),
        ("torch.nn.Linear.forward", "torch.nn:Linear.forward"),
        ("json.decoder.JSONDecodr", "json.decoder:JSONDecoder"),
    ],
)
def test_a_function_behind_a_dot_is_reported_with_its_colon(text, hint):
    with pytest.raises(TargetNotFoundError, match=rf"did you mean {re.escape(hint)}\?"):
        import_target(text)


def test_the_double_colons_of_pytest_are_understood(write):
    write({"model.py": "class Net:\n    def loss(self, x): return x\n"})
    assert import_target("model.py::Net").value.__name__ == "Net"
    assert import_target("model::Net::loss").name == "Net.loss"


def test_a_module_without_a_similar_one_is_reported_alone():
    with pytest.raises(TargetNotFoundError, match=r"no module 'qqqqqqqq_wwww'$"):
        import_target("qqqqqqqq_wwww:loss")


def test_a_name_that_is_not_there_is_reported_with_a_similar_one(write):
    write({"model.py": PLAIN})
    with pytest.raises(TargetNotFoundError, match=r"^model has no 'losss'; did you mean loss\?"):
        import_target("model:losss")


def test_a_name_inside_a_class_is_reported_with_its_owner(write):
    write({"model.py": "class Model:\n    def forward(self): pass\n"})
    with pytest.raises(TargetNotFoundError, match=r"model:Model has no 'forwrd'; did you mean forward\?"):
        import_target("model:Model.forwrd")
    with pytest.raises(TargetNotFoundError, match=r"model\.py:Model\.forward has no 'q'$"):
        import_target("model.py:Model.forward.q")


def test_a_file_that_is_not_there_is_reported_with_a_similar_one(write):
    write({"code/model.py": PLAIN})
    with pytest.raises(TargetNotFoundError, match=r"no file code/modle\.py; did you mean model\.py\?"):
        import_target("code/modle.py:loss")


def test_a_folder_is_no_file(write):
    write({"code/model.py": PLAIN})
    with pytest.raises(TargetNotFoundError, match=r"code is a folder: name a file in it, or its package as a module"):
        import_target("code/")


def test_a_package_in_src_is_said_to_be_installed(write):
    write({"src/pkg_in_src/__init__.py": "", "src/pkg_in_src/layers.py": PLAIN})
    for target in ("pkg_in_src", "pkg_in_src.layers:loss"):
        with pytest.raises(TargetNotFoundError, match=r"no module 'pkg_in_src.*; it lies in src: install the project"):
            import_target(target)


def test_a_windows_path_is_a_path_and_its_drive_no_module():
    with pytest.raises(TargetNotFoundError, match="no file C:"):
        import_target(r"C:\code\model.py")


def test_a_file_that_is_no_python_is_reported(write):
    write({"notes.txt": "hello"})
    with pytest.raises(TargetNotFoundError, match=r"notes\.txt cannot be imported: expected a Python file"):
        import_target("./notes.txt")


# --- what raises


@pytest.fixture(params=["model", "code/model.py"])
def raising(request, write):
    """Write a module by its text; the answer is what finding it by name, or by path, raises."""

    def raised(text, helper=""):
        folder = "code/" if "/" in request.param else ""
        write({f"{folder}model.py": text, f"{folder}helper.py": helper})
        with pytest.raises(TargetError) as caught:
            import_target(f"{request.param}:loss")
        return caught.value

    return raised


def test_what_an_import_raises_is_reported_with_the_users_frames_alone(raising):
    error = raising("import helper\n\nhelper.load()\n", helper="def load():\n    raise ValueError('no data\\nat all')\n")
    assert str(error).endswith("raised ValueError: no data")
    assert 'model.py", line 3' in error.frames
    assert 'helper.py", line 2, in load' in error.frames
    assert error.frames.endswith("ValueError: no data\nat all")
    assert error.frames.count("File ") == 2


def test_an_import_that_exits_is_reported_too(raising):
    assert "raised SystemExit: 3" in str(raising("raise SystemExit(3)\n"))
    skipping = "import pytest\n\npytest.skip('no GPU', allow_module_level=True)\n"
    assert "raised Skipped: no GPU" in str(raising(skipping))


def test_a_missing_extra_is_named(raising):
    error = raising("raise ModuleNotFoundError('no module', name='triton')\n")
    assert "pip install 'gradcheck[triton]' into the environment gradcheck runs in" in str(error)


def test_a_missing_dependency_is_reported_with_what_to_install(raising):
    error = raising("import not_there.linalg\n")
    assert "raised ModuleNotFoundError: No module named 'not_there'" in str(error)
    assert "install 'not_there' into the environment gradcheck runs in" in str(error)
    assert not isinstance(error, TargetNotFoundError)


def test_a_syntax_error_is_reported_with_its_place(raising):
    error = raising("x = 1\ndef loss(x:\n    return x\n")
    assert "raised SyntaxError: " in str(error)
    assert 'model.py", line 2' in error.frames
    assert "    def loss(x:\n" in error.frames
    assert "importlib" not in error.frames


# --- callables


def test_a_callable_is_found_by_its_name(write):
    write({"model.py": PLAIN})
    assert import_callable("model:loss") is import_target("model:loss").value


def test_a_module_alone_is_no_callable_and_offers_its_own(write):
    write({"model.py": "from math import sin\ndef loss(x): pass\nclass Model: pass\ndef _hidden(x): pass\nsize = 3\n"})
    with pytest.raises(UsageError, match=r"expected module:name, got a module alone; it defines model:loss, model:Model$"):
        import_callable("model")
    assert list_callables(import_target("model").module) == ["loss", "Model"]


@pytest.mark.parametrize(("value", "kind"), [("3", "an int"), ("'text'", "a str"), ("[]", "a list")])
def test_a_value_that_cannot_be_called_is_reported_with_its_type(write, value, kind):
    write({"model.py": f"loss = {value}\n"})
    with pytest.raises(UsageError, match=f"'model:loss' is {kind}: expected a function or class that can be called"):
        import_callable("model:loss")


# --- declared cases


def test_a_declared_case_knows_its_name_target_and_place(write, tmp_path):
    write({"model.py": DECLARED})
    (case,) = collect_declared_cases(import_target("model"))
    assert (case.name, case.target, case.kwargs) == ("model:loss", "model:loss", {"x": normal(3)})
    assert (case.file, case.line) == (str(tmp_path / "model.py"), 3)
    assert case.fn is import_target("model:loss").value
    assert collect_declared_cases(import_target("model:loss")) == [case]


def test_cases_of_a_file_are_named_by_its_path(write):
    write({"code/model.py": DECLARED})
    assert names_of("code/model.py") == names_of("code/model.py:loss") == ["code/model.py:loss"]


def test_several_cases_of_a_target_are_distinguished_by_name_or_number(write):
    write({"model.py": "import gradcheck\n@gradcheck.case(3.0)\n@gradcheck.case(2.0, name='two')\ndef loss(x): return x\n"})
    assert names_of("model") == ["model:loss[two]", "model:loss[1]"]


def test_a_single_case_shows_the_name_it_has(write):
    write({"model.py": "import gradcheck\n@gradcheck.case(2.0, name='two')\ndef loss(x): return x\n"})
    assert names_of("model") == ["model:loss[two]"]


def test_classes_declare_cases_too(write):
    write({"model.py": "import gradcheck\n@gradcheck.case(2.0)\nclass Model:\n    pass\nclass Derived(Model):\n    pass\n"})
    assert names_of("model") == ["model:Model"]


def test_cases_come_in_the_order_of_the_file_and_without_those_imported(write):
    zeta, alpha = DECLARED.replace("loss", "zeta"), DECLARED.replace("loss", "alpha")
    write({"other.py": DECLARED, "model.py": f"from other import loss as imported\n{zeta}{alpha}"})
    assert names_of("model") == ["model:zeta", "model:alpha"]


@pytest.mark.parametrize("target", ["model", "model:loss", "model.py", "model:size"])
def test_what_declares_nothing_has_no_cases(write, target):
    write({"model.py": PLAIN + "size = 3\n"})
    assert collect_declared_cases(import_target(target)) == []


def test_a_package_has_the_cases_of_all_its_modules_but_main(write):
    write(
        {
            "pkg/__init__.py": DECLARED,
            "pkg/b.py": DECLARED,
            "pkg/a/__init__.py": "",
            "pkg/a/deep.py": DECLARED,
            "pkg/__main__.py": "raise SystemExit('the program ran')\n",
        }
    )
    assert names_of("pkg") == ["pkg:loss", "pkg.a.deep:loss", "pkg.b:loss"]


def test_a_module_of_a_package_that_raises_is_reported_with_its_name(write):
    write({"pkg/__init__.py": "", "pkg/broken.py": "raise RuntimeError('too early')\n"})
    with pytest.raises(TargetError, match=r"importing pkg\.broken raised RuntimeError: too early"):
        names_of("pkg")


def test_methods_declare_cases_too(write):
    declared = "@gradcheck.case(2.0)\n    def {}"
    body = (
        f"    @staticmethod\n    {declared.format('square(x): return x')}\n    {declared.format('scale(self, x): return x')}\n"
    )
    write({"model.py": f"import gradcheck\nclass Model:\n{body}class Derived(Model):\n    pass\n"})
    assert names_of("model") == ["model:Model.square", "model:Model.scale"]
    square, scale = collect_declared_cases(import_target("model"))
    assert square.fn(3.0) == 3.0
    assert (scale.init, scale.fn()(3.0)) == ({}, 3.0)  # a factory that makes the object

import importlib
import sys

import pytest

from gradcheck.import_hook import ImportHook


@pytest.fixture
def hook(write):
    write({"late/__init__.py": "import late.checker", "late/checker.py": "def check():\n    return 'late'\n"})
    notified = []
    hook = ImportHook(["late.checker", "missing_checker"], lambda module: notified.append((module.__name__, module.check())))
    hook.install()
    yield notified
    hook.remove()
    assert hook not in sys.meta_path


def test_a_module_is_announced_after_it_was_imported(hook):
    module = importlib.import_module("late")
    assert hook == [("late.checker", "late")]
    loader = sys.modules["late.checker"].__spec__.loader
    assert type(loader) is type(module.__spec__.loader)
    assert sys.modules["late.checker"].__loader__ is loader


def test_a_module_that_is_missing_is_missing(hook):
    with pytest.raises(ModuleNotFoundError, match="No module named 'missing_checker'"):
        importlib.import_module("missing_checker")
    assert hook == []


def test_a_module_that_raises_is_not_announced(hook, tmp_path):
    (tmp_path / "late/checker.py").write_text("raise ImportError('needs a GPU')\n")
    with pytest.raises(ImportError, match="needs a GPU"):
        importlib.import_module("late")
    assert hook == []


def test_a_module_is_announced_again_when_it_is_reloaded(hook):
    importlib.import_module("late")
    importlib.reload(sys.modules["late.checker"])
    assert len(hook) == 2


def test_a_module_that_is_imported_already_is_announced_at_once(write):
    write({"early_package.py": "VALUE = 3", "never_package.py": ""})
    early, before = importlib.import_module("early_package"), list(sys.meta_path)
    notified = []
    hook = ImportHook(["early_package", "never_package"], notified.append)
    hook.install()
    assert notified == [early]
    hook.remove()
    assert sys.meta_path == before
    importlib.import_module("never_package")
    assert notified == [early]

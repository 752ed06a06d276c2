import importlib
import sys
from importlib.machinery import SourceFileLoader

from gradcheck.harvest.imports import LoadedPackages


def test_an_action_runs_once_when_the_program_has_imported_a_package(write):
    write({"late_package/__init__.py": "VALUE = 3"})
    values = []
    before = list(sys.meta_path)
    packages = LoadedPackages({"late_package": lambda: values.append(sys.modules["late_package"].VALUE), "sys": values.clear})
    packages.install()
    assert values == []
    module = importlib.import_module("late_package")
    assert type(module.__spec__.loader) is type(module.__loader__) is SourceFileLoader
    assert "exec_module" not in vars(module.__spec__.loader)
    importlib.reload(module)
    assert values == [3]
    packages.uninstall()
    assert sys.meta_path == before


def test_what_was_not_imported_is_no_longer_waited_for(write):
    write({"never_package.py": ""})
    values = []
    packages = LoadedPackages({"never_package": lambda: values.append(1)})
    packages.install()
    packages.uninstall()
    importlib.import_module("never_package")
    assert values == []

import types
from functools import partial

from gradcheck.takeover import call_place


def call_from(file, module="suite", inner=None):
    """A function of another file that calls one."""
    namespace = {"__name__": module}
    exec(compile("def call(inner):\n    return inner()\n", file, "exec"), namespace)
    return partial(namespace["call"], inner)


def find(test=""):
    return partial(call_place.find_place, "lib.checkers", test)


def test_the_innermost_line_of_the_suite_outside_the_checkers_package():
    outer = call_from("/suite/test_it.py", inner=call_from("/suite/lib/wrap.py", "lib.wrap", find()))
    assert outer()[:2] == ("/suite/test_it.py", 2)


def test_a_helper_of_the_suite_comes_before_the_test():
    outer = call_from(
        "/suite/tests/test_it.py", inner=call_from("/suite/tests/helper.py", inner=find("tests/test_it.py::test"))
    )
    assert outer().file == "/suite/tests/helper.py"


def test_a_test_that_is_installed_with_the_package_is_found_by_its_id():
    site = types.__file__.rpartition("/")[0] + "/site-packages"
    outer = call_from(f"{site}/lib/tests/test_it.py", "lib.tests.test_it", inner=find("lib/tests/test_it.py::test_it[2]"))
    assert outer().file == f"{site}/lib/tests/test_it.py"


def test_the_id_of_the_running_test(monkeypatch):
    monkeypatch.setenv("PYTEST_CURRENT_TEST", "tests/test_it.py::test_it[a b] (setup)")
    assert call_place.read_current_test() == "tests/test_it.py::test_it[a b]"
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    assert call_place.read_current_test() == ""

import sys

from incumbent_adapter import CHECK_DERIVATIVE, CHECKERS

from gradcheck.compat.checker import Checker
from gradcheck.takeover.interception import Interception, list_checkers


def make_checker(module, attribute):
    return Checker(f"{module}.{attribute}", module, attribute, None, None, None)


def test_checkers_are_listed_without_importing_them():
    names = [checker.name for checker in list_checkers()]
    assert len(names) == len(set(names))
    assert all(isinstance(checker, Checker) for checker in list_checkers())


def test_the_state_of_each_checker(monkeypatch):
    monkeypatch.delitem(sys.modules, "incumbent", raising=False)
    missing = make_checker("no_such_package.check", "check")
    renamed, builtin = make_checker("incumbent", "renamed"), make_checker("math", "sqrt")
    interception = Interception((*CHECKERS, missing, renamed, builtin), lambda *_: "ours")
    interception.start()
    assert interception.describe() == {
        "incumbent.check_derivative": "not imported",
        "incumbent.check_twice": "not imported",
        "incumbent.norm_of_errors": "not imported",
        "no_such_package.check.check": "not installed",
        "incumbent.renamed": "not imported",
        "math.sqrt": "not intercepted: math.sqrt is no Python function",
    }
    from incumbent import check_derivative  # imported while the takeover runs

    assert check_derivative() == "ours"
    states = interception.describe()
    interception.stop()
    assert states["incumbent.check_derivative"] == "intercepted"
    assert states["incumbent.renamed"] == "not intercepted: incumbent has no renamed"
    assert check_derivative.__closure__[0].cell_contents.__code__.co_varnames[:3] == ("fn", "derivative", "x")


def test_a_module_that_is_imported_twice_is_intercepted_twice(monkeypatch):
    interception = Interception((CHECK_DERIVATIVE,), lambda *_: "ours")
    interception.start()
    try:
        monkeypatch.delitem(sys.modules, "incumbent", raising=False)
        from incumbent import check_derivative as first

        monkeypatch.delitem(sys.modules, "incumbent")
        from incumbent import check_derivative as second

        assert first is not second
        assert (first(), second()) == ("ours", "ours")
    finally:
        interception.stop()

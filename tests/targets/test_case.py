import dataclasses
import functools
import gc
import weakref
from pathlib import Path

import numpy as np
import pytest

from gradcheck.errors import UsageError
from gradcheck.targets.case import Case, case, collect_claims, get_declared_cases, locate_source
from gradcheck.targets.specs.spec import normal


def square(x):
    return x * x


class Base:
    def __call__(self, x):
        return x


def fresh():
    return lambda x: x


# --- declaring


def test_the_target_is_returned_as_it_is():
    target = fresh()
    assert case(x=normal(3))(target) is target
    assert target(2) == 2


def test_a_declaration_holds_what_it_was_given():
    target = fresh()
    case(1, inputs={"name": 2}, x=normal(3), gradient=square, wrt="x", framework="numpy", options={"trials": 3})(target)
    (declared,) = get_declared_cases(target)
    assert declared == Case(
        name="",
        fn=target,
        args=(1,),
        kwargs={"name": 2, "x": normal(3)},
        claims={"gradient": square},
        wrt=("x",),
        framework="numpy",
        options={"trials": 3},
    )


def test_several_names_to_differentiate_stay_as_they_are():
    assert get_declared_cases(case(wrt=("x", "w"))(fresh()))[0].wrt == ("x", "w")
    assert get_declared_cases(case()(fresh()))[0].wrt is None


def test_declarations_stack_from_the_function_upwards():
    stacked = case(name="above")(case(name="below")(fresh()))
    assert [c.name for c in get_declared_cases(stacked)] == ["below", "above"]


def test_a_class_does_not_inherit_declarations_nor_lend_its_own():
    derived = type("Derived", (case(name="base")(type("Base", (Base,), {})),), {})
    assert get_declared_cases(derived) == ()
    case(name="derived")(derived)
    assert [c.name for c in get_declared_cases(derived)] == ["derived"]
    assert [c.name for c in get_declared_cases(derived.__base__)] == ["base"]


@pytest.mark.parametrize("target", [square, Base, Base(), len, np.sin, 3, None])
def test_what_declares_nothing_has_no_cases(target):
    assert get_declared_cases(target) == ()


def test_a_case_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Case("name", square).name = "other"


def test_a_case_that_must_fail_says_why():
    declared = get_declared_cases(case(expect="fail", because="the sign is flipped")(fresh()))[0]
    assert (declared.expect, declared.because) == ("fail", "the sign is flipped")


# --- messages


def test_an_unknown_expectation_is_refused_before_the_target_is_seen():
    with pytest.raises(UsageError, match="expect='wrong': expected one of 'pass', 'fail', 'straight-through'"):
        case(expect="wrong")


def test_a_case_that_must_fail_needs_a_reason():
    with pytest.raises(UsageError, match=r"expect='fail' needs because='...': say why"):
        case(expect="fail")


def test_an_unknown_option_is_reported_with_a_similar_one():
    with pytest.raises(UsageError, match=r"unknown option trails=3; did you mean trials=\?"):
        case(options={"trails": 3})


def test_a_wrong_option_is_refused_where_it_is_declared():
    with pytest.raises(UsageError, match=r"rtol=2\.0: expected a number between 0 and 1"):
        case(options={"rtol": 2.0})


@pytest.mark.parametrize("kind", ["gradient", "jacobian", "vjp", "jvp"])
def test_a_derivative_that_cannot_be_called_is_refused(kind):
    message = rf"{kind}=\[1.0\]: expected a function that returns the derivative, (or .*, )?got list"
    with pytest.raises(UsageError, match=message):
        case(**{kind: [1.0]})(fresh())


def test_derivatives_that_were_not_given_are_no_claims():
    assert collect_claims(gradient=None, vjp=square, jvp=None) == {"vjp": square}


# --- sources


@pytest.mark.parametrize(
    ("target", "first_line"),
    [
        (square, "def square(x):"),
        (Base, "class Base:"),
        (Base(), "class Base:"),
        (Base().__call__, "    def __call__(self, x):"),
    ],
)
def test_the_source_is_where_the_target_is_defined(target, first_line):
    file, line = locate_source(target)
    assert file == __file__
    assert Path(file).read_text().splitlines()[line - 1] == first_line


def test_the_source_of_a_wrapped_function_is_that_of_the_function():
    wrapped = functools.wraps(square)(lambda *args: square(*args))
    assert locate_source(wrapped) == locate_source(square)


@pytest.mark.parametrize("target", [len, np.sin, eval("lambda x: x")])
def test_a_source_that_python_does_not_know_is_none(target):
    assert locate_source(target) == (None, None)


def test_equal_functions_of_two_files_are_told_apart(tmp_path):
    found = []
    for name in ("first.py", "second.py"):
        (tmp_path / name).write_text("def f(x):\n    return x\n")
        namespace = {}
        exec(compile((tmp_path / name).read_text(), str(tmp_path / name), "exec"), namespace)
        found.append(locate_source(namespace["f"]))
    assert found == [(str(tmp_path / "first.py"), 1), (str(tmp_path / "second.py"), 1)]


def test_what_was_located_is_not_kept_alive():
    def make():
        held = type("Held", (), {})()

        class Local:
            value = held

        return weakref.ref(held), (lambda x: (x, held)), Local

    held, function, cls = make()
    assert locate_source(function)[0] == locate_source(cls)[0] == __file__
    del function, cls
    gc.collect()
    assert held() is None

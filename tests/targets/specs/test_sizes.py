import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradcheck.errors import SpecError
from gradcheck.targets.specs.sizes import Sizes, evaluate_size, is_size

laws = settings(deadline=None, derandomize=True)
NAMED = {"n": 3, "m": 5}


def expressions():
    atoms = st.sampled_from(["n", "m"]) | st.integers(0, 9).map(str)
    signs = st.sampled_from(["+", "-", "*", "//"])
    return st.recursive(atoms, lambda e: st.tuples(e, signs, e).map(lambda parts: f"({' '.join(parts)})"))


@pytest.mark.parametrize("text", ["3", "batch", "n + 1", "2*n", "n-1", "(n + 1) * m // 2"])
def test_names_integers_and_their_sums_and_products_are_sizes(text):
    assert is_size(text)


@pytest.mark.parametrize(
    "text", ["", "n +", "1.5", "True", "None", "-n", "n ** 2", "n / 2", "f(n)", "n.m", "'n'", "n if m else 2"]
)
def test_anything_else_is_no_size(text):
    assert not is_size(text)
    with pytest.raises(SpecError, match=r"expected an integer, a name, or these joined by \+ - \* //") as raised:
        evaluate_size(text, NAMED.__getitem__)
    assert repr(text) in str(raised.value)


@laws
@given(expressions())
def test_a_size_is_worth_what_python_makes_of_it(text):
    try:
        expected = eval(text, dict(NAMED))
    except ZeroDivisionError:
        expected = -1
    if expected < 0:
        with pytest.raises(SpecError):
            evaluate_size(text, NAMED.__getitem__)
    else:
        assert evaluate_size(text, NAMED.__getitem__) == expected


def test_a_negative_size_is_refused_with_its_value_and_the_way_out():
    with pytest.raises(SpecError, match=r"'n - 5' is -2: expected at least 0.*--dim"):
        evaluate_size("n - 5", NAMED.__getitem__)


@laws
@given(low=st.integers(0, 50), span=st.integers(0, 50), seed=st.integers(0, 2**32))
def test_a_named_size_lies_in_the_users_range(low, span, seed):
    assert low <= Sizes({"n": (low, low + span)}, seed)["n"] <= low + span


def test_a_size_without_a_range_lies_from_two_to_five():
    assert {Sizes({}, seed)["n"] for seed in range(60)} == {2, 3, 4, 5}


@laws
@given(names=st.lists(st.sampled_from("abcdef"), min_size=1), seed=st.integers(0, 100))
def test_a_size_depends_on_its_name_alone_not_on_when_it_is_asked_for(names, seed):
    asked = Sizes({}, seed, "case", 0)
    assert all(asked[name] == Sizes({}, seed, "case", 0)[name] for name in names)


def test_a_size_asked_for_twice_is_the_same():
    sizes = Sizes({"n": (0, 10**9)}, 0)
    assert sizes["n"] == sizes["n"]


def test_cases_and_trials_draw_sizes_of_their_own():
    wide = {"n": (0, 10**9)}
    assert len({Sizes(wide, 0, case, trial)["n"] for case in ("a", "b") for trial in range(3)}) == 6

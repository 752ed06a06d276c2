import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradcheck.errors import SpecError
from gradcheck.targets.specs.parse import parse_spec
from gradcheck.targets.specs.spec import (
    CONSTRUCTORS,
    DTYPES,
    LAYOUTS,
    array,
    integers,
    normal,
    sparse,
    spd,
    triangular,
    uniform,
)

laws = settings(deadline=None, derandomize=True)
shapes = st.lists(st.integers(1, 9) | st.sampled_from(["batch", "n + 1", "2 * n // m"]), min_size=1, max_size=3)
dtypes = st.none() | st.sampled_from(DTYPES)
layouts = st.sampled_from(LAYOUTS)
WORDS = ["normal", "sparse", "x", "dtype", "low", "3", "-1", "1.5", "'a'", "é", *"()()[]{},,:=+-*.", "//", "**", "\n"]
numbers = st.integers(-99, 99) | st.floats(-1e9, 1e9)


def specs():
    plain = st.sampled_from(["normal", "positive", "one_hot", "simplex", "spd", "orthogonal", "ones", "zeros", "eye"])
    low, span, width = st.integers(-99, 99), st.integers(1, 9), st.floats(0.1, 9)
    return st.one_of(
        st.builds(lambda kind, *a, **k: CONSTRUCTORS[kind](*a, **k), plain, shapes, dtype=dtypes, layout=layouts),
        st.builds(lambda low, span, *a, **k: integers(*a, low=low, high=low + span, **k), low, span, shapes, dtype=dtypes),
        st.builds(lambda low, width, *a, **k: uniform(*a, low=low, high=low + width, **k), low, width, shapes, layout=layouts),
        st.builds(triangular, shapes, upper=st.booleans(), dtype=dtypes),
        st.builds(sparse, shapes, density=st.floats(0, 1), layout=layouts),
        st.builds(array, numbers, dtype=dtypes),
    )


def refusal(text):
    try:
        parse_spec(text)
    except SpecError as error:
        return str(error)
    return None


def message(text):
    return refusal(text) or pytest.fail(f"{text} was read")


def pointed_at(text):
    shown, caret = message(text).splitlines()[-2:]
    return shown[caret.index("^") :]


# --- what can be read


@laws
@given(specs())
def test_the_text_of_a_spec_parses_to_the_spec(spec):
    assert parse_spec(str(spec)) == spec


@laws
@given(st.none() | st.booleans() | numbers | st.floats(0, 1).map(lambda x: complex(0, x)) | st.text() | st.binary())
def test_a_python_literal_stands_for_itself(value):
    assert parse_spec(repr(value)) == value


@laws
@given(st.lists(st.integers() | st.text() | st.booleans()))
def test_a_list_without_decimals_stays_a_list(values):
    assert parse_spec(repr(values)) == values
    assert parse_spec(repr(tuple(values))) == tuple(values)


@pytest.mark.parametrize("text", ["[1.0, 2.0]", "[1, 2.0]", "[-1.0, 2]", "[2j, 1]"])
def test_a_list_of_numbers_with_a_decimal_among_them_is_an_array(text):
    assert parse_spec(text) == array(eval(text))


@pytest.mark.parametrize("text", ["[True, 1.0]", "['a', 1.0]", "[None, 1.0]"])
def test_a_list_that_holds_more_than_numbers_stays_a_list(text):
    assert parse_spec(text) == eval(text)


def test_trees_hold_specs_and_values():
    read = parse_spec("{'layers': [normal(3), (spd(2), 0.5)], 1: 'relu'}")
    assert read == {"layers": [normal(3), (spd(2), 0.5)], 1: "relu"}


def test_names_need_no_quotes():
    assert parse_spec("normal(batch, n + 1, dtype=float32, layout=strided)") == normal(
        "batch", "n + 1", dtype="float32", layout="strided"
    )


def test_sizes_may_be_quoted_or_in_a_tuple():
    assert parse_spec("normal('batch', 3)") == parse_spec("normal(('batch', 3))") == normal("batch", 3)


def test_white_space_around_a_spec_is_passed_over():
    assert parse_spec("  normal( 3 )\n") == normal(3)


# --- what cannot


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("nrmal(3)", "nrmal(3)"),
        ("   nrmal(3)", "nrmal(3)"),
        ("[normal(3), foo(2)]", "foo(2)]"),
        ("{'w': normal(3), 'b': [nomal(2)]}", "nomal(2)]}"),
        ("[1, batch]", "batch]"),
        ("normal(3, b / 2)", "b / 2)"),
        ("normal(3, dtype=f(2))", "f(2))"),
        ("[normal(-1)]", "normal(-1)]"),
        ("(1, normal(2, low=3))", "normal(2, low=3))"),
        ("[3, normal(**x)]", "**x)]"),
        ("[normal(*x)]", "*x)]"),
        ("{'a': 1, normal(3): 2}", "normal(3): 2}"),
        ("[0, {**x}]", "{**x}]"),
        ("[1, x + y]", "x + y]"),
        ("[normal(3)", "[normal(3)"),
        ("normal(3, 4]", "]"),
        ("normal(3) normal(4)", "normal(4)"),
    ],
)
def test_the_caret_stands_under_what_cannot_be_read(text, place):
    assert pointed_at(text) == place


@laws
@given(st.lists(st.sampled_from(WORDS)).map(" ".join))
def test_whatever_is_typed_is_read_or_refused_with_a_caret(text):
    refused = refusal(text)
    assert refused is None or refused.rstrip().endswith("^") or (not text.strip() and refused.startswith("empty: expected"))


def test_an_unknown_spec_names_a_similar_one():
    assert "unknown spec 'unifrm'; did you mean uniform(...)?" in message("unifrm(0, 1)")


def test_an_unknown_spec_without_a_similar_one_lists_all():
    assert all(name in message("gadget(3)") for name in ["'gadget'", *CONSTRUCTORS])
    assert "'my.gadget': known: normal, uniform" in message("my.gadget(3)")


def test_a_bare_word_is_explained_by_parentheses():
    assert "'normal': a spec needs parentheses, as in normal(3)" in message("normal")
    assert "'batch': a spec needs parentheses" in message("batch")


@pytest.mark.parametrize("text", ["{1, 2}", "not 1", "[x for x in y]", "x.y", "f'a'", "1 if x else 2", "-'a'", "lambda: 1"])
def test_other_python_is_refused_with_what_is_expected(text):
    assert "expected a spec such as normal(4, 3), a number, a string, a list or a dict" in message(text)


def test_a_syntax_error_says_what_python_says():
    assert "cannot be read: '(' was never closed" in message("normal(3")


def test_text_that_python_cannot_encode_is_refused():
    assert "cannot be read: 'utf-8' codec can't encode" in message("'\ud800'")


def test_what_a_constructor_refuses_is_shown_with_its_own_message():
    assert "uniform: low=1, high=0: expected low < high" in message("uniform(1, 0, 3)")
    assert "unexpected keyword argument 'low'" in message("normal(3, low=0)")


def test_arguments_are_numbers_names_or_literal_lists():
    assert "expected a number, a name or a literal list" in message("normal(normal(3))")


def test_double_stars_and_odd_keys_are_refused():
    assert "** cannot be used here" in message("normal(**{'low': 1})")
    assert "expected a string or number as key" in message("{normal(3): 1}")


def test_code_is_never_run():
    assert "'__import__': known: normal" in message("__import__('os')")

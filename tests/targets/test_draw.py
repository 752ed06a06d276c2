import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradcheck.errors import SpecError
from gradcheck.targets.draw import draw_inputs, has_specs
from gradcheck.targets.signature import Inputs
from gradcheck.targets.specs.spec import normal, uniform, zeros

laws = settings(deadline=None, derandomize=True)
names = st.sampled_from(["x", "w", "b", "mask", "targets"])


def draw(inputs, *, case="f", trial=0, seed=0, dims=None, dtype="float64", convert=lambda values: values):
    return draw_inputs(inputs, case=case, trial=trial, seed=seed, dims=dims or {}, dtype=dtype, convert=convert)


def positional(**values):
    return Inputs(tuple(values.values()), {}, tuple(values))


def one(**how):
    return draw(positional(x=normal(5)), **how).args[0]


# --- what is drawn and what is left


def test_specs_are_drawn_and_all_else_stays_the_very_same():
    given_array, text = np.ones(3), "mean"
    drawn = draw(Inputs((normal(2), given_array), {"mode": text, "scale": uniform(0, 1, 2)}, ("x", "w")))
    assert drawn.args[0].shape == drawn.kwargs["scale"].shape == (2,)
    assert drawn.args[1] is given_array
    assert drawn.kwargs["mode"] is text


def test_specs_are_found_at_any_depth_of_a_tree():
    drawn = draw(positional(params={"w": normal(2, 3), "rest": [zeros(1), (0.5, None)]})).args[0]
    assert drawn["w"].shape == (2, 3)
    assert drawn["rest"] == [0, (0.5, None)]


def test_labels_and_names_are_kept():
    drawn = draw(Inputs((normal(1), 2), {"k": 3}, ("x", "n")))
    assert drawn.labels == ("x", "n")
    assert drawn.kwargs == {"k": 3}


def test_only_what_is_drawn_is_converted():
    drawn = draw(positional(x=zeros(2), n=[1.0, 2.0]), convert=np.ndarray.tolist)
    assert drawn.args == ([0, 0], [1, 2])


def test_the_checks_dtype_is_that_of_specs_that_name_none():
    drawn = draw(positional(x=normal(2), w=normal(2, dtype="float64")), dtype="float32")
    assert [a.dtype for a in drawn.args] == ["float32", "float64"]


@pytest.mark.parametrize(
    ("inputs", "answer"),
    [
        (Inputs((normal(2),), {}, ("x",)), True),
        (Inputs((), {"x": {"a": [1, normal(2)]}}), True),
        (Inputs((np.ones(2), 1.0, None, "a"), {"k": []}, tuple("abcd")), False),
        (Inputs(), False),
    ],
)
def test_whether_another_draw_would_differ_is_reported_with_the_specs(inputs, answer):
    assert has_specs(inputs) is answer


# --- sizes


@laws
@given(st.integers(0, 1000))
def test_equal_names_are_equal_sizes_over_all_inputs(seed):
    drawn = draw(Inputs((normal("n", 2), [normal("n + 1")]), {"w": normal("n")}, ("x", "y")), seed=seed)
    assert drawn.args[0].shape[0] == drawn.args[1][0].shape[0] - 1 == drawn.kwargs["w"].shape[0]


@laws
@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 1000))
def test_named_sizes_keep_to_their_ranges(low, span, seed):
    assert low <= draw(positional(x=normal("n")), dims={"n": (low, low + span)}, seed=seed).args[0].size <= low + span


def test_a_size_that_comes_out_negative_is_reported():
    with pytest.raises(SpecError, match=r"'n - 1' is -1.*--dim"):
        draw(positional(x=normal("n - 1")), dims={"n": (0, 0)})


# --- seeds


def test_the_same_draw_is_the_same():
    np.testing.assert_array_equal(one(), one())


@pytest.mark.parametrize("other", [{"seed": 1}, {"trial": 1}, {"case": "g"}])
def test_another_seed_trial_or_case_draws_other_values(other):
    assert not np.isin(one(**other), one()).any()


def test_inputs_of_one_form_differ_from_each_other():
    x, (first, second) = draw(positional(x=normal(5), w=[normal(5), normal(5)])).args
    assert len({*x, *first, *second}) == 15


@laws
@given(names, st.dictionaries(names, st.integers(0, 4), max_size=4), st.integers(0, 1000))
def test_adding_inputs_does_not_change_what_another_draws(name, others, seed):
    alone = draw(positional(**{name: normal("n", 3)}), seed=seed).args[0]
    among = {other: normal("m", size) for other, size in others.items() if other != name}
    first = draw(positional(**{name: normal("n", 3)}, **among), seed=seed).args[0]
    last = draw(positional(**among, **{name: normal("n", 3)}), seed=seed).args[-1]
    np.testing.assert_array_equal(first, alone)
    np.testing.assert_array_equal(last, alone)


def test_adding_a_leaf_does_not_change_what_another_draws():
    small = draw(positional(params={"w": normal(3)})).args[0]["w"]
    large = draw(positional(params={"a": normal(3), "w": normal(3)})).args[0]["w"]
    np.testing.assert_array_equal(small, large)


def test_an_input_draws_the_same_by_position_and_by_name():
    by_name = draw(Inputs((), {"x": normal(5)})).kwargs["x"]
    np.testing.assert_array_equal(by_name, one())

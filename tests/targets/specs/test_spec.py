import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gradcheck
from gradcheck.errors import SpecError
from gradcheck.targets.specs.sizes import Sizes
from gradcheck.targets.specs.spec import (
    CONSTRUCTORS,
    DTYPES,
    LAYOUTS,
    NUMPY_SUBSTITUTES,
    SPARSE_LAYOUTS,
    array,
    boolean,
    copy_to_layout,
    draw_array,
    eye,
    integers,
    normal,
    one_hot,
    ones,
    orthogonal,
    positive,
    simplex,
    sparse,
    spd,
    triangular,
    uniform,
    zeros,
)

laws = settings(deadline=None, derandomize=True)
ENTRYWISE = {
    "normal": normal,
    "uniform": lambda *shape, **kw: uniform(-1, 2, *shape, **kw),
    "positive": positive,
    "integers": lambda *shape, **kw: integers(-3, 4, *shape, **kw),
    "sparse": lambda *shape, **kw: sparse(*shape, density=0.5, **kw),
    "ones": ones,
    "zeros": zeros,
}
ROWWISE = {"one_hot": one_hot, "simplex": simplex}
MATRICES = {"spd": spd, "orthogonal": orthogonal, "triangular": triangular, "eye": eye}
EVERY = {**ENTRYWISE, **ROWWISE, **MATRICES}

seeds = st.integers(0, 2**32 - 1)
sides = st.integers(1, 4)
batches = st.lists(st.integers(0, 3), max_size=2)
kinds = st.sampled_from(list(EVERY))
layouts = st.sampled_from(LAYOUTS)
floats = st.sampled_from(["float64", "float32", "float16"])


def drawn(spec, seed=0, dtype="float64", dims=None):
    return draw_array(spec, np.random.default_rng(seed), Sizes(dims or {}, seed), dtype)


# --- shape, dtype, layout


@laws
@given(kinds, batches, sides, layouts, seeds)
def test_every_kind_has_the_asked_shape_in_every_layout(kind, batch, side, layout, seed):
    asked = (*batch, side, side) if kind in MATRICES else (*batch, side)
    assert drawn(EVERY[kind](*batch, side, layout=layout), seed).shape == asked


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("spec", [normal, positive, boolean, ones, zeros, sparse])
def test_without_sizes_a_spec_draws_an_array_of_no_dimension(spec, layout):
    value = drawn(spec(layout=layout))
    assert isinstance(value, np.ndarray)
    assert value.shape == ()


@laws
@given(kinds, st.sampled_from(["float64", "float32", "float16", "complex128", "complex64"]), layouts)
def test_every_kind_has_the_asked_dtype(kind, dtype, layout):
    assert drawn(EVERY[kind](2, 3, dtype=dtype, layout=layout)).dtype == dtype


@laws
@given(st.sampled_from(DTYPES), st.sampled_from(DTYPES))
def test_the_specs_own_dtype_comes_before_the_checks(own, checks):
    assert drawn(zeros(2, dtype=own), dtype=checks).dtype == NUMPY_SUBSTITUTES.get(own, own)
    assert drawn(zeros(2), dtype=checks).dtype == NUMPY_SUBSTITUTES.get(checks, checks)


@pytest.mark.parametrize(
    ("spec", "dtype"), [(integers(0, 2, 3), "int64"), (boolean(3), "bool"), (array([1, 2]), "int64"), (array([True]), "bool")]
)
def test_what_is_no_float_by_nature_ignores_the_checks_dtype(spec, dtype):
    assert drawn(spec, dtype="float32").dtype == dtype


@laws
@given(kinds, st.integers(2, 4), st.integers(2, 4), floats)
def test_contiguous_transposed_and_strided_lie_in_memory_as_they_say(kind, rows, columns, dtype):
    spec = EVERY[kind]
    assert drawn(spec(rows, columns, dtype=dtype)).flags.c_contiguous
    assert drawn(spec(rows, columns, dtype=dtype, layout="transposed")).flags.f_contiguous
    assert drawn(spec(rows, columns, dtype=dtype, layout="strided")).strides[-1] == 2 * np.dtype(dtype).itemsize


@laws
@given(kinds, st.integers(2, 4), st.integers(2, 4))
def test_expanded_repeats_its_first_slice_without_memory_of_its_own(kind, rows, columns):
    value = drawn(EVERY[kind](rows, columns, layout="expanded"))
    assert value.strides[0] == 0
    np.testing.assert_array_equal(value, np.broadcast_to(drawn(EVERY[kind](rows, columns))[:1], value.shape))


@laws
@given(kinds, batches, sides, seeds, st.sampled_from(["transposed", "strided"]))
def test_a_layout_changes_the_memory_and_not_the_values(kind, batch, side, seed, layout):
    spec = EVERY[kind]
    np.testing.assert_array_equal(drawn(spec(*batch, side, layout=layout), seed), drawn(spec(*batch, side), seed))


@pytest.mark.parametrize("layout", SPARSE_LAYOUTS)
def test_a_sparse_layout_is_the_framework_s_and_drawn_as_an_array(layout):
    spec = sparse(4, 3, density=0.5, layout=layout)
    np.testing.assert_array_equal(drawn(spec), drawn(sparse(4, 3, density=0.5)))
    assert str(spec) == f"sparse(4, 3, density=0.5, layout={layout!r})"


def test_laying_out_leaves_the_given_array_alone():
    values = np.arange(6.0).reshape(2, 3)
    for layout in LAYOUTS:
        copy_to_layout(values, layout)
    np.testing.assert_array_equal(values, np.arange(6.0).reshape(2, 3))


def test_equal_names_give_equal_sizes_and_sums_follow():
    rows, columns, more = drawn(normal("n", "n", "n + 1"), dims={"n": (4, 4)}).shape
    assert (rows, columns, more) == (4, 4, 5)


def test_a_size_that_comes_out_negative_is_refused_when_drawn():
    with pytest.raises(SpecError, match="'n - 1' is -1"):
        drawn(normal("n - 1"), dims={"n": (0, 0)})


@laws
@given(kinds, seeds)
def test_equal_seeds_draw_equal_values(kind, seed):
    np.testing.assert_array_equal(drawn(EVERY[kind](3, 2), seed), drawn(EVERY[kind](3, 2), seed))


# --- values


@laws
@given(st.floats(-1e6, 1e6), st.floats(0.1, 1e6), seeds)
def test_uniform_keeps_to_its_bounds(low, span, seed):
    value = drawn(uniform(low, low + span, 50), seed)
    assert (low <= value).all()
    assert (value < low + span).all()


@laws
@given(st.integers(-100, 100), st.integers(1, 5), seeds)
def test_integers_leave_out_high_alone(low, span, seed):
    assert set(drawn(integers(low, low + span, 200), seed)) == set(range(low, low + span))


def test_normal_has_mean_zero_and_variance_one():
    value = drawn(normal(100_000))
    assert abs(value.mean()) < 0.02
    assert abs(value.var() - 1) < 0.02


@pytest.mark.parametrize("spec", [normal, triangular])
def test_a_complex_draw_has_real_and_imaginary_parts_in_the_same_places(spec):
    value = drawn(spec(20, dtype="complex128"))
    np.testing.assert_array_equal(value.real == 0, (value == 0))
    assert np.iscomplex(value).any()


def test_positive_is_positive_with_median_one_and_values_near_zero():
    value = drawn(positive(10_000))
    assert (value > 0).all()
    assert abs(np.median(value) - 1) < 0.05
    assert value.min() < 0.05


def test_boolean_is_a_fair_coin():
    assert abs(drawn(boolean(10_000)).mean() - 0.5) < 0.02


@laws
@given(batches, sides, seeds)
def test_each_one_hot_row_holds_a_single_one(batch, classes, seed):
    value = drawn(one_hot(*batch, classes), seed)
    assert np.isin(value, [0, 1]).all()
    assert (value.sum(-1) == 1).all()


def test_one_hot_reaches_every_class():
    assert drawn(one_hot(100, 4)).any(0).all()


@laws
@given(batches, sides, seeds)
def test_each_simplex_row_is_positive_and_sums_to_one(batch, classes, seed):
    value = drawn(simplex(*batch, classes), seed)
    assert (value > 0).all()
    np.testing.assert_allclose(value.sum(-1), 1)


@laws
@given(batches, sides, seeds)
def test_spd_is_symmetric_and_positive_definite(batch, side, seed):
    value = drawn(spd(*batch, side), seed)
    np.testing.assert_array_equal(value, np.swapaxes(value, -1, -2))
    assert (np.linalg.eigvalsh(value) > 0.099).all()


@laws
@given(batches, sides, seeds)
def test_orthogonal_is_orthogonal(batch, side, seed):
    q = drawn(orthogonal(*batch, side), seed)
    np.testing.assert_allclose(np.swapaxes(q, -1, -2) @ q, np.broadcast_to(np.eye(side), q.shape), atol=1e-12)


@laws
@given(batches, sides, seeds, st.booleans())
def test_triangular_is_zero_on_one_side_and_keeps_its_diagonal_from_zero(batch, side, seed, upper):
    value = drawn(triangular(*batch, side, upper=upper), seed)
    np.testing.assert_array_equal(value, np.triu(value) if upper else np.tril(value))
    assert (np.abs(np.diagonal(value, axis1=-2, axis2=-1)) >= 0.5).all()


@pytest.mark.parametrize("density", [0, 0.1, 1])
def test_sparse_keeps_the_asked_share_of_its_entries(density):
    assert abs((drawn(sparse(10_000, density=density)) != 0).mean() - density) < 0.01


def test_eye_repeats_the_identity_over_its_batch():
    np.testing.assert_array_equal(drawn(eye(2, 3)), [np.eye(3), np.eye(3)])


def test_ones_and_zeros_are_what_they_say():
    assert (drawn(ones(2, 3)) == 1).all()
    assert (drawn(zeros(2, 3)) == 0).all()


@laws
@given(st.lists(st.lists(st.floats(-1e9, 1e9), min_size=2, max_size=2), max_size=3))
def test_array_holds_its_literal_values(rows):
    np.testing.assert_array_equal(drawn(array(rows)), np.array(rows))


# --- construction


def test_sizes_may_come_as_one_tuple_or_list():
    assert normal((2, "n")) == normal([2, "n"]) == normal(2, "n")


def test_bounds_may_come_first_or_by_name():
    assert uniform(0, 1, 3) == uniform(3, low=0, high=1) == uniform(3, high=1)
    assert integers(0, 5, 2, 3) == integers((2, 3), low=0, high=5) == integers(2, 3, high=5)


def test_the_text_of_a_spec_is_what_one_would_type():
    assert str(normal("batch", 3)) == "normal(batch, 3)"
    assert str(spd(3, dtype="float32", layout="strided")) == "spd(3, dtype='float32', layout='strided')"
    assert str(sparse(4, density=0.2)) == "sparse(4, density=0.2)"


def test_a_spec_equals_another_of_the_same_words():
    assert normal(3, dtype="float32") == normal(3, dtype="float32") != normal(3)


def test_every_constructor_is_public():
    assert all(getattr(gradcheck, name) is constructor for name, constructor in CONSTRUCTORS.items())


# --- messages


@pytest.mark.parametrize("size", [-1, 1.5, True, None, "", "n m", "2 ** n", (2,)])
def test_a_wrong_size_is_named_with_what_is_expected(size):
    with pytest.raises(SpecError, match="expected an integer of at least 0, or a name such as 'batch'") as raised:
        normal(3, size)
    assert f"normal: size {size!r}" in str(raised.value)


def test_a_wrong_dtype_is_named_with_the_known_ones():
    with pytest.raises(SpecError, match="ones: dtype='float': expected one of float64, float32"):
        ones(3, dtype="float")


def test_a_wrong_layout_is_named_with_the_known_ones():
    with pytest.raises(SpecError, match="zeros: layout='fortran': expected one of contiguous, transposed, strided, expanded"):
        zeros(3, layout="fortran")


@pytest.mark.parametrize("name", list(MATRICES))
def test_a_matrix_without_size_asks_for_it(name):
    with pytest.raises(SpecError, match=rf"expected the size of the matrix, as in {name}\(3\)"):
        MATRICES[name]()


@pytest.mark.parametrize("name", list(ROWWISE))
@pytest.mark.parametrize("sizes", [(), (0,), (4, 0)])
def test_rows_without_a_class_are_refused(name, sizes):
    with pytest.raises(SpecError, match=rf"{name}: expected at least one class, as in {name}\(4, 3\)"):
        ROWWISE[name](*sizes)


@pytest.mark.parametrize("args", [(), (3,), ("n", 2), (0, None, 3), (True, 2)])
@pytest.mark.parametrize("spec", [uniform, integers])
def test_missing_or_wrong_bounds_are_named_with_the_call_that_is_expected(spec, args):
    with pytest.raises(SpecError, match=r"expected \w+\(low, high, \*sizes\) with numbers low and high, got low="):
        spec(*args)


def test_bounds_of_integers_are_integers():
    with pytest.raises(SpecError, match=r"got low=0, high=1\.5"):
        integers(0, 1.5, 3)


@pytest.mark.parametrize(("low", "high"), [(2, 2), (3, 1), (0, float("nan"))])
def test_bounds_in_the_wrong_order_are_refused(low, high):
    with pytest.raises(SpecError, match=rf"low={low}, high={high}: expected low < high"):
        uniform(low, high, 3)


@pytest.mark.parametrize("spec", [uniform, integers])
def test_an_argument_that_bounds_do_not_know_is_named(spec):
    with pytest.raises(SpecError, match="unknown argument 'hihg'; expected low, high, dtype or layout"):
        spec(3, low=0, hihg=1)


@pytest.mark.parametrize("density", [-0.1, 1.1, float("nan")])
def test_a_density_outside_zero_to_one_is_refused(density):
    with pytest.raises(SpecError, match=rf"sparse: density={density}: expected a number from 0 to 1"):
        sparse(3, density=density)


def test_ragged_values_are_no_array():
    with pytest.raises(SpecError, match="expected nested lists of equal lengths"):
        array([[1.0], [1.0, 2.0]])


@pytest.mark.parametrize("value", ["a", None, [object()], ["1"]])
def test_what_holds_no_numbers_is_no_array(value):
    with pytest.raises(SpecError, match="expected numbers, got dtype"):
        array(value)

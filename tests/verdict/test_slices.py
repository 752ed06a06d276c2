"""From a sum that disagrees down to an entry, and from wrong entries up to the slice that they fill."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from gradcheck.verdict.slices import name_slice

PHRASES = {
    "the diagonal of w": lambda i, j: i == j,
    "w above the diagonal": lambda i, j: i < j,
    "w below the diagonal": lambda i, j: i > j,
    "w on and above the diagonal": lambda i, j: i <= j,
    "w on and below the diagonal": lambda i, j: i >= j,
    "w off the diagonal": lambda i, j: i != j,
}
SHAPES = arrays.array_shapes(max_dims=4, max_side=6)


def filled(shape, index):
    mask = np.zeros(shape, dtype=bool)
    mask[index] = True
    return mask


def meant(text, shape):
    """The entries that a text speaks of, read as NumPy reads an index, or as a sentence about a matrix."""
    index = re.fullmatch(r"w(\[.*\])", text)
    if index:
        return filled(shape, eval(f"np.s_{index[1]}"))
    says = PHRASES[text.removesuffix(" (last two axes)")]
    assert text.endswith(" (last two axes)") == (len(shape) > 2)
    return says(*np.indices(shape)[-2:])


@st.composite
def sliced(draw):
    """A shape and an index into it: a place, a run, or at least three places that are evenly apart, along each axis."""
    shape, index = draw(SHAPES), []
    for size in shape:
        step = draw(st.integers(1, max(1, (size - 1) // 2)))
        start = draw(st.integers(0, size - 1 if step == 1 else size - 1 - 2 * step))
        stop = draw(st.integers(start + 1 if step == 1 else start + 2 * step + 1, size))
        index.append(draw(st.sampled_from([start, slice(None), slice(start, stop, step)])))
    return shape, tuple(index)


@given(sliced())
def test_the_entries_of_a_slice_are_named_as_that_slice(given_):
    shape, index = given_
    mask = filled(shape, index)
    text = name_slice(mask, "w")
    if mask.all() or np.sum(mask) == 1:
        assert text is None
    else:
        assert text.startswith("w[")
        np.testing.assert_array_equal(meant(text, shape), mask)


@given(arrays.array_shapes(min_dims=2, max_dims=4, min_side=2, max_side=5), st.sampled_from(list(PHRASES)))
def test_the_entries_about_a_diagonal_are_named(shape, phrase):
    mask = PHRASES[phrase](*np.indices(shape)[-2:])
    text = name_slice(mask, "w")
    assert text is None if np.sum(mask) < 2 else np.array_equal(meant(text, shape), mask)


@given(arrays.arrays(bool, SHAPES))
def test_a_name_says_exactly_which_entries_are_meant(mask):
    text = name_slice(mask, "w")
    assert text is None or np.array_equal(meant(text, mask.shape), mask)


@pytest.mark.parametrize(
    ("shape", "index", "text"),
    [
        ((8, 5), np.s_[:, 3], "w[:, 3]"),
        ((8, 5), np.s_[2:4], "w[2:4, :]"),
        ((8, 5), np.s_[5:], "w[5:, :]"),
        ((8, 5), np.s_[:2, 1:4], "w[:2, 1:4]"),
        ((2, 3, 4), np.s_[..., 0], "w[..., 0]"),
        ((2, 3, 4, 5), np.s_[0], "w[0, ...]"),
        ((2, 3, 4, 5), np.s_[:, :, 1], "w[..., 1, :]"),
        ((9,), np.s_[1::3], "w[1::3]"),
        ((9,), np.s_[1:6:2], "w[1:6:2]"),
        ((9, 1), np.s_[::4], "w[::4, :]"),
    ],
)
def test_slices_are_written_as_a_reader_would(shape, index, text):
    assert name_slice(filled(shape, index), "w") == text


@pytest.mark.parametrize(
    ("shape", "index"),
    [
        ((), ()),
        ((0, 3), np.s_[:0]),
        ((9,), np.s_[:0]),
        ((9,), np.s_[4]),
        ((9,), np.s_[:]),
        ((9,), [1, 5]),
        ((9,), [0, 1, 3]),
        ((5, 5), ([0, 1], [2, 4])),
    ],
)
def test_what_is_no_simple_part_has_no_name(shape, index):
    assert name_slice(filled(shape, index), "w") is None

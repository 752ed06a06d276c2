"""The picture of a leaf shows where it is wrong, and stays small."""

import numpy as np
import pytest
import torch
from elementwise import changed, layer

import gradcheck
from gradcheck import Verdict, normal


def row_with_picture(fault, *shape, **options):
    result = gradcheck.check(layer(fault), normal(*shape), mode="full", every_entry=True, contracts=False, **options)
    (row,) = [c for c in result.comparisons if (c.method, c.against) == ("reverse", "numeric")]
    return row


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_wrong_cell_is_marked_and_its_error_shown(dtype):
    row = row_with_picture(changed(7, factor=1.5), 3, 4, dtype=dtype)
    picture = row.picture
    assert (row.verdict, picture.grid) == (Verdict.FAIL, (3, 4))
    assert [k for k, wrong in enumerate(picture.wrong) if wrong] == [7]
    assert picture.errors[7] == pytest.approx(1 / 3, rel=0.1)
    assert max(e for k, e in enumerate(picture.errors) if k != 7) < 1e-3
    apart = [abs(a - b) > 1e-3 * abs(b) for a, b in zip(picture.claimed, picture.estimate, strict=True)]
    assert apart == [k == 7 for k in range(12)] == [*picture.wrong_entries]


@pytest.mark.parametrize(
    ("shape", "grid"), [((), (1, 1)), ((5,), (1, 5)), ((1000,), (11, 32)), ((2, 3, 4), (6, 4)), ((40, 25), (10, 25))]
)
def test_a_leaf_of_any_shape_fits_into_few_cells(shape, grid):
    picture = row_with_picture(lambda g: g, *shape).picture
    assert picture.grid == grid
    assert len(picture.errors) == len(picture.wrong) == np.prod(grid)
    assert len(picture.claimed) == len(picture.estimate) == len(picture.wrong_entries) <= 32
    assert not any(picture.wrong)


@pytest.mark.parametrize("entry", [777, 998])
def test_a_wrong_entry_of_many_is_among_the_numbers(entry):
    picture = row_with_picture(changed(entry, factor=3.0), 1000).picture
    assert sum(picture.wrong) == 1
    assert any(a == pytest.approx(3 * b, rel=1e-3) for a, b in zip(picture.claimed, picture.estimate, strict=True))


def test_each_complex_entry_is_a_cell():
    result = gradcheck.check(torch.sin, torch.ones(2, 3, dtype=torch.complex128), every_entry=True)
    assert {c.picture.grid for c in result.comparisons if c.picture} == {(2, 3)}

"""The picture of a leaf shows where it is wrong, and stays small."""

import numpy as np
import pytest
import torch
from elementwise import changed, layer

import gradcheck
from gradcheck import Verdict, normal


def picture(spoil, *shape, **options):
    result = gradcheck.check(layer(spoil), normal(*shape), mode="full", contracts=False, **options)
    (line,) = [c for c in result.comparisons if (c.method, c.against) == ("reverse", "numeric")]
    return line


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_wrong_cell_is_marked_and_its_error_shown(dtype):
    line = picture(changed(7, factor=1.5), 3, 4, dtype=dtype)
    found = line.picture
    assert (line.verdict, found.grid) == (Verdict.FAIL, (3, 4))
    assert [k for k, wrong in enumerate(found.wrong) if wrong] == [7]
    assert found.errors[7] == pytest.approx(1 / 3, rel=0.1)
    assert max(e for k, e in enumerate(found.errors) if k != 7) < 1e-3
    apart = [abs(a - b) > 1e-3 * abs(b) for a, b in zip(found.claimed, found.estimate, strict=True)]
    assert apart == [k == 7 for k in range(12)]


@pytest.mark.parametrize(
    ("shape", "grid"), [((), (1, 1)), ((5,), (1, 5)), ((1000,), (11, 32)), ((2, 3, 4), (6, 4)), ((40, 25), (10, 25))]
)
def test_a_leaf_of_any_shape_fits_into_few_cells(shape, grid):
    found = picture(lambda g: g, *shape).picture
    assert found.grid == grid
    assert len(found.errors) == len(found.wrong) == np.prod(grid)
    assert len(found.claimed) == len(found.estimate) <= 32
    assert not any(found.wrong)


def test_a_wrong_entry_of_many_is_among_the_numbers():
    line = picture(changed(777, factor=3.0), 1000)
    found = line.picture
    assert sum(found.wrong) == 1
    assert any(a == pytest.approx(3 * b, rel=1e-3) for a, b in zip(found.claimed, found.estimate, strict=True))


def test_complex_entries_are_a_cell_each():
    result = gradcheck.check(torch.sin, torch.randn(2, 3, dtype=torch.complex128, generator=torch.Generator().manual_seed(0)))
    assert {c.picture.grid for c in result.comparisons if c.picture} == {(2, 3)}

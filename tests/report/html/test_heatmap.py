"""The heat map names the entries of its cells, fits its place, and marks what is wrong."""

import math
import re

import pytest

from gradcheck.report.html import heatmap
from gradcheck.report.html.heatmap import HeatmapGrid, draw_heatmap
from gradcheck.results import Picture


def draw(shape, rows, columns, *, wrong=(), error=1e-9):
    count = rows * columns
    picture = Picture((rows, columns), (error,) * count, tuple(k in wrong for k in range(count)), (), ())
    return draw_heatmap(picture, HeatmapGrid(shape, rows, columns), "name", "description")


def texts(drawing):
    return re.findall(r"<text[^>]*>([^<]*)</text>", drawing)


@pytest.mark.parametrize(
    ("shape", "grid", "cell", "name"),
    [
        ((4,), (1, 4), 2, "[2]"),
        ((100,), (4, 32), 33, "[33]"),
        ((3, 5), (3, 5), 7, "[1, 2]"),
        ((40, 25), (10, 25), 26, "[4, 1] to [7, 1]"),
        ((70, 90), (24, 30), 719, "[69, 87] to [69, 89]"),
        ((2, 3, 4), (6, 4), 17, "[1, 1, 1]"),
        ((1000,), (11, 32), 32, "[96] to [160]"),
    ],
)
def test_a_cell_names_its_entries(shape, grid, cell, name):
    assert HeatmapGrid(shape, *grid).describe_cell(cell) == name


def test_axes_are_labelled_by_the_indices_of_the_leaf():
    assert texts(draw((2, 3), 2, 3))[6:] == ["0", "1", "2", "0", "1", "axis 1", "axis 0"]
    assert texts(draw((4,), 1, 4))[4:] == ["0", "1", "2", "3", "index"]
    folded = texts(draw((100,), 4, 32))
    assert {"+0", "0", "32", "64", "96"} <= set(folded)
    assert {"1, 2", "axes 0 to 1", "axis 2"} <= set(texts(draw((2, 3, 4), 6, 4)))


def test_cells_after_the_end_of_a_folded_vector_are_empty():
    assert draw((100,), 4, 32).count("h1v1h-1z") == 100


def test_the_cells_of_a_small_leaf_show_their_errors_and_a_large_leaf_fits():
    assert texts(draw((4,), 1, 4, error=2e-9))[:4] == ["2e-9"] * 4
    assert texts(draw((2,), 1, 2, error=math.nan))[:2] == ["-"] * 2
    for shape, rows, columns in (((32, 32), 32, 32), ((2, 2), 2, 2), ((32, 2), 32, 2), ((2, 3, 4, 5), 24, 5)):
        width, height = map(float, re.search(r'width="([\d.]+)" height="([\d.]+)"', draw(shape, rows, columns)).groups())
        assert width <= 400
        assert height == heatmap.HEIGHT


def test_each_wrong_cell_has_a_cross():
    for shape, rows, columns in (((2, 3), 2, 3), ((20, 30), 20, 30)):
        crosses = re.findall(r'class="cross \w+" d="([^"]*)"', draw(shape, rows, columns, wrong=(1, 4)))
        assert "".join(crosses).count("M") == 2


@pytest.mark.parametrize(
    ("error", "shade"), [(0.0, 0), (1e-12, 1), (1e-7, 2), (1e-4, 3), (0.01, 4), (math.inf, 5), (math.nan, 6)]
)
def test_shades_follow_the_error(error, shade):
    assert heatmap.choose_shade(error) == shade

"""A picture of a leaf: the error of each entry or block of entries, and some of the derivatives."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.compare.table_row import compute_relative_errors
from gradcheck.results import Picture
from gradcheck.verdict.interval import Code

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gradcheck.compare.judge import JudgedLeaf
    from gradcheck.evidence.line import F64

# The picture shows this many entries of a vector per row.
COLUMNS_OF_VECTOR = 32
# The picture has at most this many rows, and columns, of cells: the first if an entry is wrong, the second if none is.
MAX_CELLS_IF_WRONG, MAX_CELLS = 32, 12
# At most this many derivatives are kept as numbers: the first if an entry is wrong, the second if none is.
MAX_DERIVATIVES_IF_WRONG, MAX_DERIVATIVES = 96, 32


def make_heatmap(judged: JudgedLeaf) -> Picture:
    """Make the picture of a leaf whose every entry was checked."""
    is_wrong = np.any(judged.code == Code.FAIL, axis=0)
    any_wrong = np.any(is_wrong)
    per_entry = (judged.leaf.entries, judged.leaf.width)
    errors = np.fmax.reduce(compute_relative_errors(judged), axis=0)
    entry_errors = np.fmax.reduce(errors.reshape(per_entry), axis=1)
    entry_is_wrong = np.any(is_wrong.reshape(per_entry), axis=1)
    places = _place_entries(judged.leaf.shape, MAX_CELLS_IF_WRONG if any_wrong else MAX_CELLS)
    grid = (int(places[:, 0].max()) + 1, int(places[:, 1].max()) + 1)
    cells, wrong_cells = np.full(grid, np.nan), np.zeros(grid, dtype=bool)
    np.fmax.at(cells, tuple(places.T), entry_errors)
    np.logical_or.at(wrong_cells, tuple(places.T), entry_is_wrong)
    count = MAX_DERIVATIVES_IF_WRONG if any_wrong else MAX_DERIVATIVES
    entries = _select_entries(is_wrong, count)
    claimed, estimate = _find_worst_derivatives(judged, entries)
    return Picture(
        grid,
        _round_digits(cells, 2),
        tuple(map(bool, wrong_cells.flat)),
        _round_digits(claimed, 5),
        _round_digits(estimate, 5),
        tuple(map(bool, is_wrong[entries])),
    )


def _place_entries(shape: tuple[int, ...], max_cells: int) -> NDArray[np.intp]:
    """Return the row and column of the cell of each entry, (n, 2), at most `max_cells` of each; a vector is folded."""
    count = math.prod(shape)
    columns = shape[-1] if len(shape) > 1 else min(count, COLUMNS_OF_VECTOR)
    rows, columns_of_entries = np.divmod(np.arange(count), columns)
    limits = ((int(rows.max()) + 1, max_cells), (columns, max(max_cells, COLUMNS_OF_VECTOR)))
    block_sizes = [-(-size // limit) for size, limit in limits]
    return np.stack([rows // block_sizes[0], columns_of_entries // block_sizes[1]], axis=1)


def _select_entries(is_wrong: NDArray[np.bool_], count: int) -> NDArray[np.intp]:
    """Select at most `count` entries: wrong ones for up to half of them, the others evenly spaced."""
    wrong = np.flatnonzero(is_wrong)[: count // 2]
    evenly_spaced = np.linspace(0, is_wrong.size - 1, min(is_wrong.size, count - wrong.size)).astype(int)
    return np.unique(np.concatenate([wrong, evenly_spaced]))


def _find_worst_derivatives(judged: JudgedLeaf, entries: NDArray[np.intp]) -> tuple[F64, F64]:
    """Return claimed and numerical derivatives of some entries, each at its worst channel."""
    units = judged.units[entries]
    with np.errstate(all="ignore"):
        errors = judged.sides.difference[:, entries] / np.abs(units)
    channels = np.argmax(np.nan_to_num(errors, nan=np.inf), axis=0)
    return judged.sides.claim[channels, entries] / units, judged.sides.value[channels, entries] / units


def _round_digits(numbers: F64, digits: int) -> tuple[float, ...]:
    return tuple(float(f"{x:.{digits}g}") for x in np.ravel(numbers))

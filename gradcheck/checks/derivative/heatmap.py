"""A leaf's entries at a glance: the error of each, or of blocks of them, and some of the numbers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.compare.table import relative_errors
from gradcheck.results import Picture

if TYPE_CHECKING:
    from gradcheck.compare.judge import Compared
    from gradcheck.evidence.line import F64

FOLDED = 32  # entries of a vector in a row
SIDE_WRONG, SIDE = 32, 12  # cells a side, where an entry is wrong and where none is
POINTS_WRONG, POINTS = 96, 32  # numbers


def of(c: Compared, units: F64) -> Picture:
    """What full mode saw of a leaf.

    Args:
        units: displacement of each number of the leaf, (n,).
    """
    wrong = c.code == 2
    errors = np.fmax.reduce(relative_errors(c), axis=0)
    marked = np.any(wrong, axis=0)
    side, points = (SIDE_WRONG, POINTS_WRONG) if np.any(marked) else (SIDE, POINTS)
    per_entry = (c.leaf.entries, c.leaf.width)
    errors = np.fmax.reduce(errors.reshape(per_entry), axis=1)
    marked_entries = np.any(marked.reshape(per_entry), axis=1)
    places = _cells(c.leaf.shape, side)
    grid = (int(places[:, 0].max()) + 1, int(places[:, 1].max()) + 1)
    cells, crosses = np.full(grid, np.nan), np.zeros(grid, dtype=bool)
    np.fmax.at(cells, tuple(places.T), errors)
    np.logical_or.at(crosses, tuple(places.T), marked_entries)
    claimed, estimate = _numbers(c, units, np.flatnonzero(marked), points)
    return Picture(grid, _rounded(cells, 2), tuple(map(bool, crosses.flat)), _rounded(claimed, 5), _rounded(estimate, 5))


def _cells(shape: tuple[int, ...], side: int) -> np.ndarray[tuple[int, int], np.dtype[np.intp]]:
    """Row and column of the cell that each entry falls into, (n, 2): at most `side` of each."""
    count = math.prod(shape)
    columns = shape[-1] if len(shape) > 1 else min(count, FOLDED)
    rows, across = np.divmod(np.arange(count), columns)
    blocks = [-(-size // allowed) for size, allowed in ((int(rows.max()) + 1, side), (columns, max(side, FOLDED)))]
    return np.stack([rows // blocks[0], across // blocks[1]], axis=1)


def _numbers(c: Compared, units: F64, wrong: np.ndarray[tuple[int], np.dtype[np.intp]], points: int) -> tuple[F64, F64]:
    """Claimed and numeric derivatives of wrong entries first, and of others evenly, each at its worst channel."""
    total = c.code.shape[1]
    others = np.linspace(0, total - 1, min(total, points)).astype(int)
    lines = np.unique(np.concatenate([wrong[: points // 2], others]))[:points]
    with np.errstate(all="ignore"):
        channels = np.argmax(np.nan_to_num(c.sides.apart[:, lines] / np.abs(units[lines]), nan=np.inf), axis=0)
    signed = np.where(units[lines] == 0, 1.0, units[lines])
    return c.sides.claim[channels, lines] / signed, c.sides.value[channels, lines] / signed


def _rounded(numbers: F64, digits: int) -> tuple[float, ...]:
    return tuple(float(f"{x:.{digits}g}") for x in np.ravel(numbers))

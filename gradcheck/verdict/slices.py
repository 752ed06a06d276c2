"""TODO: describe."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray


def named_slice(mask: NDArray[np.bool_], path: str) -> str | None:
    """The part of an array that the marked entries fill, as one would index it; None where that is no simple one.

    One entry alone, and the whole array, are no part worth a name.

    Args:
        mask: of the array's shape.
        path: what the array is called.

    Returns:
        Such as 'w[:, 3]', 'x[..., 0]', 'x[1::3]', 'the diagonal of w', 'w above the diagonal'.
    """
    count = np.count_nonzero(mask)
    if count < 2 or count == mask.size:
        return None
    axes = range(mask.ndim)
    hits = [np.flatnonzero(np.any(mask, axis=tuple(a for a in axes if a != axis))) for axis in axes]
    indices = [_index(hit, size) for hit, size in zip(hits, mask.shape, strict=True)]
    if all(indices) and count == np.prod([hit.size for hit in hits]):
        return f"{path}[{', '.join(_shortened(indices))}]"
    return next((text.format(path) for text, part in _about_the_diagonal(mask.shape) if np.array_equal(part, mask)), None)


def _index(hit: NDArray[np.intp], size: int) -> str:
    """The places along one axis as an index; '' where they are not evenly spaced, or two that are not neighbours."""
    if hit.size in (1, size):
        return ":" if hit.size == size else str(hit[0])
    first, last, step = int(hit[0]), int(hit[-1]), int(hit[1] - hit[0])
    if np.any(np.diff(hit) != step) or (step > 1 and hit.size == 2):
        return ""
    every = f":{step}" if step > 1 else ""
    return f"{first or ''}:{last + 1 if last + step < size else ''}{every}"


def _shortened(indices: list[str]) -> list[str]:
    """Write ... for the axes that are taken whole, where several stand at the beginning or the end."""
    before = next(i for i, index in enumerate(indices) if index != ":")
    after = next(i for i, index in enumerate(reversed(indices)) if index != ":")
    if max(before, after) < 2:
        return indices
    return ["...", *indices[before:]] if before >= after else [*indices[: len(indices) - after], "..."]


def _about_the_diagonal(shape: tuple[int, ...]) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Parts of a matrix, or of each matrix of a stack of them."""
    if len(shape) < 2:
        return
    rows, columns = np.ogrid[: shape[-2], : shape[-1]]
    stacked = " (last two axes)" if len(shape) > 2 else ""
    for text, holds in (
        ("the diagonal of {}", np.equal),
        ("{} above the diagonal", np.less),
        ("{} below the diagonal", np.greater),
        ("{} on and above the diagonal", np.less_equal),
        ("{} on and below the diagonal", np.greater_equal),
        ("{} off the diagonal", np.not_equal),
    ):
        yield text + stacked, np.broadcast_to(holds(rows, columns), shape)

"""Names of slices: from the wrong entries of an array up to the part of it that they fill."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray


def name_slice(mask: NDArray[np.bool_], path: str) -> str | None:
    """Name the part of an array that the marked entries fill, as one would index it; None if it is no simple part.

    A single entry and the whole array get no name.

    Args:
        mask: marks the entries, of the array's shape.
        path: what the array is called.

    Returns:
        A name such as 'w[:, 3]', 'x[..., 0]', 'x[1::3]', 'the diagonal of w', 'w above the diagonal'.
    """
    count = np.count_nonzero(mask)
    if count < 2 or count == mask.size:
        return None
    axes = range(mask.ndim)
    positions = [np.flatnonzero(np.any(mask, axis=tuple(a for a in axes if a != axis))) for axis in axes]
    indices = [_format_index(along_axis, size) for along_axis, size in zip(positions, mask.shape, strict=True)]
    if all(indices) and count == np.prod([along_axis.size for along_axis in positions]):
        return f"{path}[{', '.join(_abbreviate_full_axes(indices))}]"
    return next((text.format(path) for text, part in _diagonal_parts(mask.shape) if np.array_equal(part, mask)), None)


def _format_index(positions: NDArray[np.intp], size: int) -> str:
    """Write the positions along one axis as an index; '' if they are not evenly spaced, or two that are not neighbours."""
    if positions.size in (1, size):
        return ":" if positions.size == size else str(positions[0])
    first, last, step = int(positions[0]), int(positions[-1]), int(positions[1] - positions[0])
    if np.any(np.diff(positions) != step) or (step > 1 and positions.size == 2):
        return ""
    stride = f":{step}" if step > 1 else ""
    return f"{first or ''}:{last + 1 if last + step < size else ''}{stride}"


def _abbreviate_full_axes(indices: list[str]) -> list[str]:
    """Write ... for the axes that are taken in full, if several stand at the beginning or the end."""
    before = next(i for i, index in enumerate(indices) if index != ":")
    after = next(i for i, index in enumerate(reversed(indices)) if index != ":")
    if max(before, after) < 2:
        return indices
    return ["...", *indices[before:]] if before >= after else [*indices[: len(indices) - after], "..."]


def _diagonal_parts(shape: tuple[int, ...]) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Yield the parts that the diagonal divides a matrix into, or each matrix of a stack, with a template of their names."""
    if len(shape) < 2:
        return
    rows, columns = np.ogrid[: shape[-2], : shape[-1]]
    suffix = " (last two axes)" if len(shape) > 2 else ""
    for text, compare in (
        ("the diagonal of {}", np.equal),
        ("{} above the diagonal", np.less),
        ("{} below the diagonal", np.greater),
        ("{} on and above the diagonal", np.less_equal),
        ("{} on and below the diagonal", np.greater_equal),
        ("{} off the diagonal", np.not_equal),
    ):
        yield text + suffix, np.broadcast_to(compare(rows, columns), shape)

"""Wrong gradients made of right ones: the faults that a check must catch before its PASS means anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Iterator

F64 = NDArray[np.float64]
# Rounding may change the mean of equal numbers by this much, relative to it.
MAX_MEAN_ROUNDING = 1e-6


def inject_faults(
    gradient: F64, relative_size: float, replacement: float, rng: np.random.Generator
) -> Iterator[tuple[str, F64]]:
    """Yield each kind of fault by name, with the faulty gradient; the gradients of several outputs get the same fault.

    Args:
        gradient: (C, *shape, width): C gradients of a leaf whose entries are `width` numbers, 2 if it is complex.
        relative_size: relative size of the faults that have one.
        replacement: value of the changed entry if it is zero in the gradient.
        rng: chooses the permutation and the entry.
    """
    flat = gradient.reshape(len(gradient), -1, gradient.shape[-1])
    yield "zeroed", np.zeros_like(gradient)
    yield "sign flipped", -gradient
    yield "scaled up", gradient * (1 + relative_size)
    yield "scaled down", gradient * (1 - relative_size)
    yield "one entry changed", _change_one_entry(flat, relative_size, replacement, rng)
    yield from inject_rearrangements(gradient, rng)


def inject_rearrangements(gradient: F64, rng: np.random.Generator) -> Iterator[tuple[str, F64]]:
    """Yield the faults that move entries to wrong places; the arguments are those of `inject_faults`."""
    flat = gradient.reshape(len(gradient), -1, gradient.shape[-1])
    if flat.shape[1] > 1:
        yield "flipped", flat[:, ::-1]
        yield "shuffled", flat[:, rng.permutation(flat.shape[1])]
        yield "summed over a wrong axis", np.broadcast_to(np.sum(gradient, axis=-2, keepdims=True), gradient.shape)
    if gradient.ndim > 3:
        yield "transposed", np.swapaxes(gradient, -2, -3)
    if gradient.shape[-1] == 2:
        yield "conjugated", gradient * [1.0, -1.0]


def _change_one_entry(flat: F64, relative_size: float, replacement: float, rng: np.random.Generator) -> F64:
    """Change an entry of typical size or above: a smaller one could change by that much unseen."""
    # We divide by the largest entry first, since squares may overflow.
    weight = np.sum((flat / (np.max(np.abs(flat), initial=0.0) or 1.0)) ** 2, axis=(0, 2))
    positions = np.flatnonzero(weight >= (1 - MAX_MEAN_ROUNDING) * np.mean(weight))
    position = positions[rng.integers(positions.size)]
    faulty = flat.copy()
    faulty[:, position] = faulty[:, position] * (1 + relative_size) if weight[position] else replacement
    return faulty

"""Wrong gradients made of right ones: what a check must catch before its PASS means anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Iterator

F64 = NDArray[np.float64]
EQUAL = 1e-6  # relative: what rounding may take from a mean of equal numbers


def planted(gradient: F64, size: float, something: float, rng: np.random.Generator) -> Iterator[tuple[str, F64]]:
    """Yield each kind of fault by name, with the gradient spoilt by it; the gradients of several outputs are spoilt alike.

    Args:
        gradient: (C, *shape, width): C gradients of a leaf whose entries are `width` numbers, 2 where it is complex.
        size: relative size of the faults that have one.
        something: an entry that is not zero, for a gradient that is.
        rng: chooses the permutation and the entry.
    """
    flat = gradient.reshape(len(gradient), -1, gradient.shape[-1])
    yield "zeroed", np.zeros_like(gradient)
    yield "sign flipped", -gradient
    yield "scaled up", gradient * (1 + size)
    yield "scaled down", gradient * (1 - size)
    yield "one entry changed", _one_changed(flat, size, something, rng)
    yield from rearranged(gradient, rng)


def rearranged(gradient: F64, rng: np.random.Generator) -> Iterator[tuple[str, F64]]:
    """Yield the faults that put entries where they do not belong; the gradient as in `planted`."""
    flat = gradient.reshape(len(gradient), -1, gradient.shape[-1])
    if flat.shape[1] > 1:
        yield "flipped", flat[:, ::-1]
        yield "shuffled", flat[:, rng.permutation(flat.shape[1])]
        yield "summed over a wrong axis", np.broadcast_to(np.sum(gradient, axis=-2, keepdims=True), gradient.shape)
    if gradient.ndim > 3:
        yield "transposed", np.swapaxes(gradient, -2, -3)
    if gradient.shape[-1] == 2:
        yield "conjugated", gradient * [1.0, -1.0]


def _one_changed(flat: F64, size: float, something: float, rng: np.random.Generator) -> F64:
    """An entry of typical size or above is changed: a smaller one could change by that much unseen."""
    weight = np.sum((flat / (np.max(np.abs(flat), initial=0.0) or 1.0)) ** 2, axis=(0, 2))  # squares may overflow
    place = int(rng.choice(np.flatnonzero(weight >= (1 - EQUAL) * np.mean(weight))))
    spoilt = flat.copy()
    spoilt[:, place] = spoilt[:, place] * (1 + size) if weight[place] else something
    return spoilt

"""Vector-Jacobian products by PyTorch: one after the other, or many at once where that works, gives the same and is faster."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

from gradcheck.backends.flat import EPS, from_flat
from gradcheck.backends.torch.tensors import (
    flat_of_all,
    gradients,
    name_of,
    seed,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradcheck.backends.flat import F64, Leaf

WORTH_IT = 8  # cotangents: fewer are asked for one by one
CHUNK = 2**22  # numbers of all rows at once
SAME = 256.0  # units in the last place of the largest number: how far other kernels round
SOONER = 0.8  # of the time that the rows take one by one


@dataclass(frozen=True)
class Graph:
    """What a backward pass starts from, outputs that carry a gradient, and what it leads to; each with its leaves."""

    outputs: Sequence[tuple[torch.Tensor, Leaf]]
    inputs: Sequence[torch.Tensor]
    leaves: tuple[Leaf, ...]


@dataclass(frozen=True)
class Habit:
    """Whether many are asked for at once, from the first time on that it was tried: [] or one answer."""

    at_once: list[bool] = field(default_factory=list)


def rows(graph: Graph, cotangents: F64, habit: Habit) -> F64:
    """The products of all cotangents (C, M), (C, N).

    The first time that there are many, the first and the last are computed in both ways, and must be the same.

    Raises:
        DerivativeError: where the backward pass raises.
    """
    found = np.empty((len(cotangents), graph.leaves[-1].span.stop))
    if len(cotangents) < WORTH_IT or found.size > CHUNK or habit.at_once == [False]:
        _one_by_one(graph, cotangents, found)
    elif habit.at_once:
        _at_once(graph, cotangents, found)
    else:
        habit.at_once[:] = [_sooner(graph, cotangents, found)]
        if not habit.at_once[0]:
            _one_by_one(graph, cotangents, found)
    return found


def _one_by_one(graph: Graph, cotangents: F64, found: F64) -> None:
    outs = [out for out, _ in graph.outputs]
    for row, v in zip(found, cotangents, strict=True):
        gradients(outs, graph.inputs, [seed(v, leaf, out) for out, leaf in graph.outputs], graph.leaves, row)


def _at_once(graph: Graph, cotangents: F64, found: F64) -> None:
    outs, seeds = [out for out, _ in graph.outputs], []
    for out, leaf in graph.outputs:
        stacked = np.stack([from_flat(v[leaf.span], leaf) for v in cotangents])
        seeds.append(torch.from_numpy(stacked).to(out.dtype).to(out.device))
    grads = torch.autograd.grad(outs, list(graph.inputs), seeds, retain_graph=True, allow_unused=True, is_grads_batched=True)
    for k, row in enumerate(found):
        flat_of_all([None if g is None else g[k] for g in grads], graph.leaves, row)


def _sooner(graph: Graph, cotangents: F64, found: F64) -> bool:
    """Whether all at once works, gives the same as one by one, and is faster; they are in `found` then."""
    ends = np.empty((2, found.shape[1]))
    began = time.perf_counter()
    _one_by_one(graph, cotangents[[0, -1]], ends)
    alone = (time.perf_counter() - began) / 2 * len(cotangents)
    try:
        _at_once(graph, cotangents, found)  # what is done once does not count
        began = time.perf_counter()
        _at_once(graph, cotangents, found)
        together = time.perf_counter() - began
    except Exception:  # whatever keeps an operator or the user's backward from being mapped
        return False
    eps = max(EPS.get(name_of(t.dtype), 1.0) for t in graph.inputs)
    with np.errstate(all="ignore"):
        same = bool(np.all(np.abs(found[[0, -1]] - ends) <= SAME * eps * np.max(np.abs(ends))))
    return same and together <= SOONER * alone

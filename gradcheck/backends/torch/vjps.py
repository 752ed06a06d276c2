"""Products with a Jacobian by PyTorch: one by one, or batched if that works, gives the same values and is faster."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from gradcheck.backends.batching import MAX_BATCH_NUMBERS, MAX_BATCH_TIME, MIN_BATCH_SECONDS, MIN_BATCH_SIZE
from gradcheck.backends.flat import EPS, F64, Leaf, from_flat
from gradcheck.backends.torch.tensors import backpropagate, dtype_name, flat_of_all, leaf_part

if TYPE_CHECKING:
    # It fills rows with the products of vectors: (vectors, rows).
    Evaluate = Callable[[F64, F64], None]

# Rounding may change a batched row by this many units in the last place of the largest number.
MAX_BATCH_ROUNDING_ULPS = 256.0


@dataclass(frozen=True)
class BackwardGraph:
    """The ends of a backward pass.

    Attributes:
        outputs: tensors that carry a gradient, each with its leaf.
        inputs: what is differentiated with respect to.
        leaves: layout of the inputs.
    """

    outputs: Sequence[tuple[torch.Tensor, Leaf]]
    inputs: Sequence[torch.Tensor]
    leaves: tuple[Leaf, ...]


@dataclass
class BatchingChoice:
    """Whether many products are batched; None until the first try decides."""

    batched: bool | None = None


def evaluate_vjps(graph: BackwardGraph, cotangents: F64, choice: BatchingChoice) -> F64:
    """Return the products (C, N) of cotangents (C, M).

    Args:
        graph: already built; it is kept.
        cotangents: (C, M).
        choice: remembers whether to batch.

    Raises:
        DerivativeError: if the backward pass raises.
    """
    eps = max(EPS.get(dtype_name(t.dtype), 1.0) for t in graph.inputs)
    rows = np.empty((len(cotangents), graph.leaves[-1].span.stop))
    evaluate_products(
        lambda v, into: _evaluate_one_by_one(graph, v, into),
        lambda v, into: _evaluate_batched(graph, v, into),
        cotangents,
        rows,
        eps,
        choice,
    )
    return rows


def evaluate_products(
    one_by_one: Evaluate, batched: Evaluate, vectors: F64, rows: F64, eps: float, choice: BatchingChoice
) -> None:
    """Fill rows with the products of vectors, one by one or batched.

    The first time that there are many, the first and the last product are computed in both ways and must agree.

    Args:
        one_by_one: computes the products of vectors one by one.
        batched: computes them at once; it may raise anything.
        vectors: one per row.
        rows: takes the products.
        eps: relative spacing of floats in the precision of the products.
        choice: remembers whether to batch.
    """
    if len(vectors) < MIN_BATCH_SIZE or rows.size > MAX_BATCH_NUMBERS or choice.batched is False:
        one_by_one(vectors, rows)
    elif choice.batched:
        batched(vectors, rows)
    else:
        choice.batched = _evaluate_in_the_faster_way(one_by_one, batched, vectors, rows, eps)


def _evaluate_one_by_one(graph: BackwardGraph, cotangents: F64, rows: F64) -> None:
    outputs = [out for out, _ in graph.outputs]
    for row, v in zip(rows, cotangents, strict=True):
        backpropagate(outputs, graph.inputs, [leaf_part(v, leaf, out) for out, leaf in graph.outputs], graph.leaves, row)


def _evaluate_batched(graph: BackwardGraph, cotangents: F64, rows: F64) -> None:
    outputs, batches = [out for out, _ in graph.outputs], []
    for out, leaf in graph.outputs:
        stacked = np.stack([from_flat(v[leaf.span], leaf) for v in cotangents])
        batches.append(torch.from_numpy(stacked).to(out.dtype).to(out.device))
    gradients = torch.autograd.grad(
        outputs, list(graph.inputs), batches, retain_graph=True, allow_unused=True, is_grads_batched=True
    )
    for k, row in enumerate(rows):
        flat_of_all([None if g is None else g[k] for g in gradients], graph.leaves, row)


def _evaluate_in_the_faster_way(one_by_one: Evaluate, batched: Evaluate, vectors: F64, rows: F64, eps: float) -> bool:
    """Evaluate the products one by one, or batched if that works, agrees with single products and is faster; say which."""
    ends = np.empty((2, rows.shape[1]))
    start = time.perf_counter()
    one_by_one(vectors[[0, -1]], ends)
    time_one_by_one = (time.perf_counter() - start) / 2 * len(vectors)
    if time_one_by_one >= MIN_BATCH_SECONDS and _is_batching_faster(batched, vectors, rows, ends, eps, time_one_by_one):
        return True
    rows[[0, -1]] = ends
    one_by_one(vectors[1:-1], rows[1:-1])
    return False


def _is_batching_faster(batched: Evaluate, vectors: F64, rows: F64, ends: F64, eps: float, time_one_by_one: float) -> bool:
    """Say whether batching works, agrees with the first and the last product and is faster; the products are in `rows` then."""
    try:
        batched(vectors, rows)  # The first run includes costs that occur once, so the second is timed.
        start = time.perf_counter()
        batched(vectors, rows)
        time_batched = time.perf_counter() - start
    except Exception:  # An operator or the user's code may be impossible to map, for any reason.
        return False
    with np.errstate(all="ignore"):
        agrees = bool(np.all(np.abs(rows[[0, -1]] - ends) <= MAX_BATCH_ROUNDING_ULPS * eps * np.max(np.abs(ends))))
    return agrees and time_batched <= MAX_BATCH_TIME * time_one_by_one

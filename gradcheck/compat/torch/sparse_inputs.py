"""Sparse tensors as functions of all entries of a dense one: PyTorch's semantics without `masked`."""

from __future__ import annotations

from typing import Any

import torch

from gradcheck.backends.torch import sparse


def fill_pattern(dense: torch.Tensor, pattern: sparse.Pattern) -> torch.Tensor:
    """Make a sparse tensor of a dense one; its gradient becomes the dense tensor's, with zeros where it stores none.

    Args:
        dense: the entries.
        pattern: the places to store if all other entries are zero; otherwise every entry is stored.
    """
    return _FillPattern.apply(dense, pattern)  # type: ignore[no-any-return,no-untyped-call]


class _FillPattern(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, dense: torch.Tensor, pattern: sparse.Pattern) -> torch.Tensor:
        ctx.set_materialize_grads(False)  # PyTorch has no zeros for some layouts
        stored = sparse.make_sparse(sparse.read_at_pattern(dense, pattern), pattern)
        if torch.equal(stored.to_dense(), dense):
            return stored
        full = _full_pattern(dense, pattern)
        return sparse.make_sparse(sparse.read_at_pattern(dense, full), full)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor | None) -> Any:
        return None if gradient is None else gradient.to_dense() if sparse.is_sparse(gradient) else gradient, None


def _full_pattern(dense: torch.Tensor, pattern: sparse.Pattern) -> sparse.Pattern:
    """Return the pattern of the same layout that stores every entry."""
    ones = torch.ones(dense.shape, device=dense.device)
    if pattern.layout is torch.sparse_coo:
        return sparse.pattern_of(ones.to_sparse(len(pattern.indices[0])))
    is_blocked = pattern.layout in (torch.sparse_bsr, torch.sparse_bsc)
    batch_axes = pattern.indices[0].dim()
    blocksize = tuple(pattern.stored[batch_axes : batch_axes + 2]) if is_blocked else None
    return sparse.pattern_of(ones.to_sparse(layout=pattern.layout, blocksize=blocksize))

"""Sparse tensors as their stored values, which are differentiated while the pattern stays fixed.

A gradient with respect to a sparse tensor is read at the places that the tensor stores, as in PyTorch's masked semantics
(`torch.Tensor.to_dense(masked_grad=True)`). A backward may return it dense, or sparse with another pattern.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import torch

from gradcheck.errors import InputError, TargetError

MAX_DENSE_ENTRIES = 2**28  # entries up to which a sparse output is made dense, to be compared
ROW_LAYOUTS = (torch.sparse_csr, torch.sparse_bsr)
LAYOUTS = (torch.sparse_coo, torch.sparse_csc, torch.sparse_bsc, *ROW_LAYOUTS)


@dataclass(frozen=True)
class Pattern:
    """The places of the stored values of a sparse tensor.

    Attributes:
        layout: of the tensor.
        indices: one tensor (COO), or two: of the compressed axis and of the other.
        shape: of the tensor.
        stored: shape of its stored values.
        coalesced: whether no place is stored twice.
    """

    layout: torch.layout
    indices: tuple[torch.Tensor, ...]
    shape: torch.Size
    stored: torch.Size
    coalesced: bool


def is_sparse(value: Any) -> bool:
    """Say whether a value is a sparse tensor of any layout."""
    return isinstance(value, torch.Tensor) and value.layout in LAYOUTS


def convert_to_sparse(t: torch.Tensor, layout: str) -> torch.Tensor:
    """Convert a dense tensor to a sparse layout, 'sparse_coo' or 'sparse_csr', which stores its nonzero entries.

    Raises:
        InputError: if it has fewer axes than the layout needs.
    """
    if t.dim() < (2 if layout == "sparse_csr" else 1):
        raise InputError(f"layout={layout!r} of an array of shape {tuple(t.shape)}: expected rows and columns, as in (3, 4)")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch warns that the layout is in beta.
        return t.to_sparse(layout=getattr(torch, layout))


def values_of(t: torch.Tensor) -> torch.Tensor:
    """Return the stored values; if a COO tensor is not coalesced, a place may have several."""
    return t._values() if t.layout is torch.sparse_coo else t.values()


def pattern_of(t: torch.Tensor) -> Pattern:
    """Return the places of the stored values, as a copy."""
    indices = tuple(i.clone() for i in _indices(t))
    return Pattern(t.layout, indices, t.shape, values_of(t).shape, t.layout is not torch.sparse_coo or t.is_coalesced())


def _indices(t: torch.Tensor) -> tuple[torch.Tensor, ...]:
    if t.layout is torch.sparse_coo:
        return (t._indices(),)
    return (t.crow_indices(), t.col_indices()) if t.layout in ROW_LAYOUTS else (t.ccol_indices(), t.row_indices())


def make_sparse(values: torch.Tensor, pattern: Pattern) -> torch.Tensor:
    """Make a sparse tensor of stored values; its gradient becomes the gradient of the values."""
    return _MakeSparse.apply(values, pattern)  # type: ignore[no-any-return,no-untyped-call]


class _MakeSparse(torch.autograd.Function):
    """Constructor whose backward accepts a gradient of any pattern; PyTorch's constructors accept only their own pattern."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, pattern: Pattern) -> torch.Tensor:
        ctx.pattern = pattern
        return _construct(values, pattern)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        return read_at_pattern(gradient, ctx.pattern), None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        raise NotImplementedError("PyTorch has no forward mode for sparse tensors")


def _construct(values: torch.Tensor, pattern: Pattern) -> torch.Tensor:
    options: dict[str, Any] = {"size": pattern.shape, "check_invariants": False}  # They held when the user made the tensor.
    if pattern.layout is torch.sparse_coo:
        return torch.sparse_coo_tensor(pattern.indices[0], values, **options, is_coalesced=pattern.coalesced)
    compressed: Any = torch.sparse_compressed_tensor  # PyTorch annotates it with the types of another function.
    return compressed(*pattern.indices, values, **options, layout=pattern.layout)  # type: ignore[no-any-return]


def read_at_pattern(tensor: torch.Tensor, pattern: Pattern) -> torch.Tensor:
    """Return the entries of a tensor, dense or sparse, at the places of a pattern; 0 if the tensor stores none there."""
    places = _flat_places(pattern)
    if not is_sparse(tensor):
        return tensor.reshape(-1)[places].reshape(pattern.stored)
    tensor = tensor.coalesce() if tensor.layout is torch.sparse_coo else tensor
    stored_places, order = torch.sort(_flat_places(pattern_of(tensor)))
    padded = torch.cat([tensor.values().reshape(-1)[order], tensor.values().new_zeros(1)])
    positions = torch.searchsorted(stored_places, places)
    is_stored = torch.isin(places, stored_places)
    return padded[torch.where(is_stored, positions, len(stored_places))].reshape(pattern.stored)


def _flat_places(pattern: Pattern) -> torch.Tensor:
    """Return the place of each stored number in the flat dense tensor."""
    if pattern.layout is torch.sparse_coo:
        return _flat_block_places(pattern.indices[0], pattern.shape).reshape(-1)
    count = pattern.stored.numel()
    numbered = _construct(torch.arange(count, device=pattern.indices[0].device).reshape(pattern.stored), pattern).to_sparse()
    places = torch.empty(count, dtype=torch.int64, device=numbered.device)
    places[numbered._values().reshape(-1)] = _flat_block_places(numbered._indices(), pattern.shape).reshape(-1)
    return places


def _flat_block_places(indices: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """Return the flat places of the entries of stored blocks, (stored blocks, entries of a block)."""
    block = shape[len(indices) :].numel()
    block_numbers = torch.zeros(indices.shape[1], dtype=torch.int64, device=indices.device)
    for index, size in zip(indices, shape, strict=False):
        block_numbers = block_numbers * size + index
    return block_numbers[:, None] * block + torch.arange(block, device=indices.device)


def is_same_tensor(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Say whether two tensors, sparse or not, have the same layout and values."""
    if a.layout is not b.layout or a.shape != b.shape:
        return False
    parts = [(values_of(t.detach()), *_indices(t.detach())) if is_sparse(t) else (t,) for t in (a, b)]
    return all(map(torch.equal, *parts))


def make_dense(t: torch.Tensor) -> torch.Tensor:
    """Convert a sparse output to a dense one, with its graph.

    Raises:
        TargetError: if it would be too large.
    """
    if t.numel() > MAX_DENSE_ENTRIES:
        raise TargetError(
            f"an output is a sparse tensor of shape {tuple(t.shape)}: it would be compared as {t.numel():.1e} numbers; "
            "return its stored values, as in out.coalesce().values()"
        )
    return t.to_dense()

"""Sparse tensors as their stored values: what is differentiated of them is those, while the pattern stays as it is.

A gradient with respect to a sparse tensor is read where the tensor stores something, as PyTorch's own masked semantics are
(`torch.Tensor.to_dense(masked_grad=True)`), whatever form a backward gives it: dense, or sparse with a pattern of its own.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import torch

from gradcheck.errors import InputError, TargetError

DENSE = 2**28  # entries of a sparse output, which is looked at as a dense one
BY_ROWS = (torch.sparse_csr, torch.sparse_bsr)
LAYOUTS = (torch.sparse_coo, torch.sparse_csc, torch.sparse_bsc, *BY_ROWS)


@dataclass(frozen=True)
class Pattern:
    """Where the values of a sparse tensor lie.

    Attributes:
        indices: one tensor (COO), or two: of the compressed axis and of the other.
        shape, stored: of the tensor, and of its values.
        coalesced: whether no place is stored twice.
    """

    layout: torch.layout
    indices: tuple[torch.Tensor, ...]
    shape: torch.Size
    stored: torch.Size
    coalesced: bool


def is_sparse(value: Any) -> bool:
    """Whether a value is a sparse tensor of any layout."""
    return isinstance(value, torch.Tensor) and value.layout in LAYOUTS


def made_sparse(t: torch.Tensor, layout: str) -> torch.Tensor:
    """A dense tensor in a sparse layout, 'sparse_coo' or 'sparse_csr', which stores what is not 0.

    Raises:
        InputError: where it has fewer axes than the layout needs.
    """
    if t.dim() < (2 if layout == "sparse_csr" else 1):
        raise InputError(f"layout={layout!r} of an array of shape {tuple(t.shape)}: expected rows and columns, as in (3, 4)")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the layout is new is no news to who asks for it
        return t.to_sparse(layout=getattr(torch, layout))


def values_of(t: torch.Tensor) -> torch.Tensor:
    """The stored values, as they lie; of a COO tensor that is not coalesced each by itself."""
    return t._values() if t.layout is torch.sparse_coo else t.values()


def pattern_of(t: torch.Tensor) -> Pattern:
    """Where they lie; a copy."""
    indices = tuple(i.clone() for i in _indices(t))
    return Pattern(t.layout, indices, t.shape, values_of(t).shape, t.layout is not torch.sparse_coo or t.is_coalesced())


def _indices(t: torch.Tensor) -> tuple[torch.Tensor, ...]:
    if t.layout is torch.sparse_coo:
        return (t._indices(),)
    return (t.crow_indices(), t.col_indices()) if t.layout in BY_ROWS else (t.ccol_indices(), t.row_indices())


def laid(values: torch.Tensor, pattern: Pattern) -> torch.Tensor:
    """The sparse tensor of some values; its gradient becomes that of the values."""
    return _Laid.apply(values, pattern)  # type: ignore[no-any-return,no-untyped-call]


class _Laid(torch.autograd.Function):
    """PyTorch's own constructors take a gradient of their own pattern alone."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, pattern: Pattern) -> torch.Tensor:
        ctx.pattern = pattern
        return _made(values, pattern)

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor) -> Any:
        return read(g, ctx.pattern), None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        raise NotImplementedError("PyTorch has no forward mode for sparse tensors")


def _made(values: torch.Tensor, pattern: Pattern) -> torch.Tensor:
    options: dict[str, Any] = {"size": pattern.shape, "check_invariants": False}  # as they were when the tensor was made
    if pattern.layout is torch.sparse_coo:
        return torch.sparse_coo_tensor(pattern.indices[0], values, **options, is_coalesced=pattern.coalesced)
    compressed: Any = torch.sparse_compressed_tensor  # whose types are those of another function
    return compressed(*pattern.indices, values, **options, layout=pattern.layout)  # type: ignore[no-any-return]


def read(g: torch.Tensor, pattern: Pattern) -> torch.Tensor:
    """The numbers of a tensor of the pattern's shape, dense or sparse, at what the pattern stores; 0 where `g` stores none."""
    places = _places(pattern)
    if not is_sparse(g):
        return g.reshape(-1)[places].reshape(pattern.stored)
    g = g.coalesce() if g.layout is torch.sparse_coo else g
    known, order = torch.sort(_places(pattern_of(g)))
    padded = torch.cat([g.values().reshape(-1)[order], g.values().new_zeros(1)])
    at = torch.searchsorted(known, places)
    found = torch.isin(places, known)
    return padded[torch.where(found, at, len(known))].reshape(pattern.stored)


def _places(pattern: Pattern) -> torch.Tensor:
    """Of each stored number its place in the flat dense tensor."""
    if pattern.layout is torch.sparse_coo:
        return _flat(pattern.indices[0], pattern.shape).reshape(-1)
    count = pattern.stored.numel()
    numbered = _made(torch.arange(count, device=pattern.indices[0].device).reshape(pattern.stored), pattern).to_sparse()
    places = torch.empty(count, dtype=torch.int64, device=numbered.device)
    places[numbered._values().reshape(-1)] = _flat(numbered._indices(), pattern.shape).reshape(-1)
    return places


def _flat(indices: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """Places of the stored blocks, (stored, entries of a block)."""
    block = shape[len(indices) :].numel()
    first = torch.zeros(indices.shape[1], dtype=torch.int64, device=indices.device)
    for index, size in zip(indices, shape, strict=False):
        first = first * size + index
    return first[:, None] * block + torch.arange(block, device=indices.device)


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether two tensors, sparse or not, hold the same."""
    if a.layout is not b.layout or a.shape != b.shape:
        return False
    parts = [(values_of(t.detach()), *_indices(t.detach())) if is_sparse(t) else (t,) for t in (a, b)]
    return all(map(torch.equal, *parts))


def dense(t: torch.Tensor) -> torch.Tensor:
    """A sparse output as a dense one, which its gradient goes through.

    Raises:
        TargetError: where that would be too large.
    """
    if t.numel() > DENSE:
        raise TargetError(
            f"an output is a sparse tensor of shape {tuple(t.shape)}: it would be compared as {t.numel():.1e} numbers; "
            "return its stored values, as in out.coalesce().values()"
        )
    return t.to_dense()

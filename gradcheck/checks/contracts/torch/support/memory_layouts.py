"""Layouts in memory that one and the same tensor may have."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

# A tensor that is the end of a larger one has this many numbers in front of it. PyTorch's own backward of view_as_real raises
# for an odd count.
LEADING_NUMBERS = 2


def transpose_in_memory(x: Tensor) -> Tensor:
    """Swap the last two axes in memory."""
    return x.transpose(-1, -2).contiguous().transpose(-1, -2) if x.dim() > 1 else x


def slice_from_larger(x: Tensor) -> Tensor:
    """Make every other entry of a larger tensor, the rest of which is NaN."""
    larger = torch.full((*x.shape, 2), torch.nan, dtype=x.dtype, device=x.device)
    larger[..., 0] = x
    return larger[..., 0]


def put_at_end(x: Tensor) -> Tensor:
    """Make the end of a larger tensor, the rest of which is NaN."""
    larger = torch.full((x.numel() + LEADING_NUMBERS,), torch.nan, dtype=x.dtype, device=x.device)
    larger[LEADING_NUMBERS:] = x.reshape(-1)
    return larger[LEADING_NUMBERS:].view(x.shape)


def make_channels_last(x: Tensor) -> Tensor:
    """Put the channels of images last in memory."""
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x


def conjugate_lazily(x: Tensor) -> Tensor:
    """Leave the conjugation of complex numbers to be done later, as `.conj()` does."""
    return x.conj_physical().conj() if x.is_complex() else x


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "transposed in memory": transpose_in_memory,
    "sliced": slice_from_larger,
    "the end of a larger tensor": put_at_end,
    "channels-last": make_channels_last,
    "lazily conjugated": conjugate_lazily,
}


def apply_layout(tensors: list[Tensor], layout: Callable[[Tensor], Tensor]) -> list[Tensor] | None:
    """Copy all tensors into a layout; None if that changes the layout of none of them."""
    copies = [layout(x.detach().clone()) for x in tensors]
    return None if [_layout_of(x) for x in copies] == [_layout_of(x) for x in tensors] else copies


def _layout_of(x: Tensor) -> tuple[object, ...]:
    return x.stride(), x.storage_offset(), x.is_conj()

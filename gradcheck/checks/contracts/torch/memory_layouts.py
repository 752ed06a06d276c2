"""Forms in memory that one and the same tensor may have."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


BEFORE = 2  # numbers: PyTorch's own backward of view_as_real raises where they are odd in number


def transposed(x: Tensor) -> Tensor:
    """With the last two axes swapped in memory."""
    return x.transpose(-1, -2).contiguous().transpose(-1, -2) if x.dim() > 1 else x


def sliced(x: Tensor) -> Tensor:
    """Every other entry of a larger tensor, the rest of which is NaN."""
    wide = torch.full((*x.shape, 2), torch.nan, dtype=x.dtype, device=x.device)
    wide[..., 0] = x
    return wide[..., 0]


def offset(x: Tensor) -> Tensor:
    """The end of a larger tensor."""
    long = torch.full((x.numel() + BEFORE,), torch.nan, dtype=x.dtype, device=x.device)
    long[BEFORE:] = x.reshape(-1)
    return long[BEFORE:].view(x.shape)


def channels_last(x: Tensor) -> Tensor:
    """With the channels of images last in memory."""
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x


def conjugated(x: Tensor) -> Tensor:
    """Complex numbers whose conjugation is yet to be done, as .conj() leaves them."""
    return x.conj_physical().conj() if x.is_complex() else x


FORMS: dict[str, Callable[[Tensor], Tensor]] = {
    "transposed in memory": transposed,
    "sliced": sliced,
    "the end of a larger tensor": offset,
    "channels-last": channels_last,
    "lazily conjugated": conjugated,
}


def formed(tensors: list[Tensor], form: Callable[[Tensor], Tensor]) -> list[Tensor] | None:
    """All tensors in a form; None where that is no other form for any of them."""
    made = [form(x.detach().clone()) for x in tensors]
    return None if [_form(x) for x in made] == [_form(x) for x in tensors] else made


def _form(x: Tensor) -> tuple[object, ...]:
    return x.stride(), x.storage_offset(), x.is_conj()

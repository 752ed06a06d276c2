"""Make smaller inputs out of a layer's own, and shrink the other tensors of the call to fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gradcheck.checks.contracts.torch.support.plain_vjp import Baseline, NotApplicable

if TYPE_CHECKING:
    from gradcheck.backends.contract_target import LayerFunction


def shrink_batch(base: Baseline, rows: int) -> tuple[list[Tensor], LayerFunction]:
    """Cut every batch among the leaves to its first rows; return new leaves and a call of the layer with them.

    A batch shares its first axis with every output or, if the outputs are single numbers such as a loss, with every other
    input. Labels, masks and all other tensors with as many rows are cut in the same way.

    Raises:
        NotApplicable: if nothing looks like a batch, or integers may be indices of rows that are gone.
    """
    is_input = [not leaf.path.startswith("params[") and bool(leaf.shape) for leaf in base.layer.leaves]
    shared = {tuple(out.shape[:1]) for out in base.outputs}
    if shared == {()}:
        shared = {leaf.shape[:1] for leaf, counts in zip(base.layer.leaves, is_input, strict=True) if counts}
    is_batch = [counts and {leaf.shape[:1]} == shared for leaf, counts in zip(base.layer.leaves, is_input, strict=True)]
    if not any(is_batch):
        raise NotApplicable("the outputs have no first axis in common with an input")
    (size,) = shared.pop()
    tensors = [x[:rows] if cut else x for x, cut in zip(base.inputs, is_batch, strict=True)]
    return shrink_leaves(base, tensors, lambda x: x[:rows] if x.dim() and len(x) == size else x, rows)


def shrink_leaves(
    base: Baseline, tensors: Sequence[Tensor], shrink: Callable[[Tensor], Tensor], rows: int
) -> tuple[list[Tensor], LayerFunction]:
    """Make new leaves of smaller tensors, and a call of the layer with them.

    Args:
        tensors: the values of the new leaves.
        shrink: shrinks another tensor of the call if it has to fit, or returns it unchanged.
        rows: how many rows are left: larger indices would point outside.

    Raises:
        NotApplicable: if integers may be indices of rows that are gone, or a kernel may access memory without a bound.
    """
    if base.layer.uses_triton:
        raise NotApplicable("a Triton kernel without a mask would read and write beyond smaller inputs, and end the process")
    for indices in base.layer.index_buffers:
        _guard_indices(indices, indices, rows)
    call = base.layer.with_changed_constants(lambda x: _guard_indices(x, shrink(x), rows))
    return [x.detach().clone().requires_grad_() for x in tensors], call


def _guard_indices(x: Tensor, shrunk: Tensor, rows: int) -> Tensor:
    """Return a shrunk tensor in which no index leads a kernel outside of the smaller inputs.

    Labels and indices count from 0: if `x` contains 0 and has been shrunk, it may just as well be 0 everywhere.

    Raises:
        NotApplicable: if integers may be indices of rows that are gone.
    """
    if x.is_floating_point() or x.is_complex() or x.dtype is torch.bool or not shrunk.numel():
        return shrunk
    if shrunk is not x and int(x.min()) == 0:
        return torch.zeros_like(shrunk)
    if int(shrunk.min()) < 0 or int(shrunk.max()) >= rows:
        raise NotApplicable("there are integers, which may be indices of rows that smaller inputs do not have")
    return shrunk

"""Smaller inputs made of a layer's own, and what stands beside them made to fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch

from gradcheck.checks.contracts.torch.plain_vjp import Unsupported

if TYPE_CHECKING:
    from torch import Tensor

    from gradcheck.backends.layer_view import Call
    from gradcheck.checks.contracts.torch.plain_vjp import Baseline


def cut(base: Baseline, rows: int) -> tuple[list[Tensor], Call]:
    """New leaves, the batches among them with so many of their rows alone, and what calls the layer with them.

    A batch shares its first axis with every output; where these are single numbers, as of a loss, with every other input.
    Labels, masks and whatever else has as many rows are cut alike.

    Raises:
        Unsupported: where nothing looks like a batch, or where integers may be indices of rows that are gone.
    """
    given = [not leaf.path.startswith("params[") and bool(leaf.shape) for leaf in base.layer.leaves]
    shared = {tuple(out.shape[:1]) for out in base.outputs}
    if shared == {()}:
        shared = {leaf.shape[:1] for leaf, so in zip(base.layer.leaves, given, strict=True) if so}
    batched = [so and {leaf.shape[:1]} == shared for leaf, so in zip(base.layer.leaves, given, strict=True)]
    if not any(batched):
        raise Unsupported("the outputs have no first axis in common with an input")
    (size,) = shared.pop()
    made = [x[:rows] if so else x for x, so in zip(base.inputs, batched, strict=True)]
    return smaller(base, made, lambda x: x[:rows] if x.dim() and len(x) == size else x, rows)


def smaller(base: Baseline, made: Sequence[Tensor], change: Callable[[Tensor], Tensor], rows: int) -> tuple[list[Tensor], Call]:
    """New leaves, and what calls the layer with them.

    Args:
        made: what the leaves are made of.
        change: makes what stands beside them smaller, if it is to be.
        rows: how many are left: all other indices would point outside.

    Raises:
        Unsupported: where integers may be indices of what is gone, or memory is read unguarded.
    """
    if base.layer.triton:
        raise Unsupported("a Triton kernel without a mask would read and write beyond smaller inputs, and end the process")
    for held in base.layer.indices:
        _fitting(held, held, rows)
    call = base.layer.beside(lambda x: _fitting(x, change(x), rows))
    return [x.detach().clone().requires_grad_() for x in made], call


def _fitting(x: Tensor, made: Tensor, rows: int) -> Tensor:
    """What stands beside smaller inputs, where a kernel that does not look may be led outside of these by no index.

    Labels and indices count from 0: where x does, and has been made smaller, it may well be 0 throughout.
    """
    if x.is_floating_point() or x.is_complex() or x.dtype is torch.bool or not made.numel():
        return made
    if made is not x and int(x.min()) == 0:
        return torch.zeros_like(made)
    if int(made.min()) < 0 or int(made.max()) >= rows:
        raise Unsupported("there are integers, which may be indices of what smaller inputs have no longer")
    return made

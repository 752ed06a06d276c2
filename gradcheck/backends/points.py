"""A torch target's leaves at a point, and the numbers of what it returns there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from gradcheck.backends.tensors import WIDE, flat_of, like_layout, tensor_of, with_moved
from gradcheck.trees import flatten

if TYPE_CHECKING:
    from gradcheck.backends.calls import Binding
    from gradcheck.backends.program import F64


def leaves_at(bound: Binding, point: F64, *, wide: bool = False, requires_grad: bool = False) -> list[Any]:
    """Every leaf at a point, in its own dtype or widened: new tensors throughout, nothing of the user's can change."""
    moved = {}
    for i, leaf in zip(bound.places, bound.leaves, strict=True):
        template = bound.call.leaves[i]
        dtype = getattr(torch, leaf.dtype)
        made = tensor_of(point[leaf.span], leaf, WIDE.get(dtype, dtype) if wide else dtype)
        if isinstance(template, torch.Tensor):
            made = like_layout(made.to(template.device), template)
        moved[i] = made.requires_grad_() if requires_grad else made
    return with_moved(bound.call.leaves, moved, wide)


def numbers_of(returned: Any, bound: Binding) -> F64:
    """The differentiable outputs among what was returned, as one vector."""
    found = flatten(returned).leaves
    return np.concatenate([flat_of(found[i]) for i in bound.kept])

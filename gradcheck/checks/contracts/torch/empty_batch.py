"""Contract `empty-batch`: a batch without rows has gradients, too, empty ones and zero for what the rows share."""

from __future__ import annotations

import numpy as np
import torch

from gradcheck.checks.contracts.torch.support.plain_vjp import Baseline, NotApplicable, Remark, compute_flat_vjp
from gradcheck.checks.contracts.torch.support.shrink_batch import shrink_batch
from gradcheck.tracebacks import format_user_line, summarise_error

NAME = "empty-batch"
FIX = "look for a mean over the rows or a division by their number in the backward"


def find_breach(base: Baseline) -> str:
    """Name a gradient of an empty batch that is not zero; '' if there is none.

    Raises:
        Remark: if the forward accepts an empty batch but the backward refuses it.
        NotApplicable: if nothing looks like a batch, or the forward refuses an empty one.
    """
    leaves, call = shrink_batch(base, 0)
    try:
        outputs = call(leaves)
    except Exception as error:
        raise NotApplicable(f"a batch without rows is refused: {type(error).__name__}") from error
    if any(out.numel() for out in outputs):
        raise NotApplicable("the outputs of a batch without rows are not empty")
    try:
        gradients = compute_flat_vjp(outputs, leaves, [torch.zeros_like(out) for out in outputs])
    except Exception as error:
        cause = f"{summarise_error(error, 120)}{format_user_line(error)}"
        raise Remark(f"for a batch without rows, accepted by the forward, the backward raises {cause}") from error
    for leaf, g in zip(base.layer.leaves, gradients, strict=True):
        if not np.all(np.abs(g) <= 0):
            worst = g[int(np.argmax(np.abs(g)))]
            return f"for a batch without rows the gradient of {leaf.path} is {worst:.6g} instead of 0"
    return ""

"""A batch without a row has gradients, too: empty ones, and zero for what the rows share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from gradcheck.checks.contracts.torch import plain_vjp as plain
from gradcheck.checks.contracts.torch.plain_vjp import Remarked, Unsupported
from gradcheck.checks.contracts.torch.shrink_batch import cut
from gradcheck.tracebacks import one_line, user_line

if TYPE_CHECKING:
    from gradcheck.checks.contracts.torch.plain_vjp import Baseline

NAME = "empty-batch"
MEND = "look for a mean over the rows or a division by their number in the backward"


def broken(base: Baseline) -> str:
    """Which gradient of an empty batch is not zero; '' where none is.

    Raises:
        Remarked: where the backward alone refuses one.
        Unsupported: where nothing looks like a batch, or the forward refuses an empty one.
    """
    leaves, call = cut(base, 0)
    try:
        outputs = call(leaves)
    except Exception as error:
        raise Unsupported(f"a batch without a row is refused: {type(error).__name__}") from error
    if any(out.numel() for out in outputs):
        raise Unsupported("the outputs of a batch without a row are not empty")
    try:
        found = plain.rows(outputs, leaves, [torch.zeros_like(out) for out in outputs])
    except Exception as error:
        raise Remarked(
            f"of a batch without a row, which the forward takes, the backward raises {one_line(error, 120)}{user_line(error)}"
        ) from error
    for leaf, g in zip(base.layer.leaves, found, strict=True):
        if not np.all(np.abs(g) <= 0):
            return f"of a batch without a row the gradient of {leaf.path} is {g[int(np.argmax(np.abs(g)))]:.6g} in place of 0"
    return ""

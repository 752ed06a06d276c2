"""The outputs are the same whether gradients are recorded or not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from gradcheck.checks.contracts.torch import plain_vjp as plain
from gradcheck.checks.contracts.torch.plain_vjp import Unsupported

if TYPE_CHECKING:
    from gradcheck.checks.contracts.torch.plain_vjp import Baseline

NAME = "primal"
MEND = "does the forward take another way where gradients are recorded?"


def broken(base: Baseline) -> str:
    """How they differ; '' where they do not, or where they differ on every call.

    Raises:
        Unsupported: where the forward needs gradients, as one that calls autograd itself.
    """
    try:
        with torch.no_grad():
            outputs = base.layer.call([x.clone() for x in base.inputs])
    except Exception as error:
        raise Unsupported(f"it does not run under no_grad: {type(error).__name__}") from error
    told = plain.other_outputs(base, outputs)
    if not told or plain.other_outputs(base, base.layer.call(base.leaves())):
        return ""
    return f"under no_grad {told}"

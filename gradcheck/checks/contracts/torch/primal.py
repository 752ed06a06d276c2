"""Contract `primal`: the outputs are the same whether gradients are recorded or not."""

from __future__ import annotations

import torch

from gradcheck.checks.contracts.torch.support.plain_vjp import Baseline, NotApplicable, compare_outputs

NAME = "primal"
FIX = "does the forward take another branch when gradients are recorded?"


def find_breach(base: Baseline) -> str:
    """Describe how the outputs differ under `no_grad`; '' if they do not, or if they differ on every call.

    Raises:
        NotApplicable: if the forward needs gradients, for example because it calls autograd itself.
    """
    try:
        with torch.no_grad():
            outputs = base.layer.call([x.clone() for x in base.inputs])
    except Exception as error:
        raise NotApplicable(f"it does not run under no_grad: {type(error).__name__}") from error
    difference = compare_outputs(base, outputs)
    if not difference or compare_outputs(base, base.layer.call(base.new_leaves())):
        return ""
    return f"under no_grad {difference}"

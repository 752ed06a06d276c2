"""Contract `state`: a backward belongs to its own forward, whatever was called in between."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck.backends.torch.parameter_swap import swap_scope
from gradcheck.checks.contracts.torch.support.plain_vjp import compare_gradients, compute_flat_vjp, compute_vjp

if TYPE_CHECKING:
    from gradcheck.checks.contracts.torch.support.plain_vjp import Baseline

NAME = "state"
FIX = "keep what the backward needs in ctx, not in a global, in the class or in the module"


def find_breach(base: Baseline) -> str:
    """Describe how the gradient differs after another forward and backward in between; '' if it does not."""
    leaves, other_leaves = base.new_leaves(), base.new_other_leaves()
    outputs = base.layer.call(leaves)
    try:
        with swap_scope(separate=True):
            compute_vjp(base.layer.call(other_leaves), other_leaves, base.new_cotangents())
    except Exception:  # the function may not be defined at the other inputs
        return ""
    difference = compare_gradients(base, compute_flat_vjp(outputs, leaves, base.new_cotangents()))
    return f"after a call with other inputs {difference}" if difference else ""

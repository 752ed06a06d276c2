"""Contract `retain-graph`: a second backward through a retained graph gives the same gradient."""

from __future__ import annotations

from gradcheck.checks.contracts.torch.support.plain_vjp import Baseline, compare_gradients, compute_flat_vjp, compute_vjp

NAME = "retain-graph"
FIX = "use ctx.save_for_backward, and change nothing that is saved"


def find_breach(base: Baseline) -> str:
    """Describe how the gradient differs the second time; '' if it does not."""
    leaves, outputs = base.new_call()
    compute_vjp(outputs, leaves, base.new_cotangents(), retain_graph=True)
    difference = compare_gradients(base, compute_flat_vjp(outputs, leaves, base.new_cotangents()))
    return f"the second time {difference}" if difference else ""

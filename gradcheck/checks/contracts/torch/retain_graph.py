"""A graph that is retained can be gone through again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck.checks.contracts.torch import plain_vjp as plain

if TYPE_CHECKING:
    from gradcheck.checks.contracts.torch.plain_vjp import Baseline

NAME = "retain-graph"
MEND = "use ctx.save_for_backward, and change nothing that is saved"


def broken(base: Baseline) -> str:
    """How the gradient differs the second time; '' where it does not."""
    leaves = base.leaves()
    outputs = base.layer.call(leaves)
    plain.pulled(outputs, leaves, base.given(), retain_graph=True)
    told = plain.other(base, plain.rows(outputs, leaves, base.given()))
    return f"the second time {told}" if told else ""

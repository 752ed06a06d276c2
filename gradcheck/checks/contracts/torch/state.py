"""A backward belongs to its own forward, whatever was called in between."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck.backends.torch.parameter_swap import until_differentiated
from gradcheck.checks.contracts.torch import plain_vjp as plain

if TYPE_CHECKING:
    from gradcheck.checks.contracts.torch.plain_vjp import Baseline

NAME = "state"
MEND = "keep what the backward needs in ctx, not in a global, in the class or in the module"
OTHER = 0.75  # times the inputs: what is called in between


def broken(base: Baseline) -> str:
    """How the gradient differs where another forward and backward came in between; '' where it does not."""
    leaves, others = base.leaves(), [(OTHER * x).detach().requires_grad_() for x in base.inputs]
    outputs = base.layer.call(leaves)
    try:
        with until_differentiated(apart=True):
            plain.pulled(base.layer.call(others), others, base.given())
    except Exception:  # the function may not be defined there
        return ""
    told = plain.other(base, plain.rows(outputs, leaves, base.given()))
    return f"after a call with other inputs {told}" if told else ""

"""The same backward twice gives the same gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck.checks.contracts.torch import plain_vjp as plain

if TYPE_CHECKING:
    from gradcheck.checks.contracts.torch.plain_vjp import Baseline

NAME = "deterministic-backward"
MEND = "is memory read that was never written, or a random number drawn?"


def broken(base: Baseline) -> str:
    """How a gradient that is asked for anew differs; '' where it does not."""
    leaves = base.leaves()
    again = plain.rows(base.layer.call(leaves), leaves, base.given())
    return plain.other(base, again, same_inputs=True)

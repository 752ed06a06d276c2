"""Under torch.utils.checkpoint, which calls the forward again, the gradient is the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.utils.checkpoint import checkpoint

from gradcheck.checks.contracts import baseline as plain

if TYPE_CHECKING:
    from gradcheck.checks.contracts.baseline import Baseline

NAME = "checkpoint"
MEND = "save tensors by ctx.save_for_backward: checkpointing drops and computes these again"


def broken(base: Baseline) -> str:
    """How the gradient differs under checkpointing; '' where it does not."""
    leaves = base.leaves()
    outputs = checkpoint(lambda *given: base.layer.call(given), *leaves, use_reentrant=False)
    told = plain.other(base, plain.numbers(plain.pulled(outputs, leaves, base.given()), leaves))
    return f"under checkpointing {told}" if told else ""

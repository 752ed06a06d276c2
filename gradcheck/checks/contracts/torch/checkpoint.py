"""Under torch.utils.checkpoint, which calls the forward again, the gradient is the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.utils.checkpoint import CheckpointError, checkpoint

from gradcheck.checks.contracts.torch import plain_vjp as plain
from gradcheck.checks.contracts.torch.plain_vjp import Remarked

if TYPE_CHECKING:
    from gradcheck.checks.contracts.torch.plain_vjp import Baseline

NAME = "checkpoint"
MEND = "save tensors by ctx.save_for_backward: checkpointing drops and computes these again"
TWICE = "under torch.utils.checkpoint it raises, as ctx.saved_tensors may be read only once there: x, w = ctx.saved_tensors"


def broken(base: Baseline) -> str:
    """How the gradient differs under checkpointing; '' where it does not.

    Raises:
        Remarked: where PyTorch refuses a backward that is right otherwise.
    """
    leaves = base.leaves()
    outputs = checkpoint(lambda *given: base.layer.call(given), *leaves, use_reentrant=False)
    try:
        found = plain.rows(outputs, leaves, base.given())
    except CheckpointError as error:
        if "already unpacked" in str(error):
            raise Remarked(TWICE) from error
        raise
    told = plain.other(base, found)
    return f"under checkpointing {told}" if told else ""

"""Contract `checkpoint`: under torch.utils.checkpoint, which calls the forward again, the gradient is the same."""

from __future__ import annotations

from torch.utils.checkpoint import CheckpointError, checkpoint

from gradcheck.checks.contracts.torch.support.plain_vjp import Baseline, Remark, compare_gradients, compute_flat_vjp

NAME = "checkpoint"
FIX = "save tensors with ctx.save_for_backward: checkpointing drops them and computes them again"
TWICE = (
    "under torch.utils.checkpoint the backward raises, because ctx.saved_tensors may be read only once there; read it once:"
    " x, w = ctx.saved_tensors"
)


def find_breach(base: Baseline) -> str:
    """Describe how the gradient differs under checkpointing; '' if it does not.

    Raises:
        Remark: if PyTorch refuses a backward that reads its saved tensors twice, although its gradient is right.
    """
    leaves = base.new_leaves()
    outputs = checkpoint(lambda *tensors: base.layer.call(tensors), *leaves, use_reentrant=False)
    try:
        gradients = compute_flat_vjp(outputs, leaves, base.new_cotangents())
    except CheckpointError as error:
        if "already unpacked" in str(error):
            raise Remark(TWICE) from error
        raise
    difference = compare_gradients(base, gradients)
    return f"under checkpointing {difference}" if difference else ""

"""Gradients add up in .grad."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from gradcheck.checks.contracts.torch import plain_vjp as plain

if TYPE_CHECKING:
    from gradcheck.checks.contracts.torch.plain_vjp import Baseline

NAME = "accumulation"
MEND = "return new tensors from the backward, not buffers that are written again"


def broken(base: Baseline) -> str:
    """How .grad differs after two backwards; '' where it does not."""
    leaves = base.leaves()
    for _ in range(2):
        outputs = base.layer.call(leaves)
        attached = [(out, v) for out, v in zip(outputs, base.given(), strict=True) if out.requires_grad]
        torch.autograd.backward([out for out, _ in attached], [v for _, v in attached], inputs=leaves)
    expected = [2 * g for g in base.gradients]
    told = plain.other(base, plain.numbers([x.grad for x in leaves], leaves), expected=expected)
    return f"in .grad, after a second backward, {told}" if told else ""

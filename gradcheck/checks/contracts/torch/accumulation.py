"""Contract `accumulation`: gradients add up in `.grad`."""

from __future__ import annotations

import torch

from gradcheck.checks.contracts.torch.support.plain_vjp import Baseline, compare_gradients, flatten_gradients

NAME = "accumulation"
FIX = "return new tensors from the backward, not buffers that are written again"


def find_breach(base: Baseline) -> str:
    """Describe how `.grad` differs from twice the gradient after two backwards; '' if it does not."""
    leaves = base.new_leaves()
    for _ in range(2):
        outputs = base.layer.call(leaves)
        attached = [(out, v) for out, v in zip(outputs, base.new_cotangents(), strict=True) if out.requires_grad]
        torch.autograd.backward([out for out, _ in attached], [v for _, v in attached], inputs=leaves)
    expected = [2 * g for g in base.gradients]
    difference = compare_gradients(base, flatten_gradients([x.grad for x in leaves], leaves), expected=expected)
    return f"in .grad, after a second backward, {difference}" if difference else ""

"""Contract `backward-intact`: a backward leaves its cotangents, the inputs and the outputs as they are."""

from __future__ import annotations

import torch

from gradcheck.checks.contracts.torch.support.plain_vjp import Baseline, compute_vjp

NAME = "backward-intact"
FIX = "others may use the tensors that the backward receives: compute into new ones"


def find_breach(base: Baseline) -> str:
    """Name the tensors that a backward has changed in place; '' if there is none."""
    leaves, cotangents = base.new_leaves(), base.new_cotangents()
    outputs = base.layer.call(leaves)
    inputs = [x.detach().clone() for x in leaves]  # a forward that writes to its inputs is reported elsewhere
    kinds = (
        ("the cotangent of ", base.layer.outputs, cotangents, base.cotangents),
        ("the input ", base.layer.leaves, leaves, inputs),
        ("the output ", base.layer.outputs, outputs, [out.detach().clone() for out in outputs]),
    )
    compute_vjp(outputs, leaves, cotangents)
    changed = [
        kind + leaf.path
        for kind, named, after, before in kinds
        for leaf, a, b in zip(named, after, before, strict=True)
        if not torch.equal(a.detach(), b)
    ]
    return f"the backward changes {', '.join(changed)} in place" if changed else ""

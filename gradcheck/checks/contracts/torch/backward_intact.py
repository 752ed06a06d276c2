"""A backward leaves its cotangents, the inputs and the outputs as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from gradcheck.checks.contracts.torch import plain_vjp as plain

if TYPE_CHECKING:
    from gradcheck.checks.contracts.torch.plain_vjp import Baseline

NAME = "backward-intact"
MEND = "what the backward is given may be used by others: compute into new tensors"


def broken(base: Baseline) -> str:
    """What a backward has changed; '' where nothing."""
    leaves, cotangents = base.leaves(), base.given()
    outputs = base.layer.call(leaves)
    inputs = [x.detach().clone() for x in leaves]  # a forward may write to its own, which is told elsewhere
    kinds = (
        ("the cotangent of ", base.layer.outputs, cotangents, base.cotangents),
        ("the input ", base.layer.leaves, leaves, inputs),
        ("the output ", base.layer.outputs, outputs, [out.detach().clone() for out in outputs]),
    )
    plain.pulled(outputs, leaves, cotangents)
    changed = [
        kind + leaf.path
        for kind, named, now, before in kinds
        for leaf, a, b in zip(named, now, before, strict=True)
        if not torch.equal(a.detach(), b)
    ]
    return f"the backward changes {', '.join(changed)} in place" if changed else ""

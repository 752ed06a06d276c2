"""Contract `cotangent-layout`: a backward reads its cotangent correctly whatever its layout in memory."""

from __future__ import annotations

import torch

from gradcheck.checks.contracts.torch.support.memory_layouts import LAYOUTS, apply_layout
from gradcheck.checks.contracts.torch.support.plain_vjp import Baseline, UserCodeRaised, compare_gradients, compute_flat_vjp

NAME = "cotangent-layout"
FIX = "autograd sends such cotangents: read them by their strides, or call .contiguous() (.resolve_conj()) first"


def find_breach(base: Baseline) -> str:
    """Name the layout of the cotangents for which the gradient differs; '' if there is none.

    Raises:
        UserCodeRaised: if the backward raises for a layout.
    """
    leaves, outputs = base.new_call()
    constant = [torch.full_like(v, 0.75) for v in base.cotangents]
    expected = compute_flat_vjp(outputs, leaves, constant, retain_graph=True)
    trials = [("expanded from one number (stride 0)", [v.new_full((), 0.75).expand(v.shape) for v in constant], expected)]
    for name, layout in LAYOUTS.items():
        cotangents = apply_layout(base.cotangents, layout)
        trials += [(name, cotangents, base.gradients)] if cotangents else []
    for name, cotangents, expected in trials:
        try:
            gradients = compute_flat_vjp(outputs, leaves, cotangents, retain_graph=True)
        except Exception as error:
            raise UserCodeRaised(f"with a cotangent that is {name}") from error
        difference = compare_gradients(base, gradients, expected=expected)
        if difference:
            return f"with a cotangent that is {name}, {difference}"
    return ""

"""A backward reads the cotangent it is given, whatever its form in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from gradcheck.checks.contracts.torch import plain_vjp as plain
from gradcheck.checks.contracts.torch.memory_layouts import FORMS, formed
from gradcheck.checks.contracts.torch.plain_vjp import Raised

if TYPE_CHECKING:
    from gradcheck.checks.contracts.torch.plain_vjp import Baseline

NAME = "cotangent-layout"
MEND = "autograd sends such cotangents: read them by their strides, or call .contiguous() (.resolve_conj()) first"


def broken(base: Baseline) -> str:
    """For which form of the cotangents the gradient differs or cannot be had; '' where for none."""
    leaves = base.leaves()
    outputs = base.layer.call(leaves)
    level = [torch.full_like(v, 0.75) for v in base.cotangents]
    expected = plain.rows(outputs, leaves, level, retain_graph=True)
    tried = [("expanded from one number (stride 0)", [v.new_full((), 0.75).expand(v.shape) for v in level], expected)]
    for name, form in FORMS.items():
        made = formed(base.cotangents, form)
        tried += [(name, made, base.gradients)] if made else []
    for name, cotangents, right in tried:
        try:
            found = plain.rows(outputs, leaves, cotangents, retain_graph=True)
        except Exception as error:
            raise Raised(f"with a cotangent that is {name}") from error
        told = plain.other(base, found, expected=right)
        if told:
            return f"with a cotangent that is {name}, {told}"
    return ""

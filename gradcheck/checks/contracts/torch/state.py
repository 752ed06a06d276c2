"""Contract `state`: a backward belongs to its own forward, whatever was called in between."""

from __future__ import annotations

from functools import partial

import numpy as np
from torch import Tensor

from gradcheck.backends.torch.parameter_swap import swap_scope
from gradcheck.checks.contracts.torch.support import directional
from gradcheck.checks.contracts.torch.support.plain_vjp import Baseline, compare_gradients, compute_flat_vjp

NAME = "state"
FIX = "keep what the backward needs in ctx, not in a global, in the class or in the module"


def find_breach(base: Baseline) -> str:
    """Describe how the gradient differs after another forward and backward in between; '' if it does not."""
    leaves, other_leaves = base.new_leaves(), base.new_other_leaves()
    outputs = base.layer.call(leaves)
    try:
        with swap_scope(separate=True):
            others = compute_flat_vjp(base.layer.call(other_leaves), other_leaves, base.new_cotangents())
    except Exception:  # the function may not be defined at the other inputs
        return ""
    difference = compare_gradients(base, compute_flat_vjp(outputs, leaves, base.new_cotangents()))
    if difference:
        return f"after a call with other inputs {difference}"
    is_suspect = any(map(np.any, others)) and all(map(np.array_equal, others, base.gradients))
    return _find_stale_gradient(base, other_leaves) if is_suspect else ""


def _find_stale_gradient(base: Baseline, other_leaves: list[Tensor]) -> str:
    """Compare with differences at other inputs, where the gradient is exactly that of the first inputs."""
    there, here = (
        partial(directional.compare_along_direction, base.layer.call, inputs, base.layer.eps)
        for inputs in (other_leaves, base.inputs)
    )
    wrong = directional.describe_wrong_gradient(there, here, [leaf.path for leaf in base.layer.leaves])
    return f"at other inputs the gradient is that of the first ones: {wrong}" if wrong else ""

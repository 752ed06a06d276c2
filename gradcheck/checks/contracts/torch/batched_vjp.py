"""Contract `batched-vjp`: many cotangents at once, under vmap, give the gradients that each gives alone."""

from __future__ import annotations

import torch
from torch import Tensor

from gradcheck.checks.contracts.torch.support.plain_vjp import (
    Baseline,
    NotApplicable,
    compare_gradients,
    compare_outputs,
    compute_flat_vjp,
    compute_vjp,
    flatten_gradients,
)
from gradcheck.evidence.line import F64

NAME = "batched-vjp"
FIX = "under vmap, tensors have one axis less than in memory: use only tensor operations, whose vmap rules PyTorch knows"
# The cotangents in the batch are multiples of one cotangent by these factors.
WEIGHTS = (1.0, -0.5)


def find_breach(base: Baseline) -> str:
    """Describe how a gradient differs under vmap; '' if it does not.

    Raises:
        NotApplicable: if the code refuses vmap with an exception.
    """
    difference = _compare_mapped_outputs(base)
    if difference:
        return f"under vmap over the inputs {difference}"
    refusals = []
    weighted = [_compute_weighted_vjp(base, weight) for weight in WEIGHTS]
    for compute in (_compute_by_autograd, _compute_by_func):
        stacked = [torch.stack([w * v for w in WEIGHTS]) for v in base.cotangents]
        try:
            gradients = compute(base, stacked)
        except Exception as error:
            refusals.append(type(error).__name__)
            continue
        for k, expected in enumerate(weighted):
            row = flatten_gradients([None if g is None else g[k] for g in gradients], base.inputs)
            difference = compare_gradients(base, row, expected=expected)
            if difference:
                return f"under vmap {difference}"
    if len(refusals) > 1:
        raise NotApplicable(f"the vjp does not run under vmap: {refusals[0]}")
    return ""


def _compare_mapped_outputs(base: Baseline) -> str:
    """Describe how the outputs differ under vmap over the inputs; '' if they do not, or if vmap is refused."""
    try:
        mapped = torch.func.vmap(lambda *leaves: tuple(base.layer.call(leaves)))(*(torch.stack([x, x]) for x in base.inputs))
    except Exception:
        return ""
    return compare_outputs(base, [out[1] for out in mapped])


def _compute_weighted_vjp(base: Baseline, weight: float) -> list[F64]:
    """Compute the vjp of the cotangents times a factor."""
    leaves, outputs = base.new_call()
    return compute_flat_vjp(outputs, leaves, [weight * v for v in base.cotangents])


def _compute_by_autograd(base: Baseline, stacked: list[Tensor]) -> list[Tensor | None]:
    """Compute the vjps of stacked cotangents with `is_grads_batched`."""
    leaves, outputs = base.new_call()
    return compute_vjp(outputs, leaves, stacked, is_grads_batched=True)


def _compute_by_func(base: Baseline, stacked: list[Tensor]) -> list[Tensor | None]:
    """Compute the vjps of stacked cotangents with `torch.func`."""
    vjp = torch.func.vjp(lambda *leaves: tuple(base.layer.call(leaves)), *(x.clone() for x in base.inputs))[1]
    return list(torch.func.vmap(vjp)(tuple(stacked)))

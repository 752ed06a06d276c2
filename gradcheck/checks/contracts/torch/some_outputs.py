"""Contract `some-outputs`: an unused output, whose cotangent is None or zero, contributes nothing."""

from __future__ import annotations

import torch

from gradcheck.checks.contracts.torch.support.plain_vjp import SAMPLE, Baseline, compare_gradients, compute_flat_vjp
from gradcheck.seeds import make_generator

NAME = "some-outputs"
FIX = "an unused output's cotangent is zero, or None after set_materialize_grads(False)"


def find_breach(base: Baseline) -> str:
    """Describe how the gradient of some outputs alone differs from that with zeros for the other outputs; '' if it does not."""
    zeros = [torch.zeros_like(v) for v in base.cotangents]
    leaves, outputs = base.new_call()
    gradients = compute_flat_vjp(outputs, leaves, zeros, retain_graph=True)
    for leaf, g in zip(base.layer.leaves, gradients, strict=True):
        if not (abs(g) <= 0).all():
            return f"with a cotangent of zero the gradient of {leaf.path} is {g[int(abs(g).argmax())]:.6g} instead of 0"
    count = len(outputs)
    chosen = sorted(make_generator(0, "outputs", count).choice(count, min(SAMPLE, count), replace=False)) if count > 1 else []
    for k in map(int, chosen):
        leaf = base.layer.outputs[k]
        with_none = [v if j == k else None for j, v in enumerate(base.new_cotangents())]
        with_zeros = [v if j == k else torch.zeros_like(v) for j, v in enumerate(base.new_cotangents())]
        expected = compute_flat_vjp(outputs, leaves, with_zeros, retain_graph=True)
        difference = compare_gradients(base, compute_flat_vjp(outputs, leaves, with_none, retain_graph=True), expected=expected)
        if difference:
            return f"if only {leaf.path} is used, {difference}"
    return ""

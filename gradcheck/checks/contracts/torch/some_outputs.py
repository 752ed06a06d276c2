"""Outputs that nobody uses contribute nothing: their cotangent is None, or zero."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from gradcheck.checks.contracts.torch import plain_vjp as plain
from gradcheck.seeds import generator

if TYPE_CHECKING:
    from gradcheck.checks.contracts.torch.plain_vjp import Baseline

NAME = "some-outputs"
MEND = "an unused output's cotangent is zero, or None after set_materialize_grads(False)"
SAMPLE = 8  # outputs that are each tried alone


def broken(base: Baseline) -> str:
    """How a gradient of some outputs alone differs from that with zeros for the others; '' where it does not."""
    zeros = [torch.zeros_like(v) for v in base.cotangents]
    leaves = base.leaves()
    outputs = base.layer.call(leaves)
    found = plain.rows(outputs, leaves, zeros, retain_graph=True)
    for leaf, g in zip(base.layer.leaves, found, strict=True):
        if not (abs(g) <= 0).all():
            return f"with a cotangent of zero the gradient of {leaf.path} is {g[int(abs(g).argmax())]:.6g} in place of 0"
    count = len(outputs)
    chosen = sorted(generator(0, "outputs", count).choice(count, min(SAMPLE, count), replace=False)) if count > 1 else []
    for k in map(int, chosen):
        leaf = base.layer.outputs[k]
        alone = [v if j == k else None for j, v in enumerate(base.given())]
        beside = [v if j == k else torch.zeros_like(v) for j, v in enumerate(base.given())]
        expected = plain.rows(outputs, leaves, beside, retain_graph=True)
        told = plain.other(base, plain.rows(outputs, leaves, alone, retain_graph=True), expected=expected)
        if told:
            return f"where {leaf.path} alone is used, {told}"
    return ""

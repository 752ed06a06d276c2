"""Contract `upstream`: inside a model, the gradient is right for the very cotangent that the model sends back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from gradcheck.backends.torch.tensors import flat_of
from gradcheck.checks.contracts.torch.support.plain_vjp import Baseline, compare_gradients, compute_flat_vjp
from gradcheck.evidence import directions

if TYPE_CHECKING:
    from gradcheck.backends.contract_target import Layer

NAME = "upstream"
FIX = "does the backward assume a cotangent of another size, or one without zeros and ties?"
# The products of a cotangent below this size may underflow in float32.
FAINT = 1e-18


def applies(layer: Layer) -> bool:
    """Whether a model around the layer sends any cotangent back to it."""
    return layer.upstream is not None and any(v is not None for v in layer.upstream)


def find_breach(base: Baseline) -> str:
    """Describe how the vjp of the model's cotangent plus a random one differs from the sum of their vjps; '' if it does not.

    The random cotangent is as large as the model's. In units of that size, its vjp must equal that of the cotangents of about
    size 1 that the evidence has confirmed.
    """
    leaves, outputs = base.new_call()
    upstream = [
        torch.zeros_like(v) if u is None else u.to(v) for u, v in zip(base.layer.upstream or (), base.cotangents, strict=True)
    ]
    size = directions.compute_leaf_scale(np.concatenate([flat_of(u) for u in upstream]))
    random = [size * v for v in base.cotangents]
    total = [u + v for u, v in zip(upstream, random, strict=True)]
    vjps = [compute_flat_vjp(outputs, leaves, v, retain_graph=True) for v in (upstream, random, total)]
    of_upstream, of_random, of_total = ([g / size for g in gradients] for gradients in vjps)  # as for cotangents of size 1
    difference = compare_gradients(base, of_random) if size >= FAINT else ""
    if difference:
        return f"for a cotangent as large as the one that the model sends back (in units of {size:.2g}) {difference}"
    expected = [u + v for u, v in zip(of_upstream, of_random, strict=True)]
    difference = compare_gradients(base, of_total, expected=expected)
    if difference:
        return f"for the cotangent that the model sends back plus a random one (in units of {size:.2g}) {difference}"
    return ""

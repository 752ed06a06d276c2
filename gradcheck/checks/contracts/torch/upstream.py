"""Inside a model: the gradient is right of the very cotangent that the model sends back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from gradcheck.backends.torch.tensors import flat_of
from gradcheck.checks.contracts.torch import plain_vjp as plain
from gradcheck.evidence import directions

if TYPE_CHECKING:
    from gradcheck.backends.layer_view import Layer
    from gradcheck.checks.contracts.torch.plain_vjp import Baseline

NAME = "upstream"
MEND = "does the backward take its cotangent for something of another size, or without zeros and ties?"
FAINT = 1e-18  # of a cotangent: below, what is multiplied by it may underflow in float32


def applies(layer: Layer) -> bool:
    """Whether a model sends anything back."""
    return layer.upstream is not None and any(v is not None for v in layer.upstream)


def broken(base: Baseline) -> str:
    """How the vjp of the model's cotangent and another together differs from the sum of theirs; '' where it does not.

    The other is random and of the same size; its vjp, in units of that, is what it is of the cotangents about as large as 1
    that the evidence was held against.
    """
    leaves = base.leaves()
    outputs = base.layer.call(leaves)
    sent = [
        torch.zeros_like(v) if u is None else u.to(v) for u, v in zip(base.layer.upstream or (), base.cotangents, strict=True)
    ]
    size = directions.scale_of(np.concatenate([flat_of(u) for u in sent]))
    random = [size * v for v in base.cotangents]
    both = [u + v for u, v in zip(sent, random, strict=True)]
    found = [plain.rows(outputs, leaves, v, retain_graph=True) for v in (sent, random, both)]
    of_sent, of_random, together = ([g / size for g in rows] for rows in found)  # as if it were of about size 1
    told = plain.other(base, of_random) if size >= FAINT else ""
    if told:
        return f"of a cotangent as large as what the model sends back (in units of {size:.2g}) {told}"
    told = plain.other(base, together, expected=[u + v for u, v in zip(of_sent, of_random, strict=True)])
    return f"of the cotangent that the model sends back and another together (in units of {size:.2g}) {told}" if told else ""

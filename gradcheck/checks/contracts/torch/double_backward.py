"""A backward that is differentiated again gives the second derivative, or says that it cannot."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from gradcheck.backends.torch.graph import nodes
from gradcheck.checks.contracts.torch import plain_vjp as plain
from gradcheck.checks.contracts.torch.directional import random_like
from gradcheck.checks.contracts.torch.plain_vjp import Remarked, Unsupported
from gradcheck.evidence import richardson
from gradcheck.evidence.line import slack_for

if TYPE_CHECKING:
    from torch import Tensor

    from gradcheck.checks.contracts.torch.plain_vjp import Baseline
    from gradcheck.evidence.line import F64

NAME = "double-backward"
MEND = ""
REFUSED = "Error"  # what @once_differentiable leaves in the graph, on no path to the inputs
FAR = 0.1  # of the second derivative: it is not rounding that a claim is off by so much
CUT = (
    "its backward, differentiated again, gives {:.4g} along a random direction, where differences of it give {:.4g}: something"
    " saved is taken for a constant; save inputs or outputs by ctx.save_for_backward, or mark it @once_differentiable"
)


def broken(base: Baseline) -> str:
    """Always '': first derivatives are right all the same.

    Raises:
        Remarked: where a second derivative is wrong without a word.
        Unsupported: where it is refused aloud.
    """
    if any(x.is_complex() for x in (*base.inputs, *base.outputs)):
        raise Unsupported("of complex numbers it is not looked at")
    leaves = base.leaves()
    tangents = [random_like(x, np.asarray, "tangent", k) for k, x in enumerate(base.inputs)]
    weights = [random_like(x, np.ones_like, "weight", k) for k, x in enumerate(base.inputs)]
    try:
        cotangents = [v.requires_grad_() for v in base.given()]  # else @once_differentiable has nothing to say
        gradients = plain.pulled(base.layer.call(leaves), leaves, cotangents, create_graph=True)
        terms = [torch.sum(g * w) for g, w in zip(gradients, weights, strict=True) if g is not None and g.requires_grad]
        if any(type(node).__name__ == REFUSED for node in nodes(gradients)):
            raise Unsupported("it cannot be differentiated twice, and says so")
        total = sum(terms, start=torch.zeros((), device=leaves[0].device))
        found = plain.pulled([total], leaves, [torch.ones_like(total)])
    except RuntimeError as error:
        raise Unsupported(f"it cannot be differentiated twice: {type(error).__name__}") from error
    claimed = sum(float(torch.sum(h * u)) for h, u in zip(found, tangents, strict=True) if h is not None)
    slope = _differences(base, tangents, weights)
    value, bound = float(slope.value[0]), float(slope.bound[0])
    if bound <= FAR * abs(value) and abs(claimed - value) > bound + FAR * abs(value):
        raise Remarked(CUT.format(claimed, value))
    return ""


def _differences(base: Baseline, tangents: list[Tensor], weights: list[Tensor]) -> richardson.Brief:
    """How the weighted gradient changes along the tangents."""

    def weighted(t: float) -> float:
        moved = [(x + t * u).requires_grad_() for x, u in zip(base.inputs, tangents, strict=True)]
        found = plain.pulled(base.layer.call(moved), moved, base.given())
        return sum(float(torch.sum(g * w)) for g, w in zip(found, weights, strict=True) if g is not None)

    start, eps = weighted(0.0), base.layer.eps
    noise = np.array([eps * sum(float(np.sum(np.abs(g))) for g in base.gradients)])

    def change(t: float) -> F64:
        try:
            return np.array([weighted(t) - start])
        except Exception:  # off its domain
            return np.array([np.nan])

    return richardson.sharp(change, 0.0, eps, lambda _: noise, slack_for(1))

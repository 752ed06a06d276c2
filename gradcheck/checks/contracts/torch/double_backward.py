"""Contract `double-backward`: a backward that is differentiated again gives the second derivative, or says that it cannot."""

from __future__ import annotations

import numpy as np
import torch

from gradcheck.backends.torch.graph import walk_graph
from gradcheck.checks.contracts.slope_comparison import compare_slope
from gradcheck.checks.contracts.torch.support.directional import draw_like
from gradcheck.checks.contracts.torch.support.plain_vjp import Baseline, NotApplicable, Remark, compute_vjp

NAME = "double-backward"
FIX = ""  # This contract is never broken: a wrong second derivative is a remark.
# `@once_differentiable` leaves a node with this name in the graph, on no path to the inputs.
REFUSED = "Error"
# Rounding causes no larger error than this, relative to the second derivative.
MAX_SECOND_DERIVATIVE_DIFFERENCE = 0.1
CUT = (
    "differentiated again, the backward gives {:.4g} along a random direction, but its differences give {:.4g}: something"
    " saved is treated as a constant; save inputs or outputs with ctx.save_for_backward, or mark it @once_differentiable"
)


def find_breach(base: Baseline) -> str:
    """Return '': first derivatives are right even if second derivatives are not.

    Raises:
        Remark: if a second derivative is silently wrong.
        NotApplicable: if a second derivative is refused with an exception.
    """
    if any(x.is_complex() for x in (*base.inputs, *base.outputs)):
        raise NotApplicable("second derivatives of complex numbers are not checked")
    leaves = base.new_leaves()
    tangents = [draw_like(x, np.asarray, "tangent", k) for k, x in enumerate(base.inputs)]
    weights = [draw_like(x, np.ones_like, "weight", k) for k, x in enumerate(base.inputs)]
    try:
        # @once_differentiable objects only if the cotangents require a gradient.
        cotangents = [v.requires_grad_() for v in base.new_cotangents()]
        gradients = compute_vjp(base.layer.call(leaves), leaves, cotangents, create_graph=True)
        terms = [torch.sum(g * w) for g, w in zip(gradients, weights, strict=True) if g is not None and g.requires_grad]
        if any(type(node).__name__ == REFUSED for node in walk_graph(gradients)):
            raise NotApplicable("it cannot be differentiated twice, and says so")
        total = sum(terms, start=torch.zeros((), device=leaves[0].device))
        second = compute_vjp([total], leaves, [torch.ones_like(total)])
    except RuntimeError as error:
        raise NotApplicable(f"it cannot be differentiated twice: {type(error).__name__}") from error
    claimed = sum(float(torch.sum(h * u)) for h, u in zip(second, tangents, strict=True) if h is not None)

    def weighted_gradient(t: float) -> float:
        moved = [(x + t * u).requires_grad_() for x, u in zip(base.inputs, tangents, strict=True)]
        gradients = compute_vjp(base.layer.call(moved), moved, base.new_cotangents())
        return sum(float(torch.sum(g * w)) for g, w in zip(gradients, weights, strict=True) if g is not None)

    start, eps = weighted_gradient(0.0), base.layer.eps
    slope = compare_slope(
        lambda t: weighted_gradient(t) - start,
        (claimed, 0.0),
        eps * sum(float(np.sum(np.abs(g))) for g in base.gradients),
        eps,
        tolerance=MAX_SECOND_DERIVATIVE_DIFFERENCE,
    )
    if slope.is_wrong and np.isfinite(slope.claimed):
        raise Remark(CUT.format(slope.claimed, slope.estimate))
    return ""

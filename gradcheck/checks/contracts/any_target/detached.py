"""Contract `detached`: the function may depend on inputs that are declared detached, but no gradient reaches them."""

from __future__ import annotations

import numpy as np

from gradcheck.backends.flat import F64
from gradcheck.backends.program import Program, Unavailable
from gradcheck.evidence import directions
from gradcheck.results import Contract, Verdict
from gradcheck.seeds import make_generator

NAME = "detached"
# The gradient must be zero for this many random cotangents.
DETACHED_COTANGENTS = 2


def check_detached(program: Program, label: str) -> list[Contract]:
    """Compute the gradient of what is declared detached: it must be exactly zero, or none.

    Args:
        program: the target, bound with respect to these leaves.
        label: names the random stream.

    Raises:
        TargetError: if the backward raises.
    """
    gradients = _compute_gradients(program, label)
    reached = [leaf for leaf in program.leaves if np.any(gradients[:, leaf.span] != 0)]
    if not reached:
        paths = ", ".join(leaf.path for leaf in program.leaves)
        return [Contract(NAME, Verdict.PASS, f"{paths}: no gradient comes through")]
    first = reached[0]
    row, column = map(int, np.argwhere(gradients[:, first.span] != 0)[0])
    entry, value = first.entry(first.start + column), gradients[row, first.start + column]
    paths = ", ".join(leaf.path for leaf in reached)
    message = (
        f"a gradient comes through to {paths}, declared detached: at {entry} it is {value:.6g} instead of exactly 0; is a"
        " .detach() or stop_gradient missing?"
    )
    return [Contract(NAME, Verdict.FAIL, message)]


def _compute_gradients(program: Program, label: str) -> F64:
    """Compute the gradients of random cotangents by every claim in reverse mode, one row each, after a row of zeros."""
    cotangents = np.empty((DETACHED_COTANGENTS, program.value.size))
    for k, row in enumerate(cotangents):
        directions.fill_even(make_generator(0, NAME, label, k), np.ones(row.size), row)
    gradients = [np.zeros((1, program.point.size))]
    for claim in program.claims:
        if claim.vjp is not None and not claim.derived:
            try:
                gradients.append(claim.vjp(program.point, cotangents))
            except Unavailable:
                continue
    return np.concatenate(gradients)

"""Inputs that are declared detached: the function may depend on them, but no gradient may come through."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gradcheck.backends.program import Unavailable
from gradcheck.evidence import directions
from gradcheck.results import Contract, Verdict
from gradcheck.seeds import generator

if TYPE_CHECKING:
    from gradcheck.backends.flat import F64
    from gradcheck.backends.program import Program

NAME = "detached"
COTANGENTS = 2


def examine(program: Program, label: str) -> list[Contract]:
    """Ask for the gradient of what is declared detached: it must be exactly zero, or none.

    Args:
        program: the target, bound with respect to these leaves.

    Raises:
        TargetError: where the backward raises.
    """
    rows = _rows(program, label)
    through = [leaf for leaf in program.leaves if np.any(rows[:, leaf.span] != 0)]
    if not through:
        told = ", ".join(leaf.path for leaf in program.leaves)
        return [Contract(NAME, Verdict.PASS, f"{told}: no gradient comes through")]
    first = through[0]
    row, column = map(int, np.argwhere(rows[:, first.span] != 0)[0])
    at, value = first.entry(first.start + column), rows[row, first.start + column]
    told = (
        f"a gradient comes through to {', '.join(leaf.path for leaf in through)}, declared detached: at {at} it is {value:.6g}"
    )
    return [Contract(NAME, Verdict.FAIL, f"{told} in place of exactly 0; is a .detach() or stop_gradient forgotten?")]


def _rows(program: Program, label: str) -> F64:
    """Vector-Jacobian products of random cotangents, by every claim in reverse mode."""
    cotangents = np.empty((COTANGENTS, program.value.size))
    for k, row in enumerate(cotangents):
        directions.even(generator(0, NAME, label, k), np.ones(row.size), row)
    found = [np.zeros((1, program.point.size))]
    for claim in program.claims:
        if claim.vjp is not None and not claim.derived:
            try:
                found.append(claim.vjp(program.point, cotangents))
            except Unavailable:
                continue
    return np.concatenate(found)

"""TODO: describe."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.backends.program import Claim, Program
from gradcheck.compare.jacobians import POOLED, Rows, rows_of
from gradcheck.evidence.line import F64
from gradcheck.seeds import generator
from gradcheck.verdict.interval import ROUNDING

if TYPE_CHECKING:
    from collections.abc import Iterator

JITTERS = 6
HARDLY = 64.0  # units in the last place of the largest output
WHOLE = 2.0**10  # larger whole numbers are hardly labels: floats of many inputs are whole


def jittered(rows: Rows, program: Program, cotangents: F64) -> Rows:
    """Add to the rows' error how far they move when the inputs move by one unit in the last place: their conditioning.

    Six random jitters; whole numbers stay as they are, since they may be labels that the code compares with. A jitter off
    which the claim does not exist, or is not finite, is passed over. In lower precision rounding is so coarse that six
    jitters may all repeat it: there the leaf's mean movement counts for each entry.
    """
    if rows.claim is None:
        return rows
    if not rows.conditioning:
        rows.conditioning.append(_spread(rows, rows.claim, program, cotangents))
    return replace(rows, own=rows.own + ROUNDING * rows.conditioning[0])


def points_around(point: F64, eps: float, name: str, count: int, *, whole: bool = False) -> Iterator[F64]:
    """The inputs moved by one unit in the last place each, but for whole numbers; `name` names the random stream.

    Args:
        whole: whole numbers too.
    """
    for k in range(count):
        signs = generator(0, "jitter", name, k).choice([-1.0, 1.0], point.shape)
        signs[(point == np.round(point)) & (np.abs(point) < WHOLE) & (not whole)] = 0.0
        yield point * (1 + eps * signs)


def moved_at_all(rows: Rows, program: Program, cotangents: F64) -> F64:
    """How far rows move when whole numbers do, too, (C, N): where the function hardly does, they are no labels."""
    assert rows.claim is not None
    spread = np.zeros(rows.rows.shape)
    for at in points_around(program.point, rows.eps, rows.method, JITTERS, whole=True):
        try:
            change = np.abs(program.evaluate(at) - program.value)
            moved = rows_of(rows.claim, at, cotangents)
        except Exception:
            continue
        if np.all(change <= HARDLY * rows.eps * np.max(np.abs(program.value))):
            spread = np.fmax(spread, np.abs(moved - rows.rows))
    return spread


def _spread(rows: Rows, claim: Claim, program: Program, cotangents: F64) -> F64:
    spread = np.zeros(rows.rows.shape)
    for at in points_around(program.point, rows.eps, rows.method, JITTERS):
        try:
            moved = rows_of(claim, at, cotangents)
        except Exception:
            continue
        with np.errstate(all="ignore"):
            spread = np.fmax(spread, np.where(np.isfinite(moved), np.abs(moved - rows.rows), 0.0))
    if rows.eps > 2.0**-52:
        for leaf in program.leaves:
            pooled = POOLED * np.sqrt(np.mean(spread[:, leaf.span] ** 2, axis=1, keepdims=True))
            spread[:, leaf.span] = np.maximum(spread[:, leaf.span], pooled / ROUNDING)
    return spread

"""TODO: describe."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.backends.flat import Leaf
from gradcheck.compare.jacobians import Rows
from gradcheck.compare.judge import Compared, sides
from gradcheck.verdict.interval import judge

if TYPE_CHECKING:
    from gradcheck.evidence.line import F64

SPARE = 8.0  # times that: what rounding and conditioning together may come to
UNITS = 16.0  # in the last place of the outputs: terms of their size may cancel in a derivative


def against_rows(leaf: Leaf, claimed: Rows, other: Rows, rtol: float, *, demanded: bool) -> Compared:
    """Hold a claim against another method's derivatives, entry by entry; both know their rounding."""
    part = (slice(None), leaf.span)
    claim, value = claimed.rows[part], other.rows[part]
    s = sides(claim, value, other.own[part], claimed.own[part], np.fmax(np.abs(claim), np.abs(value)))
    judged = judge(s, rtol, demanded=demanded)
    judged.code[s.apart == 0] = 0  # the same number, twice
    nothing = np.full(claim.shape, None, dtype=object)
    return Compared(leaf, s, judged.code, judged.unresolved, nothing, np.zeros(claim.shape, dtype=bool))


def within_last_bits(c: Compared, floor: F64) -> Compared:
    """Let entries pass whose difference is lost in the last bits of the outputs; both sides are proved elsewhere."""
    lost = (c.code == 1) & (c.sides.apart <= c.sides.allowed) & (c.sides.allowed <= SPARE * floor)
    return replace(c, code=np.where(lost, 0, c.code).astype(np.int8), unresolved=c.unresolved | lost)

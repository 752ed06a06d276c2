"""Straight-through estimators: a claim that is not zero, of a function that is constant around the inputs.

Rounding, signs and arg-maxima have the derivative zero; what is claimed instead is a choice, not a derivative.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.results import Reason

if TYPE_CHECKING:
    from gradcheck.checks.sheet import Compared, Sheet

FURTHER = (1.0, -1.0, 4.0, -4.0, 16.0, -16.0)  # scales of the inputs at which the function must have changed


def through(sheet: Sheet, c: Compared, *, declared: bool) -> Compared:
    """Name entries that are wrong in this way; PASS where the user declared it.

    The estimate there is exactly zero, while the function moves further off: one that never moves does not depend on the input.
    """
    flat = (c.code == 2) & (c.sides.value == 0) & np.isfinite(c.sides.claim)
    flat &= (sheet.refined | (sheet.bound == 0)) & (c.seen == sheet.reason)  # no other cause was found
    lines = np.flatnonzero(np.any(flat, axis=0))
    if not lines.size:
        return c
    found = lines if declared else lines[:1]  # to name it, one will do
    stepped = [int(line) for line in found if _moves_further_off(sheet, int(line))]
    code, seen = c.code.copy(), c.seen.copy()
    chosen = np.zeros(flat.shape, dtype=bool)
    chosen[:, stepped] = flat[:, stepped]
    seen[chosen] = Reason.STRAIGHT_THROUGH
    code[chosen] = 0 if declared else 2
    return replace(c, code=code, seen=seen)


def _moves_further_off(sheet: Sheet, line: int) -> bool:
    phi, setting = sheet.phis[line], sheet.settings[line]
    with np.errstate(all="ignore"):
        return any(bool(np.any(np.abs(setting.contract(phi(t) - setting.base)) > 0)) for t in FURTHER)

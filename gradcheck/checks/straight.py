"""Straight-through estimators: a claim that is not zero, of a function that is constant around the inputs.

Rounding, signs and arg-maxima have the derivative zero; what is claimed instead is a choice, not a derivative.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.results import Reason

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gradcheck.checks.sheet import Compared, Sheet

HERE = (2.0**-13, -(2.0**-13), 2.0**-17, -(2.0**-17), 2.0**-20, -(2.0**-20))  # where it must not
FURTHER = (1.0, -1.0, 4.0, -4.0, 16.0, -16.0)  # scales of the inputs at which the function must have changed


def through(sheet: Sheet, c: Compared, *, declared: bool) -> Compared:
    """Name entries that are wrong in this way; PASS where the user declared it.

    The estimate there is exactly zero, while the function moves further off: one that never moves does not depend on the input.
    """
    flat = (c.code == 2) & (c.sides.value == 0) & np.isfinite(c.sides.claim)
    flat &= c.seen == sheet.reason  # no other cause was found
    lines = np.flatnonzero(np.any(flat, axis=0))
    if not lines.size:
        return c
    found = lines if declared else lines[:1]  # to name it, one will do
    code, seen = c.code.copy(), c.seen.copy()
    chosen = np.zeros(flat.shape, dtype=bool)
    for line in found:
        chosen[:, line] = flat[:, line] & _constant_but_only_here(sheet, int(line))
    seen[chosen] = Reason.STRAIGHT_THROUGH
    code[chosen] = 0 if declared else 2
    return replace(c, code=code, seen=seen)


def _constant_but_only_here(sheet: Sheet, line: int) -> NDArray[np.bool_]:
    """Channels, (C,), that stand still around the inputs, and do not further off."""
    phi, setting = sheet.phis[line], sheet.settings[line]
    with np.errstate(all="ignore"):
        near, far = ([setting.contract(phi(t) - setting.base) != 0 for t in places] for places in (HERE, FURTHER))
    return np.asarray(~np.any(near, axis=0) & np.any(far, axis=0))

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

    from gradcheck.compare.estimates import Sheet
    from gradcheck.compare.judge import Compared
    from gradcheck.evidence.line import F64

HERE = (2.0**-13, -(2.0**-13), 2.0**-17, -(2.0**-17), 2.0**-20, -(2.0**-20))  # where it must not
UNITS = 16.0  # in the last place of the slopes further off
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
    chosen, nothing = np.zeros(flat.shape, dtype=bool), np.zeros(flat.shape, dtype=bool)
    for line in found:
        still, steepest = _around(sheet, int(line))
        chosen[:, line] = flat[:, line] & still & (steepest > 0)
        nothing[:, line] = chosen[:, line] & (np.abs(c.sides.claim[:, line]) <= UNITS * sheet.eps * steepest)
    seen[chosen] = Reason.STRAIGHT_THROUGH
    code[chosen] = 0 if declared else 2
    code[nothing], seen[nothing] = 0, None
    rounding = np.where(nothing, np.maximum(c.sides.rounding, np.abs(c.sides.claim)), c.sides.rounding)
    return replace(c, code=code, seen=seen, sides=replace(c.sides, rounding=rounding))


def _around(sheet: Sheet, line: int) -> tuple[NDArray[np.bool_], F64]:
    """Which channels stand still around the inputs, (C,), and the steepest chord of each further off.

    A claim in the last place of such slopes is what cancellation leaves of a zero, not a choice.
    """
    phi, setting = sheet.phis[line], sheet.settings[line]
    with np.errstate(all="ignore"):
        near = [setting.contract(phi(t) - setting.base) != 0 for t in HERE]
        far = [np.nan_to_num(np.abs(setting.contract(phi(t) - setting.base)) / abs(t), posinf=0.0) for t in FURTHER]
    return ~np.any(near, axis=0), np.max(far, axis=0)

"""Entries so small beside their leaf's others that the function does not see them move by their own size.

Added to numbers of the leaf's size they are absorbed. Where an output is exactly zero by cancellation, no rounding tells of it,
and a slope of zero looks certain. Such an entry is moved by its leaf's scale before a claim is called wrong.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gradcheck.checks import partials
from gradcheck.checks.sheet import careful
from gradcheck.evidence import probes

if TYPE_CHECKING:
    from gradcheck.checks.bench import Bench
    from gradcheck.checks.sheet import Compared, Sheet

LOOKED_AT = 64  # lines; of more than that nothing is known


def seen_at_large(bench: Bench, sheet: Sheet, c: Compared) -> bool:
    """Estimate anew, by larger steps, the slopes of such entries: those found to be zero where a claim is not, and all zeros.

    Returns:
        Whether there are any; the sheet then holds the new estimates.
    """
    x = bench.program.point[sheet.leaf.span]
    units, whole = partials.displacements(bench.program, sheet.leaf), probes.scale_of(x)
    still = (sheet.value == 0) & (np.abs(units) < probes.SMALL * whole)
    flat = still & ((c.code == 2) | np.all(still, axis=0))
    lines = np.flatnonzero(np.any(flat, axis=0))
    unknown = lines[LOOKED_AT:]
    sheet.bound[:, unknown] = np.where(c.code[:, unknown] == 2, np.inf, sheet.bound[:, unknown])
    for line in lines[:LOOKED_AT]:
        (unit,) = probes.exact(np.array([whole]), x[line : line + 1], bench.program.eps)
        slope = careful(bench.evaluator.line_of_entry(sheet.leaf.start + int(line), float(unit)), sheet.settings[line])
        ratio, asked = units[line] / unit, flat[:, line]
        for name in ("value", "low", "high"):
            getattr(sheet, name)[asked, line] = getattr(slope, name)[asked] * ratio
        for name in ("bound", "nearby"):
            getattr(sheet, name)[asked, line] = getattr(slope, name)[asked] * abs(ratio)
        for channel in np.flatnonzero(asked):
            sheet.reason[channel, line] = slope.reason[channel]
            sheet.story[channel, line] = slope.story[channel].per(unit / units[line])
        sheet.refined[line] = True
    return bool(lines.size)

"""Entries so small beside their leaf's others that the function does not see them move by their own size.

Added to numbers of the leaf's size they are absorbed. Where an output is exactly zero by cancellation, no rounding tells of it,
and a slope of zero looks certain. Such an entry is moved by its leaf's scale before a claim is called wrong.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gradcheck.compare import entry_lines
from gradcheck.compare.estimates import careful
from gradcheck.evidence import directions
from gradcheck.evidence.line import COARSEST
from gradcheck.results import Reason

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gradcheck.compare.estimates import Sheet
    from gradcheck.compare.judge import Compared
    from gradcheck.compare.trial import Bench
    from gradcheck.evidence.line import F64, Phi, Setting, Slope

UNITS = 64.0  # in the last place of the largest leaf: a smaller entry is lost beside it
LOOKED_AT = 64  # lines; of more than that nothing is known


def seen_at_large(bench: Bench, sheet: Sheet, c: Compared) -> bool:
    """Estimate anew, by larger steps, the slopes of such entries: those found to be zero where a claim is not, and all zeros.

    Returns:
        Whether there are any; the sheet then holds the new estimates.
    """
    x = bench.program.point[sheet.leaf.span]
    units, whole = entry_lines.displacements(bench.program, sheet.leaf), directions.scale_of(x)
    still = (sheet.value == 0) & (np.abs(units) < directions.SMALL * whole)
    flat = still & ((c.code == 2) | np.all(still, axis=0))
    lines = np.flatnonzero(np.any(flat, axis=0))
    unknown = lines[LOOKED_AT:]
    sheet.bound[:, unknown] = np.where(c.code[:, unknown] == 2, np.inf, sheet.bound[:, unknown])
    for line in lines[:LOOKED_AT]:
        (unit,) = directions.exact(np.array([whole]), x[line : line + 1], bench.program.eps)
        phi, setting = bench.evaluator.line_of_entry(sheet.leaf.start + int(line), float(unit)), sheet.settings[line]
        slope = careful(phi, setting)
        ratio, asked = units[line] / unit, flat[:, line]
        for name in ("value", "low", "high"):
            getattr(sheet, name)[asked, line] = getattr(slope, name)[asked] * ratio
        bound = np.fmax(slope.bound, _bent(phi, setting, slope))
        for name, size in (("bound", bound), ("nearby", slope.nearby)):
            getattr(sheet, name)[asked, line] = size[asked] * abs(ratio)
        for channel in np.flatnonzero(asked):
            sheet.reason[channel, line] = slope.reason[channel]
            sheet.story[channel, line] = slope.story[channel].per(unit / units[line])
        sheet.refined[line] = True
    return bool(lines.size) or _lost_in_others(bench, sheet, (c.code == 2) & (sheet.value == 0), units)


def _lost_in_others(bench: Bench, sheet: Sheet, asked: NDArray[np.bool_], units: F64) -> bool:
    """Let slopes of zero that a claim denies be unknown, where other leaves absorb all steps and one of their size shows.

    Returns:
        Whether there are any.
    """
    program, lost = bench.program, np.zeros(asked.shape, dtype=bool)
    largest = max(directions.scale_of(program.point[leaf.span]) for leaf in program.leaves)
    for line in np.flatnonzero(np.any(asked, axis=0) & (np.abs(units) < UNITS * program.eps * largest))[:LOOKED_AT]:
        setting, phi = sheet.settings[line], bench.evaluator.line_of_entry(sheet.leaf.start + int(line), largest)
        with np.errstate(all="ignore"):
            lost[:, line] = asked[:, line] & (setting.contract(phi(COARSEST) - setting.base) != 0)
    sheet.bound[lost], sheet.reason[lost] = np.inf, Reason.DULL
    return bool(np.any(lost))


def _bent(phi: Phi, setting: Setting, slope: Slope) -> F64:
    """How far the slopes on both sides are apart at the finest step that an estimate rests on, (C,): finer ones saw nothing."""
    bent = np.zeros(slope.value.shape)
    for channel, story in enumerate(slope.story):
        if story.plateau is not None and np.isnan(slope.low[channel]):
            step = story.plateau[1]
            bent[channel] = abs(setting.contract(phi(step) + phi(-step) - 2 * setting.base)[channel]) / step
    return bent

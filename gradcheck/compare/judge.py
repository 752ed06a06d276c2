"""One leaf's numerical derivatives along some lines, and the claims held against them.

A line moves a single entry (full mode) or many (probe mode); everything here is per line and channel, (C, L), and along the
line: an entry's derivative times its displacement. Estimates start cheap; those that a claim disagrees with are refined.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.backends.flat import Leaf
from gradcheck.compare.estimates import Sheet, refine
from gradcheck.evidence import (
    directions,
    internal_rounding,
)
from gradcheck.evidence.line import F64
from gradcheck.results import Reason, Whereabouts
from gradcheck.verdict.interval import (
    Sides,
    flat_here,
    judge,
    suspicion,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHARP = 100.0  # times the error that matters: an estimate duller than that is made again, with care
WIDE = 2.0**-6  # of an entry's scale: values that stand still there come in steps by themselves, as of an arg-max
MANY = 64  # lines
UNDERFLOW = 64.0  # of the smallest numbers of a dtype: what may be lost in a difference of values
CONFIRMED = 4  # wrong lines of a leaf looked at carefully; more of them would not change its verdict


@dataclass(frozen=True)
class Compared:
    """A claim held against estimates along the lines of one leaf.

    Attributes:
        sides: claim, estimate and errors, (C, L).
        code: 0 PASS, 1 INCONCLUSIVE, 2 FAIL, (C, L).
        unresolved: passed only beside the leaf's larger entries.
        seen: what the evidence remarked: a Reason or None.
        doubtful: along many entries at once, passed although the two differ by more than their errors: a few entries
            may be wrong by more than the sum shows.
        story: of the careful estimates.
        where: the wrong entries, where they were looked for one by one.
        at: for a single line that the way down led to: its entry and displacement.
    """

    leaf: Leaf
    sides: Sides
    code: NDArray[np.int8]
    unresolved: NDArray[np.bool_]
    seen: NDArray[np.object_]
    doubtful: NDArray[np.bool_]
    story: NDArray[np.object_] | None = None
    at: tuple[int, float] | None = None
    where: Whereabouts | None = None

    def only(self, channel: int) -> Compared:
        """The same for one channel."""
        one = slice(channel, channel + 1)
        sides = Sides(**{f.name: getattr(self.sides, f.name)[one] for f in fields(Sides)})
        own = {name: getattr(self, name)[one] for name in ("code", "unresolved", "seen", "doubtful")}
        return replace(self, sides=sides, story=None if self.story is None else self.story[one], **own)


@dataclass(frozen=True)
class Along:
    """A claim along the lines of a sheet, (C, L).

    Attributes:
        value: its directional derivatives.
        own: their rounding error; `slip` the part of it that is no conditioning, for the interval of a kink's slopes.
        scale: what a relative error is relative to, at least.
        many: whether a line moves many entries at once.
    """

    value: F64
    own: F64
    slip: F64
    scale: F64
    many: bool


def settle(sheet: Sheet, claim: Along, rtol: float, *, demanded: bool, hidden_too: bool = True) -> Compared:
    """Judge every line, refining estimates until each line has passed or enough are certainly wrong.

    Args:
        hidden_too: look for rounding hidden inside before a claim is called wrong; not where that was done for others like it.
    """
    enough = 1 if claim.many else CONFIRMED
    while True:
        now = look(sheet, claim, rtol, demanded=demanded)
        dull = not (demanded or claim.many) and _dull(now, rtol, many=len(sheet.phis) > MANY)
        rough = now.doubtful | sheet.rough | dull
        open_ = np.where(rough, np.maximum(now.code, 1), now.code).astype(np.int8)
        urgency = np.where(sheet.refined, 0.0, np.max(suspicion(now.sides, open_), axis=0))
        confirmed = int(np.sum(np.any(now.code == 2, axis=0) & sheet.refined))
        queue = [int(i) for i in np.argsort(-urgency, kind="stable")[:enough] if urgency[i] > 0]
        if confirmed >= enough or not queue:
            unsure = (now.code == 2) & sheet.rough & ~sheet.refined  # a kink, perhaps: nobody looked
            return replace(now, code=np.where(unsure, 1, now.code).astype(np.int8))
        for line in queue:
            refine(sheet, line)
        for line in queue if hidden_too else ():
            _beware_of_rounding(sheet, line, look(sheet, claim, rtol, demanded=demanded))


def _dull(now: Compared, rtol: float, *, many: bool) -> NDArray[np.bool_]:
    """Entries that passed by a cheap estimate much duller than the error that matters: a careful one may be sharper.

    Among many, those that are known to the error that matters beside their leaf's largest are left at that.
    """
    s = now.sides
    found = (now.code == 0) & ~now.unresolved & (s.size > s.allowed) & (s.allowed > SHARP * rtol * s.scale)
    return np.asarray(found & (s.allowed > rtol * s.whole) if many else found)


def _beware_of_rounding(sheet: Sheet, line: int, now: Compared) -> None:
    """Before a claim is called wrong: is the slope at fine steps that of the function, or is there rounding hidden inside?

    And where no steps agree: perhaps there is more noise than was measured at fine steps.
    """
    phi, setting, apart = sheet.phis[line], sheet.settings[line], now.sides.apart[:, line]
    wrong = (now.code[:, line] == 2) & np.isnan(sheet.low[:, line]) & np.isfinite(apart)
    unexplained = (sheet.reason[:, line] == Reason.DULL) | (sheet.reason[:, line] == None)  # noqa: E711 - elementwise
    dull = (now.code[:, line] == 1) & unexplained
    if not np.any(wrong | dull):
        return
    if not np.any(dull) and not internal_rounding.explains(phi, setting, np.where(wrong, apart, np.inf)):
        return
    found = internal_rounding.rounding(phi, setting)
    if found is not None:
        setting.hidden[:] = [np.maximum(setting.deviation, found)]  # of the outputs that this line moves, beside those before
        unknown = np.any((sheet.reason == Reason.QUANTISED) & np.isinf(sheet.bound), axis=0)
        for known in np.flatnonzero(sheet.refined & ~unknown):
            refine(sheet, int(known))
    elif not np.any(dull):  # it jumps all the time, in no way that is known: nothing tells its slope
        sheet.bound[wrong, line], sheet.reason[wrong, line] = np.inf, Reason.QUANTISED


def look(sheet: Sheet, claim: Along, rtol: float, *, demanded: bool) -> Compared:
    """Judge every line by the estimates as they stand."""
    own = np.fmax(claim.own, sheet.eps * sheet.nearby)  # terms as steep as the slopes nearby may have cancelled in the claim
    s = sides(claim.value, sheet.value, sheet.bound, own, np.fmax(claim.scale, np.abs(sheet.value)), sheet.nearby)
    if claim.many:
        s = replace(s, whole=s.scale)
    judged = judge(s, rtol, demanded=demanded)
    code, seen = judged.code.copy(), sheet.reason.copy()
    code[(code == 1) & sheet.refined & flat_here(s, sheet.outputs, sheet.eps)] = 0
    zero = (seen == Reason.QUANTISED) & (s.claim == 0)
    code[zero] = np.where(_stands_still(sheet.story[zero]), 0, np.minimum(code[zero], 1))
    kink = ~np.isnan(sheet.low)
    reach = claim.slip + rtol * s.scale
    inside = (s.claim >= sheet.low - reach) & (s.claim <= sheet.high + reach)
    code[kink] = np.where(inside, 0, 2)[kink]
    seen[kink & inside], seen[kink & ~inside] = Reason.KINK_SUBGRADIENT, Reason.OUTSIDE_KINK
    code[(code == 2) & (s.apart <= _underflow(sheet)) & np.isfinite(s.claim)] = 1
    doubtful = (code == 0) & ~kink & (s.apart > s.allowed) & claim.many
    return Compared(sheet.leaf, s, code, judged.unresolved & (code == 0) & ~kink, seen, doubtful, sheet.story)


def _underflow(sheet: Sheet) -> float:
    """A slope that may be lost among the smallest numbers that the function can return."""
    return UNDERFLOW * directions.smallest(sheet.eps) / min(setting.finest for setting in sheet.settings)


def _stands_still(stories: NDArray[np.object_]) -> NDArray[np.bool_]:
    """Whether the function stands exactly still as far around as no rounding of any precision reaches: then zero is right."""
    moved = [[h for h, d in zip(story.steps, story.differences, strict=True) if d != 0] for story in stories]
    return np.array([min(steps, default=0.0) >= WIDE for steps in moved], dtype=bool)


def sides(claim: F64, value: F64, bound: F64, own: F64, scale: F64, nearby: F64 | None = None) -> Sides:
    """Both sides of the interval test, for one leaf."""
    whole = np.max(np.where(np.isfinite(scale), scale, 0.0), initial=0.0)
    around = np.zeros(scale.shape) if nearby is None else nearby
    return Sides(claim, value, bound, own, scale, np.broadcast_to(whole, scale.shape), around)

"""From judged arrays to the line of the table."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.backends.flat import Leaf
from gradcheck.backends.program import Program
from gradcheck.compare.estimates import careful
from gradcheck.results import Comparison, Reason, Verdict, Whereabouts, WrongEntry
from gradcheck.verdict.interval import VERDICTS, reason_for
from gradcheck.verdict.slices import named_slice

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gradcheck.compare.estimates import Sheet
    from gradcheck.compare.judge import Compared
    from gradcheck.evidence.line import F64


LISTED = 8  # wrong entries


def relative_errors(c: Compared) -> F64:
    """|claim - estimate| over the entry's own size, or its leaf's largest where its own is lost beside that, (C, L).

    Between the slopes of a kink the error is 0; of a derivative that is zero to within its bound it has no meaning: NaN.
    """
    s = c.sides
    with np.errstate(all="ignore"):
        zero = (c.code == 0) & (s.size <= s.allowed) & (s.apart > 0)
        scale = np.where((c.code == 0) & c.unresolved, s.whole, s.scale)
        inside = (c.seen == Reason.KINK_SUBGRADIENT) & (c.code == 0)
        found = np.where((s.apart == 0) | inside, 0.0, s.apart / scale)
    found = np.where(zero & ~c.unresolved & ~inside, np.nan, found)
    return np.where(np.isnan(s.claim) & (c.code == 2), np.inf, found)


def worst_place(c: Compared) -> tuple[int, int]:
    """Channel and line of the entry to show: the worst verdict, and among these the largest relative error."""
    errors = np.nan_to_num(relative_errors(c), nan=-1.0, posinf=1e300)
    rank = np.where(c.code == np.max(c.code), errors + 1e-300 * _counted(c), -2.0)
    channel, line = np.unravel_index(int(np.argmax(rank)), rank.shape)
    return int(channel), int(line)


def _counted(c: Compared) -> NDArray[np.bool_]:
    """Entries whose derivative is known by its own size or its leaf's: neither zero nor at a kink nor declared."""
    kinky = (c.seen == Reason.KINK_SUBGRADIENT) | (c.seen == Reason.TIE) | (c.seen == Reason.STRAIGHT_THROUGH)
    return np.asarray((c.code == 0) & ~kinky & (c.sides.size > c.sides.allowed), dtype=bool)


def resolution_of(c: Compared) -> float:
    """The relative error to within which the passed entries are right; NaN where all are zero or at kinks."""
    s = c.sides
    with np.errstate(all="ignore"):
        scale = np.where(c.unresolved, s.whole, s.scale)
        found = (s.apart + s.allowed) / scale
    counted = _counted(c) & np.isfinite(found)
    return float(np.max(found, where=counted, initial=0.0)) if counted.any() else float("nan")


def comparison(
    c: Compared,
    program: Program,
    methods: tuple[str, str],
    rtol: float,
    *,
    units: F64,
    channels: F64 | None,
    resolution: float,
    trial: int,
    mode: str = "full",
    certainty: float = 1.0,
) -> Comparison:
    """The line of one leaf and pair of methods.

    Args:
        certainty: with which an error of the size of the resolution would have been caught.
        units: displacement per line, (L,), by which directional derivatives become partial ones; ones for probes.
        channels: combinations of outputs; None: each output by itself.
    """
    channel, line = worst_place(c)
    place, s = (channel, line), c.sides
    verdict = VERDICTS[int(c.code[place])]
    per = abs(float(units[line])) or 1.0
    sign = np.sign(float(units[line])) or 1.0
    claimed, estimate = float(s.claim[place]) / per * sign, float(s.value[place]) / per * sign
    apart, allowed = float(s.apart[place]) / per, float(s.allowed[place]) / per
    seen = c.seen[place]
    story = None if c.story is None else c.story[place]
    if seen is Reason.KINK_SUBGRADIENT and verdict is Verdict.PASS:
        apart = 0.0
    return Comparison(
        wrt=c.leaf.path,
        output=output_name(program, channel, channels),
        method=methods[0],
        against=methods[1],
        verdict=verdict,
        reason=_reason(c, verdict, claimed, estimate, allowed, seen),
        claimed=claimed,
        estimate=estimate,
        bound=allowed,
        abs_err=apart,
        rel_err=float(relative_errors(c)[place]),
        rtol=rtol,
        resolution=resolution if verdict is Verdict.PASS else float("nan"),
        worst_entry=c.leaf.index(c.leaf.start + line) if mode == "full" else None,
        shape=c.leaf.shape,
        dtype=c.leaf.dtype,
        entries=c.leaf.entries,
        unresolved=int(np.sum(np.any(c.unresolved & (s.size > s.allowed), axis=0))),
        trial=trial,
        mode=mode,
        certainty=certainty,
        story=story and story.per(float(units[line]) or 1.0),
        where=c.where or (_where(c, program, units, channels) if mode == "full" and verdict is Verdict.FAIL else None),
    )


def _where(c: Compared, program: Program, units: F64, channels: F64 | None) -> Whereabouts:
    """The wrong entries, where all were looked at: those that are off by most first, each at its worst channel."""
    s, wrong = c.sides, c.code == 2
    with np.errstate(all="ignore"):
        off = np.where(wrong, np.nan_to_num(s.apart / np.abs(units), nan=np.inf), -1.0)
    places = np.flatnonzero(np.any(wrong, axis=0))
    places = places[np.argsort(-np.max(off[:, places], axis=0), kind="stable")]
    _, first = np.unique(places // c.leaf.width, return_index=True)  # of a complex entry the part that is off by more
    places = places[np.sort(first)]
    entries = []
    for i in places[:LISTED]:
        at, unit = (int(np.argmax(off[:, i])), i), float(units[i]) or 1.0
        claimed, estimate, bound = map(float, (s.claim[at] / unit, s.value[at] / unit, s.allowed[at] / abs(unit)))
        index, output = c.leaf.index(c.leaf.start + int(i)), output_name(program, at[0], channels)
        entries.append(WrongEntry(index, claimed, estimate, bound, output))
    marked = np.any(wrong, axis=0).reshape(*c.leaf.shape, c.leaf.width).any(axis=-1)
    return Whereabouts(tuple(entries), len(places), 1.0, slice=named_slice(marked, c.leaf.path) or "")


def told(line: Comparison, c: Compared, sheet: Sheet, units: F64) -> Comparison:
    """The same with the story of the estimate at its worst entry, where steps were not tried one by one before."""
    if line.story is not None:
        return line
    channel, place = worst_place(c)
    story = careful(sheet.phis[place], sheet.settings[place]).story[channel]
    return replace(line, story=story.per(float(units[place]) or 1.0))


def _reason(c: Compared, verdict: Verdict, claimed: float, estimate: float, allowed: float, seen: Reason | None) -> Reason:
    if verdict is Verdict.PASS and np.any(c.seen == Reason.KINK_SUBGRADIENT):
        return Reason.KINK_SUBGRADIENT
    for told in (Reason.TIE, Reason.STRAIGHT_THROUGH):  # of all entries, not only of the one shown
        if verdict is Verdict.PASS and np.any(c.seen == told):
            return told
    if seen in (Reason.OUTSIDE_KINK, Reason.STRAIGHT_THROUGH) and verdict is Verdict.FAIL:
        return seen
    return reason_for(verdict, claimed, estimate, allowed, seen)


def output_name(program: Program, channel: int, channels: F64 | None) -> str:
    """The output a channel stands for, with its index; 'combination' for several."""
    if channels is not None:
        members = np.flatnonzero(channels[channel])
        if members.size > 1:
            return "combination"
        channel = int(members[0]) if members.size else 0
    return output_leaf(program, channel).entry(channel)


def output_leaf(program: Program, position: int) -> Leaf:
    """The output that a position of the flat vector belongs to."""
    return next(leaf for leaf in program.outputs if leaf.span.start <= position < leaf.span.stop)

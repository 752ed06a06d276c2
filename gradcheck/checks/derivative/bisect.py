"""In probe mode: from sums that disagree down to the wrong entries, one after the other.

What a found entry adds to the disagreement is known from its own estimate. So it is taken out, and what is left is looked at
again along the same probes: where they agree now, no other entry is wrong by more than the resolution.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.checks.derivative import straight_through
from gradcheck.checks.derivative.probe_block import Part, along, only
from gradcheck.compare import entry_lines
from gradcheck.compare.estimates import measure
from gradcheck.compare.judge import Along, Compared, look, settle
from gradcheck.compare.table import output_name
from gradcheck.evidence import central, directions
from gradcheck.results import Whereabouts, WrongEntry
from gradcheck.seeds import generator
from gradcheck.verdict.bisection import descend

if TYPE_CHECKING:
    from gradcheck.backends.flat import Leaf
    from gradcheck.compare.jacobians import Rows
    from gradcheck.compare.trial import Bench
    from gradcheck.evidence.line import F64, Phi, Setting

Slopes = Callable[[int, int, int], float]  # of (start, stop, attempt)
ATTEMPTS = 4  # ways down to a wrong entry that are tried, along other directions each
MOST = 8  # wrong entries that are looked for
GROSS = 1e-4  # relative: what a plain difference tells of an entry
CONFIRMING = 150  # evaluations at most, to be sure of the first wrong entry
SAMPLED = 8  # other entries that tell whether most are wrong


@dataclass(frozen=True)
class _Found:
    """A wrong entry: its place in the leaf, the judgement, and what the evidence says of it for every probe, (C,)."""

    place: int
    judged: Compared
    entry: WrongEntry
    value: F64
    bound: F64


def wrong_entries(bench: Bench, rows: Rows, part: Part, found: Compared, rtol: float) -> Compared | None:
    """The judgement of the first wrong entry of a leaf, with where all are; None where no single one shows."""
    leaf = part.sheet.leaf
    urgency = np.where((found.code == 2) | found.doubtful, found.sides.apart / np.maximum(found.sides.allowed, 1e-300), 0.0)
    channel = int(np.argmax(urgency[0]))
    if _too_dear(bench, leaf):
        return None
    slopes, rest, sampled = _slopes(bench, leaf, channel), rows, (0, 0)
    known: dict[int, _Found] = {}
    while len(known) < MOST:
        ways = (_next(bench, rest, leaf, channel, slopes, rtol, attempt, first=not known) for attempt in range(ATTEMPTS))
        one = next((w for w in ways if w is not None), None)
        if one is None or one.place in known:
            break
        known[one.place] = one
        rest = _without(rest, leaf, one)
        left = look(part.sheet, along(rest, part), rtol, demanded=bench.demanded)
        if not np.any(left.code) and not np.any(left.doubtful):
            whole = part.place == slice(0, leaf.entries * leaf.width)
            share = (part.place.stop - part.place.start) / (leaf.entries * leaf.width)
            return _located(known, share, sampled, complete=whole)
        if len(known) == 1:
            sampled = _sample(bench, rows, leaf, channel, one.place, rtol)
            if 2 * sampled[1] >= sampled[0]:
                break
    return _located(known, (len(known) + sampled[0]) / (leaf.entries * leaf.width), sampled, complete=False)


def _too_dear(bench: Bench, leaf: Leaf) -> bool:
    """Whether the way down to one entry would take more time than the user allows; a note says so."""
    evaluator, budget = bench.evaluator, bench.options.budget
    predicted = (2 * math.log2(leaf.entries * leaf.width) + CONFIRMING) * evaluator.seconds
    if budget is None or evaluator.spent + predicted <= budget:
        return False
    note = (
        f"{leaf.path}: to find the wrong entry would take about {predicted:.2g} s more than the --budget of {budget:g} s leaves"
    )
    evaluator.remarks.append(note)
    return True


def _located(known: dict[int, _Found], share: float, sampled: tuple[int, int], *, complete: bool) -> Compared | None:
    if not known:
        return None
    found = sorted(known.values(), key=lambda one: -abs(one.entry.claimed - one.entry.estimate))
    wrong = [one for one in found if one.judged.code[0, 0] == 2]
    if not wrong:  # declared straight-through: no more than that is known of the others
        return found[0].judged
    entries = {one.entry.entry: one.entry for one in reversed(wrong)}  # of a complex entry the part that is off by more
    named = tuple(reversed(entries.values()))
    where = Whereabouts(named, len(named) if complete else None, share, sampled)
    return replace(wrong[0].judged, where=where)


def _slopes(bench: Bench, leaf: Leaf, channel: int) -> Slopes:
    """The function's slopes, which every way down shares: whatever is claimed, they are the same."""
    setting = only(bench.setting, channel)
    step = central.steps_for(setting, bench.program.eps)[-1]

    @functools.cache
    def along_part(start: int, stop: int, attempt: int) -> float:
        kept = np.zeros(leaf.entries * leaf.width)
        kept[start:stop] = _tangent(bench, leaf, attempt)[start:stop]
        phi = bench.evaluator.line(entry_lines.embedded(bench.program, leaf, kept))
        if attempt:  # the last one was misled: with more care now
            return float(central.estimate(phi, setting, (step,)).value[0])
        return _difference(phi, setting, step)

    return along_part


def _difference(phi: Phi, setting: Setting, step: float) -> float:
    with np.errstate(all="ignore"):
        return float(setting.contract(phi(step) - phi(-step))[0] / (2 * step))


def _tangent(bench: Bench, leaf: Leaf, attempt: int) -> F64:
    rng = generator(0, "descent", bench.label, leaf.path, attempt)
    return directions.dense(rng, bench.program.point[leaf.span], bench.program.eps)


def _next(
    bench: Bench, rows: Rows, leaf: Leaf, channel: int, slopes: Slopes, rtol: float, attempt: int, *, first: bool
) -> _Found | None:
    """The entry that a way down leads to, if its own estimate confirms that it is wrong."""
    gradient = rows.rows[channel, leaf.span]
    if not np.all(np.isfinite(gradient)):  # of a sum with a NaN no half can be told from the other
        return _confirmed(bench, rows, leaf, channel, int(np.argmin(np.isfinite(gradient))), rtol, first=first)
    u = _tangent(bench, leaf, attempt)

    def disagreement(part: slice) -> float:
        return float(gradient[part] @ u[part]) - slopes(part.start, part.stop, attempt)

    return _confirmed(bench, rows, leaf, channel, descend(u.size, disagreement), rtol, first=first)


def _confirmed(bench: Bench, rows: Rows, leaf: Leaf, channel: int, i: int, rtol: float, *, first: bool) -> _Found | None:
    program = bench.program
    unit = float(entry_lines.displacements(program, leaf)[i])
    sheet = measure(leaf, [bench.evaluator.line_of_entry(leaf.start + i, unit)], [bench.setting], program.eps)
    value, error = (a[:, leaf.start + i, None] * unit for a in (rows.rows, rows.own))
    claim = Along(value, np.abs(error), np.abs(error), np.abs(value), many=False)
    judged = look(sheet, claim, rtol, demanded=bench.demanded)
    if (
        first or judged.code[channel, 0] != 2 or np.any(sheet.rough)
    ):  # else as clear as the first, which was looked at with care
        judged = settle(sheet, claim, rtol, demanded=bench.demanded, hidden_too=first)
    if judged.code[channel, 0] != 2:
        return None
    judged = straight_through.through(sheet, judged, declared=bench.options.straight_through)
    s = judged.sides
    entry = WrongEntry(
        leaf.index(leaf.start + i),
        float(s.claim[channel, 0] / unit),
        float(s.value[channel, 0] / unit),
        float(s.allowed[channel, 0] / abs(unit)),
        output_name(program, channel, bench.setting.channels),
    )
    shown = replace(judged.only(channel), at=(i, unit))
    return _Found(i, shown, entry, sheet.value[:, 0] / unit, sheet.bound[:, 0] / abs(unit))


def _without(rows: Rows, leaf: Leaf, found: _Found) -> Rows:
    """The claim with one entry replaced by what the evidence says of it."""
    values, own = rows.rows.copy(), rows.own.copy()
    values[:, leaf.start + found.place], own[:, leaf.start + found.place] = found.value, found.bound
    return replace(rows, rows=values, own=own)


def _sample(bench: Bench, rows: Rows, leaf: Leaf, channel: int, known: int, rtol: float) -> tuple[int, int]:
    """Of some other entries, how many are wrong, cheaply."""
    size, setting = leaf.entries * leaf.width, only(bench.setting, channel)
    step = central.steps_for(setting, bench.program.eps)[-1]
    chosen = generator(0, "sample", bench.label, leaf.path).permutation(size)[: SAMPLED + leaf.width]
    chosen = chosen[chosen // leaf.width != known // leaf.width][:SAMPLED]
    units = entry_lines.displacements(bench.program, leaf)[chosen]
    wrong = 0
    for i, unit in zip(chosen, units, strict=True):
        phi = bench.evaluator.line_of_entry(leaf.start + int(i), float(unit))
        claim, found = float(rows.rows[channel, leaf.start + i] * unit), central.estimate(phi, setting, (step,))
        slope, bound = float(found.value[0]), float(found.bound[0])
        wrong += abs(claim - slope) - bound > max(rtol, GROSS) * max(abs(claim), abs(slope))
    return len(chosen), wrong

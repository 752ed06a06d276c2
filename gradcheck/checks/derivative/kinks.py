"""What a claim is worth beside a point where the function is not differentiable.

At a kink any slope between the one-sided ones is right, so nearly any code passes there. And at a tie of three, as of a median,
each input by itself moves nothing, whatever the convention. A little away the function is smooth, and one claim is right.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.backends.flat import Leaf
from gradcheck.backends.program import Program
from gradcheck.compare import conditioning, entry_lines, jacobians
from gradcheck.compare.estimates import measure
from gradcheck.compare.evaluator import Evaluator
from gradcheck.compare.jacobians import Rows
from gradcheck.compare.judge import Along, Compared, settle
from gradcheck.evidence import directions
from gradcheck.evidence.line import F64, Setting
from gradcheck.results import Reason
from gradcheck.seeds import generator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gradcheck.backends.flat import Leaf
    from gradcheck.compare.evaluator import Evaluator
    from gradcheck.compare.jacobians import Rows
    from gradcheck.compare.trial import Bench
    from gradcheck.evidence.line import F64

PAIRED = 4  # leaves at kinks up to which each pair of them is looked at

KINKED = 3  # random directions through a kink

AWAY = 2.0**-8  # of an entry's scale: far enough for many steps that are finer still, and for it to keep that scale
LOOKED_AT = 16  # entries at kinks that are looked at from beside
TWICE = 2  # points, on either side, at which a claim must be right
SAMPLES = 32  # points around a tie whose gradients say what a subgradient may be
DIRECTIONS = 3  # in which they are compared
COLUMNS = ("claim", "value", "bound", "rounding", "scale")  # of the sides: what is in units of a line
STEPS = 2.0 ** -np.arange(10, 23, 4)  # at which changes are added up
SLOWLY = 0.5  # of a change's share from one step to the next, a sixteenth: of a smooth function it is 1/16
SUMS = 4.0  # values that a sum of changes is made of
WITHIN = 1e-6  # of the spread of these gradients


def kinks(bench: Bench, c: Compared, rows: Rows, cotangents: F64) -> Compared:
    """Look at entries that passed at a kink from beside it; INCONCLUSIVE where the claim is wrong there, on either side.

    It may be a valid subgradient where it was asked for, but hardly by the right code.
    """
    passed = np.flatnonzero(np.any((c.seen == Reason.KINK_SUBGRADIENT) & (c.code == 0), axis=0))
    if not passed.size or rows.claim is None:
        return c
    places = passed[np.linspace(0, passed.size - 1, min(LOOKED_AT, passed.size)).astype(int)]
    wrong = [_judged(bench, c.leaf, rows, cotangents, places, beside(bench, c.leaf, places, k)) for k in range(TWICE)]
    first = next((w for w in wrong if w is not None and np.any(w.code == 2)), None)
    return c if first is None else _with(bench, c, places, first)


def ties(bench: Bench, c: Compared, rows: Rows, cotangents: F64) -> Compared:
    """Before a claim is called wrong: is the function differentiable here at all?"""
    wrong = (c.code == 2) & np.isfinite(c.sides.claim)
    if not np.any(wrong) or rows.claim is None:
        return c
    urgency = np.where(wrong, c.sides.apart / np.maximum(c.sides.allowed, 1e-300), 0.0)
    places = np.argsort(-np.max(urgency, axis=0), kind="stable")[:TWICE]
    known = bool(np.any(c.seen[wrong] == Reason.OUTSIDE_KINK))
    again = tie_at(bench, [c.leaf], rows, cotangents, places, known=known)
    others = _leaves_with(bench, c.leaf, int(places[0])) if again is None else []
    if others:
        again = tie_at(bench, [c.leaf, *others], rows, cotangents, places, known=known)
    if again is None:
        return c
    seen = c.seen.copy()
    seen[wrong & (again[:, None] < 2)], seen[wrong & (again[:, None] == 2)] = Reason.TIE, Reason.OUTSIDE_KINK
    return replace(c, code=np.where(wrong, again[:, None], c.code).astype(np.int8), seen=seen)


def _leaves_with(bench: Bench, leaf: Leaf, place: int) -> list[Leaf]:
    """The other leaves in which there is an entry equal to one of a leaf."""
    point = bench.program.point
    return [other for other in bench.leaves if other is not leaf and np.any(point[other.span] == point[leaf.start + place])]


def tie_at(
    bench: Bench, leaves: Sequence[Leaf], rows: Rows, cotangents: F64, places: NDArray[np.intp], *, known: bool
) -> NDArray[np.int8] | None:
    """Judge a claim at a tie, channel by channel, (C,); None where there is none, or the claim is wrong beside it too.

    At a tie the slopes along two directions do not add up, if it is not known for a kink already. The claim must be right
    beside this point, and along some directions lie between those found around it; at a known kink without a doubt.

    Args:
        leaves: whose entries may be tied.
        places: of the first of them, at which the claim is judged beside the tie.
    """
    if not known and not _do_not_add_up(bench, leaves, int(places[0])):
        return None
    points = [_all_beside(bench, leaves, k) for k in range(SAMPLES)]
    judged = [_judged(bench, leaves[0], rows, cotangents, places, point) for point in points[:TWICE]]
    if any(j is None or np.any(j.code == 2) for j in judged):
        return None
    found = _between(bench, leaves, rows, cotangents, points)
    return np.where(found == 1, 2, found).astype(np.int8) if known else found


def beside(bench: Bench, leaf: Leaf, places: NDArray[np.intp], k: int) -> F64:
    """A point a little away in some entries of a leaf; those of an even number and the next lie opposite each other."""
    point, x = bench.program.point.copy(), bench.program.point[leaf.span]
    rng = generator(0, "beside", bench.label, leaf.path, k // 2)
    jitter = (-1.0) ** k * rng.choice([-1.0, 1.0], places.size) * rng.uniform(0.5, 1.0, places.size)
    point[leaf.start + places] += AWAY * directions.scales_of(x)[places] * jitter
    return point


def _all_beside(bench: Bench, leaves: Sequence[Leaf], k: int) -> F64:
    """The same of all entries of some leaves."""
    point = bench.program.point.copy()
    for leaf, unit in zip(leaves, alike(bench.program, leaves), strict=True):
        there = beside(bench, leaf, np.arange(leaf.entries * leaf.width), k)[leaf.span]
        point[leaf.span] += unit * (there - point[leaf.span])
    return point


def moved(bench: Bench, rows: Rows, cotangents: F64, point: F64) -> tuple[Bench, Rows] | None:
    """The bench and the claim at another point; None where the function or the claim does not exist there."""
    assert rows.claim is not None
    try:
        value = bench.program.evaluate(point)
        program = replace(bench.program, point=point, value=value)
        found = jacobians.of_claim(rows.claim, jacobians.rows_of(rows.claim, point, cotangents), program)
    except Exception:
        return None
    if value.shape != bench.program.value.shape or not np.all(np.isfinite(value)):
        return None
    there = replace(bench, program=program, evaluator=Evaluator(program), setting=replace(bench.setting, base=value))
    return there, conditioning.jittered(found, program, cotangents)


def _judged(bench: Bench, leaf: Leaf, rows: Rows, cotangents: F64, places: NDArray[np.intp], point: F64) -> Compared | None:
    """Entries of the claim at another point, held against estimates there, as partial derivatives."""
    found = moved(bench, rows, cotangents, point)
    if found is None:
        return None
    there, claim = found
    units, at = entry_lines.displacements(there.program, leaf)[places], leaf.start + places
    phis = [there.evaluator.line_of_entry(int(i), float(d)) for i, d in zip(at, units, strict=True)]
    sheet = measure(leaf, phis, [there.setting] * len(phis), there.program.eps)
    along, size = claim.rows[:, at] * units, np.abs(units)
    side = Along(along, claim.own[:, at] * size, claim.slip[:, at] * size, np.abs(along), many=False)
    judged = settle(sheet, side, bench.rtol(rows), demanded=bench.demanded)
    bench.evaluator.count += there.evaluator.count
    per = {name: getattr(judged.sides, name) / size for name in COLUMNS}
    return replace(judged, sides=replace(judged.sides, **per))


def _with(bench: Bench, c: Compared, places: NDArray[np.intp], other: Compared) -> Compared:
    """The same with the entries replaced that are wrong beside the kink, which decides nothing at it."""
    code, seen, bad = c.code.copy(), c.seen.copy(), other.code == 2
    channels, at = np.nonzero(bad)
    code[channels, places[at]], seen[channels, places[at]] = 1, Reason.BESIDE_KINK
    units = np.abs(entry_lines.displacements(bench.program, c.leaf))[places]  # the other's lines are in units of one
    columns = {}
    for name in COLUMNS:
        column = np.array(np.broadcast_to(getattr(c.sides, name), c.code.shape))
        column[channels, places[at]] = (getattr(other.sides, name) * units)[bad]
        columns[name] = column
    return replace(c, code=code, seen=seen, sides=replace(c.sides, **columns), story=None)


def _do_not_add_up(bench: Bench, leaves: Sequence[Leaf], place: int) -> bool:
    """Whether changes along an entry's direction, either way, and along a random one do not add up to that along their sum.

    The random one moves the entries that equal it, where there are any: these it may be tied with. Of a differentiable function
    what is missing falls with the square of the step, else with the step itself.

    Args:
        place: of the entry, in the first leaf.
    """
    program, at = bench.program, leaves[0].start + place
    one, tied = np.zeros(program.point.size), np.zeros(program.point.size, dtype=bool)
    one[at] = 4 * entry_lines.displacements(program, leaves[0])[place]
    for leaf in leaves:
        tied[leaf.span] = program.point[leaf.span] == program.point[at]
    for k in range(DIRECTIONS):
        other = np.zeros(program.point.size)
        for leaf in leaves:
            rng = generator(0, "adds up", bench.label, leaf.path, k)
            other[leaf.span] = directions.dense(rng, program.point[leaf.span], program.eps)
        if np.sum(tied) > 1:
            other[~tied] = 0.0
        if any(_falls_with_the_step(bench, u, other) for u in (one, -one)):
            return True
    return False


def _falls_with_the_step(bench: Bench, u: F64, w: F64) -> bool:
    """Whether what is missing of additivity, at the finest steps where it shows, shrinks no faster than they do."""
    setting, lines = bench.setting, [bench.evaluator.line(v) for v in (u, w, u + w)]
    noise = SUMS * setting.slack * setting.combined(np.maximum(setting.deviation, setting.rounding(setting.base)))
    missing, size = [], []
    with np.errstate(all="ignore"):
        for t in STEPS:
            a, b, both = (setting.contract(phi(t) - setting.base) for phi in lines)
            missing.append(np.where(np.abs(both - a - b) > noise, np.abs(both - a - b), np.nan) / t)
            size.append((np.abs(a) + np.abs(b) + np.abs(both)) / t)
    ratio = np.array(missing[1:]) / np.array(missing[:-1])
    clear = np.array(missing[1:]) > WITHIN * np.array(size[1:])
    finest = np.array([np.flatnonzero(~np.isnan(column))[-1:] for column in ratio.T], dtype=object)
    return any(at.size and clear[at[0], c] and ratio[at[0], c] > SLOWLY for c, at in enumerate(finest))


def _between(bench: Bench, leaves: Sequence[Leaf], rows: Rows, cotangents: F64, points: list[F64]) -> NDArray[np.int8]:
    """Whether each channel's claim lies between those at points around, (C,): 0 it does, 2 it is far outside, 1 neither.

    Along some directions and along all entries alike; far is by more than these claims differ among themselves.
    """
    assert rows.claim is not None
    program = bench.program
    along = np.zeros((program.point.size, DIRECTIONS + 1))
    for leaf, unit in zip(leaves, alike(program, leaves), strict=True):
        x = program.point[leaf.span]
        tangents = [
            directions.dense(generator(0, "between", bench.label, leaf.path, k), x, program.eps) for k in range(DIRECTIONS)
        ]
        along[leaf.span] = unit * np.stack([*tangents, directions.scales_of(x)], axis=1)
    moved = np.any(along != 0, axis=1)
    along = along[moved]
    around = np.stack([jacobians.rows_of(rows.claim, p, cotangents)[:, moved] @ along for p in points])
    low, high = np.min(around, axis=0), np.max(around, axis=0)
    claim = rows.rows[:, moved] @ along
    # its rounding alone: jitter around a kink takes its jump for conditioning
    reach = WITHIN * (np.abs(low) + np.abs(high)) + rows.slip[:, moved] @ np.abs(along)
    outside = np.maximum(low - claim, claim - high)
    code = np.where(outside <= reach, 0, np.where(outside <= reach + (high - low), 1, 2))
    return np.asarray(np.max(code, axis=1), dtype=np.int8)


def through_kink(
    evaluator: Evaluator, setting: Setting, leaves: Sequence[Leaf], claimed: Rows, rtol: float, label: object
) -> Compared:
    """Hold a claim against one-sided slopes along dense directions of some leaves, which see a tie counted twice."""
    program = evaluator.program
    along = np.zeros((program.point.size, KINKED + 1))
    for leaf, unit in zip(leaves, alike(program, leaves), strict=True):
        x = program.point[leaf.span]
        tangents = [directions.dense(generator(0, "kink", label, leaf.path, k), x, program.eps) for k in range(KINKED)]
        tangents.append(directions.one_hot(x, program.eps))  # all entries alike: a tie stays one, and counts once
        along[leaf.span] = np.stack([directions.exact(unit * u, x, program.eps) for u in tangents], axis=1)
    phis = [evaluator.line(u) for u in along.T]
    sheet = measure(leaves[0], phis, [setting] * len(phis), program.eps)
    size = np.abs(along)
    own, slip = claimed.own @ size, claimed.slip @ size
    return settle(sheet, Along(claimed.rows @ along, own, slip, np.abs(claimed.rows) @ size, many=True), rtol, demanded=False)


def alike(program: Program, leaves: Sequence[Leaf]) -> list[float]:
    """What displacements in each of some leaves are multiplied by, so that entries of all of them move by the same."""
    scales = [directions.scale_of(program.point[leaf.span]) for leaf in leaves]
    return [min(scales) / scale for scale in scales]


def _at_ties(bench: Bench, c: Compared, rows: Rows) -> Compared:
    """Look along dense directions through a kink, which see a gradient that counts a tie twice; single entries do not."""
    if not np.any((c.seen == Reason.KINK_SUBGRADIENT) & (c.code == 0)):
        return c
    return _outside(c, _through_kink(bench, [c], rows) == 2)


def _between_leaves(bench: Bench, found: list[Compared], rows: Rows, cotangents: F64) -> list[Compared]:
    """The same along directions of several leaves: entries of two inputs may be tied, too."""
    tied = [c for c in found if np.any((c.seen == Reason.KINK_SUBGRADIENT) & (c.code == 0))]
    if len(tied) < 2 or rows.claim is None:
        return found
    for group in (*(combinations(tied, 2) if len(tied) <= PAIRED else ()), tied):
        code = _through_kink(bench, group, rows)
        if not np.any(code):
            continue
        places = np.flatnonzero(np.any(group[0].seen == Reason.KINK_SUBGRADIENT, axis=0))[:TWICE]
        again = tie_at(bench, [c.leaf for c in group], rows, cotangents, places, known=True)
        wrong = code == 2 if again is None else (code > 0) & (again == 2)
        if np.any(wrong):
            return [_outside(c, wrong) if any(c is other for other in group) else c for c in found]
    return found


def _through_kink(bench: Bench, found: Sequence[Compared], rows: Rows) -> NDArray[np.int8]:
    """What each channel's claim is along dense directions of some leaves, (C,): 0 right, 1 in doubt, 2 wrong.

    In doubt it is where jitter breaks the tie, and the jump counts for the claim's own rounding.
    """
    dense = through_kink(bench.evaluator, bench.setting, [c.leaf for c in found], rows, bench.rtol(rows), bench.label)
    clean = ~np.any([np.any(c.code == 2, axis=1) for c in found], axis=0)  # else it may be other entries that these show
    return np.where(clean, np.max(dense.code, axis=1, initial=0), 0).astype(np.int8)


def _outside(c: Compared, wrong: NDArray[np.bool_]) -> Compared:
    """Let a leaf's entries at a kink be wrong in some channels."""
    at = wrong[:, None] & (c.seen == Reason.KINK_SUBGRADIENT)
    seen = c.seen.copy()
    seen[at] = Reason.OUTSIDE_KINK
    return replace(c, code=np.where(at, 2, c.code).astype(np.int8), seen=seen)


def _unless_tied(bench: Bench, rows: Rows, wrong: Compared, cotangents: F64) -> Compared:
    """What is wrong, unless the function is not differentiable here and the claim one of its subgradients."""
    bad = (wrong.code == 2) & np.isfinite(wrong.sides.claim) & (wrong.seen != Reason.STRAIGHT_THROUGH)
    if not np.any(bad):
        return wrong
    x = bench.program.point[wrong.leaf.span]
    place = wrong.at[0] if wrong.at is not None else _most_tied(x)
    known = bool(np.any(wrong.seen[bad] == Reason.OUTSIDE_KINK))
    tied = tie_at(bench, [wrong.leaf], rows, cotangents, np.array([place]), known=known)
    if tied is None or np.max(tied) == 2:
        return wrong
    seen = wrong.seen.copy()
    seen[bad] = Reason.TIE
    return replace(wrong, code=np.where(bad, np.max(tied), wrong.code).astype(np.int8), seen=seen, where=None)


def _most_tied(x: F64) -> int:
    """An entry that equals the most others."""
    _, first, counts = np.unique(x, return_index=True, return_counts=True)
    return int(first[np.argmax(counts)])

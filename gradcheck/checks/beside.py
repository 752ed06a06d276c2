"""What a claim is worth beside a point where the function is not differentiable.

At a kink any slope between the one-sided ones is right, so nearly any code passes there. And at a tie of three, as of a median,
each input by itself moves nothing, whatever the convention. A little away the function is smooth, and one claim is right.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.checks import claims, partials
from gradcheck.checks.evaluator import Evaluator
from gradcheck.checks.sheet import Along, Compared, careful, measure, settle
from gradcheck.evidence import probes
from gradcheck.results import Reason
from gradcheck.seeds import generator

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gradcheck.backends.program import Leaf
    from gradcheck.checks.bench import Bench
    from gradcheck.checks.claims import Rows
    from gradcheck.evidence.line import F64

AWAY = 2.0**-10  # of an entry's scale: far enough for many steps that are finer still
LOOKED_AT = 16  # entries at kinks that are looked at from beside
TWICE = 2  # points at which a claim must be wrong, or right, for that to count
SAMPLES = 8  # points around a tie whose gradients say what a subgradient may be
DIRECTIONS = 3  # in which they are compared
WITHIN = 1e-6  # of the spread of these gradients


def kinks(bench: Bench, c: Compared, rows: Rows, cotangents: F64) -> Compared:
    """Look at entries that passed at a kink from beside it; FAIL where the claim is wrong there, at both points tried."""
    passed = np.flatnonzero(np.any((c.seen == Reason.KINK_SUBGRADIENT) & (c.code == 0), axis=0))
    if not passed.size or rows.claim is None:
        return c
    places = passed[:LOOKED_AT]
    wrong = [_judged(bench, c.leaf, rows, cotangents, places, _beside(bench, c.leaf, places, k)) for k in range(TWICE)]
    both = np.all([w is not None and np.any(w.code == 2) for w in wrong])
    if not both or wrong[-1] is None:
        return c
    return _with(bench, c, places, wrong[-1])


def ties(bench: Bench, c: Compared, rows: Rows, cotangents: F64) -> Compared:
    """Before a claim is called wrong: is the function differentiable here at all?

    Where its slopes along two directions do not add up, the claim must be right beside this point, and along some directions
    lie between the gradients found around it.
    """
    wrong = (c.code == 2) & np.isfinite(c.sides.claim) & (c.seen != Reason.OUTSIDE_KINK)
    if not np.any(wrong) or rows.claim is None or np.any(c.seen == Reason.BESIDE_KINK):
        return c
    urgency = np.where(wrong, c.sides.apart / np.maximum(c.sides.allowed, 1e-300), 0.0)
    places = np.argsort(-np.max(urgency, axis=0), kind="stable")[:TWICE]
    if not _do_not_add_up(bench, c.leaf, int(places[0])):
        return c
    everywhere = np.arange(c.code.shape[1])
    points = [_beside(bench, c.leaf, everywhere, k) for k in range(SAMPLES)]
    judged = [_judged(bench, c.leaf, rows, cotangents, places, point) for point in points[:TWICE]]
    if any(j is None or np.any(j.code == 2) for j in judged):
        return c
    again = _between(bench, c.leaf, rows, cotangents, points)[:, None]
    seen = c.seen.copy()
    seen[wrong & (again < 2)], seen[wrong & (again == 2)] = Reason.TIE, Reason.OUTSIDE_KINK
    return replace(c, code=np.where(wrong, again, c.code).astype(np.int8), seen=seen)


def _beside(bench: Bench, leaf: Leaf, places: NDArray[np.intp], k: int) -> F64:
    """A point a little away in some entries of a leaf."""
    point, x = bench.program.point.copy(), bench.program.point[leaf.span]
    rng = generator(0, "beside", bench.label, leaf.path, k)
    jitter = rng.choice([-1.0, 1.0], places.size) * rng.uniform(0.5, 1.0, places.size)
    point[leaf.start + places] += AWAY * probes.scales_of(x)[places] * jitter
    return point


def _judged(bench: Bench, leaf: Leaf, rows: Rows, cotangents: F64, places: NDArray[np.intp], point: F64) -> Compared | None:
    """The claim at another point, held against estimates there; None where the function or the claim does not exist there."""
    assert rows.claim is not None
    try:
        value = bench.program.evaluate(point)
        moved = claims.of_claim(rows.claim, claims.rows_of(rows.claim, point, cotangents), bench.program)
    except Exception:
        return None
    if value.shape != bench.program.value.shape or not np.all(np.isfinite(value)):
        return None
    program = replace(bench.program, point=point, value=value)
    moved = claims.jittered(moved, program, cotangents)
    evaluator = Evaluator(program)
    units = partials.displacements(program, leaf)[places]
    phis = [evaluator.line_of_entry(leaf.start + int(i), float(d)) for i, d in zip(places, units, strict=True)]
    sheet = measure(leaf, phis, [replace(bench.setting, base=value)] * len(phis), program.eps)
    at = leaf.start + places
    size = np.abs(units)
    along = Along(
        moved.rows[:, at] * units,
        moved.own[:, at] * size,
        moved.slip[:, at] * size,
        np.abs(moved.rows[:, at]) * size,
        many=False,
    )
    found = settle(sheet, along, bench.rtol(rows), demanded=bench.demanded)
    bench.evaluator.count += evaluator.count
    return found


def _with(bench: Bench, c: Compared, places: NDArray[np.intp], other: Compared) -> Compared:
    """The same with the entries replaced that are wrong beside the kink."""
    code, seen, bad = c.code.copy(), c.seen.copy(), other.code == 2
    channels, at = np.nonzero(bad)
    code[channels, places[at]], seen[channels, places[at]] = 2, Reason.BESIDE_KINK
    units = np.abs(partials.displacements(bench.program, c.leaf))[places]  # the other's lines are in units of one
    columns = {}
    for name in ("claim", "value", "bound", "rounding", "scale"):
        column = np.array(np.broadcast_to(getattr(c.sides, name), c.code.shape))
        column[channels, places[at]] = (getattr(other.sides, name) * units)[bad]
        columns[name] = column
    return replace(c, code=code, seen=seen, sides=replace(c.sides, **columns), story=None)


def _do_not_add_up(bench: Bench, leaf: Leaf, place: int) -> bool:
    """Whether the slope along the sum of two directions, an entry's and a random one, is not the sum of their slopes."""
    program, x = bench.program, bench.program.point[leaf.span]
    one = np.zeros(x.size)
    one[place] = 4 * partials.displacements(program, leaf)[place]
    for k in range(DIRECTIONS):
        other = probes.dense(generator(0, "adds up", bench.label, leaf.path, k), x, program.eps)
        lines = [bench.evaluator.line(partials.embedded(program, leaf, u)) for u in (one, other, one + other)]
        a, b, both = (careful(phi, bench.setting) for phi in lines)
        with np.errstate(all="ignore"):
            apart = np.abs(a.value + b.value - both.value) - (a.bound + b.bound + both.bound)
        if np.any(apart > WITHIN * (np.abs(a.value) + np.abs(b.value) + np.abs(both.value))):
            return True
    return False


def _between(bench: Bench, leaf: Leaf, rows: Rows, cotangents: F64, points: list[F64]) -> NDArray[np.int8]:
    """Whether each channel's claim lies between those at points around, (C,): 0 it does, 2 it is far outside, 1 neither.

    Along some directions and along all entries alike; far is by more than these claims differ among themselves.
    """
    assert rows.claim is not None
    x = bench.program.point[leaf.span]
    tangents = [
        probes.dense(generator(0, "between", bench.label, leaf.path, k), x, bench.program.eps) for k in range(DIRECTIONS)
    ]
    along = np.stack([*tangents, probes.scales_of(x)], axis=1)
    around = np.stack([claims.rows_of(rows.claim, p, cotangents)[:, leaf.span] @ along for p in points])
    low, high = np.min(around, axis=0), np.max(around, axis=0)
    claim = rows.rows[:, leaf.span] @ along
    reach = WITHIN * (np.abs(low) + np.abs(high)) + rows.own[:, leaf.span] @ np.abs(along)
    outside = np.maximum(low - claim, claim - high)
    code = np.where(outside <= reach, 0, np.where(outside <= reach + (high - low), 1, 2))
    return np.asarray(np.max(code, axis=1), dtype=np.int8)

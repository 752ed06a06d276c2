"""Full mode at its cheapest: the entries of a leaf in groups, along two random directions each; one by one where they disagree.

What a group is off by along a line is taken for the error of each of its entries in turn: had it been that one alone, it would
be that much, since a line moves every entry by at least half of its scale. So each entry has an estimate and a bound of its
own, hardly wider than those of a line that moves it alone: noise does not grow with the entries that move.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gradcheck.checks import partials
from gradcheck.checks.sheet import Sheet, blank, estimate
from gradcheck.evidence import brief, probes
from gradcheck.seeds import generator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gradcheck.backends.program import Claim, Leaf, Program
    from gradcheck.checks.claims import Rows
    from gradcheck.checks.evaluator import Evaluator
    from gradcheck.evidence.line import F64, Setting

GROUP = 128  # numbers; no more of them in all are looked at one by one
LINES = 2
PATIENCE = 3  # groups that disagree, as many as agree, before the rest of a leaf is looked at one by one
TERMS = 16.0  # units in the last place of the terms: what two modes of differentiation may differ by


def sheet_for(evaluator: Evaluator, setting: Setting, leaf: Leaf, rows: Rows, label: str) -> Sheet:
    """Estimate every partial derivative of a leaf, in groups as far as a claim agrees with the evidence."""
    program = evaluator.program
    units = partials.displacements(program, leaf)
    sheet = blank(leaf, evaluator.lines_of_entries(leaf.start, units), [setting] * units.size, program.eps)
    open_ = np.ones(units.size, dtype=bool)
    wrong = right = 0
    for group in _groups(program, leaf):
        if not np.any(rows.rows[:, leaf.span][:, group]) or (wrong >= PATIENCE and wrong > right):
            continue
        if _confirmed(evaluator, setting, sheet, rows, group, units[group], label):
            open_[group], right = False, right + 1
        else:
            wrong += 1
    for done, line in enumerate(np.flatnonzero(open_)):
        estimate(sheet, int(line), done, int(open_.sum()))
    return sheet


def _groups(program: Program, leaf: Leaf) -> Iterator[slice]:
    size = leaf.entries * leaf.width
    if program.point.size > GROUP:
        yield from (slice(low, min(low + GROUP, size)) for low in range(0, size, GROUP))


def _tangents(program: Program, leaf: Leaf, group: slice, label: str) -> Iterator[tuple[F64, F64]]:
    """Random directions of a group, each as it is and as one of the whole input."""
    x = program.point[leaf.span][group]
    for k in range(LINES):
        u = np.empty(x.size)
        probes.even(generator(0, "group", label, leaf.path, group.start, k), x, u)
        u = probes.exact(u, x, program.eps)
        whole = np.zeros(program.point.size)
        whole[leaf.start + group.start : leaf.start + group.stop] = u
        yield u, whole


def _confirmed(evaluator: Evaluator, setting: Setting, sheet: Sheet, rows: Rows, group: slice, units: F64, label: str) -> bool:
    """Whether a claim agrees with the evidence along a group's lines; if so, the group's part of the sheet is filled."""
    leaf = sheet.leaf
    claim, own = (a[:, leaf.span][:, group] for a in (rows.rows, rows.own))
    found: list[tuple[F64, F64]] = []
    for ask, (u, whole) in zip((brief.sharp, brief.plain), _tangents(evaluator.program, leaf, group, label), strict=True):
        slope = _slope(evaluator, setting, whole, ask)
        off = slope.value - claim @ u
        with np.errstate(all="ignore"):
            allowed = slope.bound + np.sqrt(own**2 @ u**2) + rows.eps * (np.abs(claim) @ np.abs(u))
            if np.any(slope.rough) or not np.all(np.abs(off) <= allowed):
                return False
        share = units / u
        found.append((off[:, None] * share, slope.bound[:, None] * np.abs(share)))
    (off, bound), (other, least) = found
    sharper = np.abs(other) + least < np.abs(off) + bound
    sheet.value[:, group] = claim * units + np.where(sharper, other, off)
    sheet.bound[:, group] = np.where(sharper, least, bound)
    sheet.nearby[:, group] = np.abs(sheet.value[:, group])
    return True


def _slope(evaluator: Evaluator, setting: Setting, tangent: F64, ask: Callable[..., brief.Brief]) -> brief.Brief:
    """Slopes of all channels along a line; an output counts with its noise where it moves."""
    line, moved = evaluator.barely(tangent), np.zeros(setting.base.shape, dtype=bool)

    def changes(t: float) -> F64:
        change = line(t) - setting.base
        np.logical_or(moved, change, out=moved)
        return setting.contract(change)

    largest = float(np.max(np.abs(setting.base), initial=0.0))
    relative = float(np.max(setting.deviation, initial=0.0)) / largest if largest > 0 else 0.0
    return ask(changes, relative, setting.eps, lambda share: setting.channel_noise(moved, share), setting.slack)


def columns(claim: Claim, program: Program, cotangents: F64, like: Rows, label: str) -> F64:
    """A forward-mode claim's rows, (C, N): of a group as another claim's, where it says the same along the group's lines."""
    assert claim.jvp is not None
    open_ = np.ones(program.point.size, dtype=bool)
    for leaf in program.leaves:
        for group in _groups(program, leaf):
            place = slice(leaf.start + group.start, leaf.start + group.stop)
            open_[place] = not _same(claim, program, cotangents, like.rows[:, place], leaf, group, label)
    found = like.rows.copy()
    for places in np.array_split(np.flatnonzero(open_), max(1, int(open_.sum()) // GROUP)):
        units = np.zeros((places.size, program.point.size))
        units[np.arange(places.size), places] = 1.0
        found[:, places] = cotangents @ claim.jvp(program.point, units).T if places.size else 0.0
    return found


def _same(claim: Claim, program: Program, cotangents: F64, rows: F64, leaf: Leaf, group: slice, label: str) -> bool:
    assert claim.jvp is not None
    tangents = list(_tangents(program, leaf, group, label))
    pushed = claim.jvp(program.point, np.stack([whole for _, whole in tangents]))
    for (u, _), out in zip(tangents, pushed, strict=True):
        size = np.abs(rows) @ np.abs(u) + np.abs(cotangents) @ np.abs(out)
        if not np.all(np.abs(cotangents @ out - rows @ u) <= TERMS * claim.eps * size):
            return False
    return True

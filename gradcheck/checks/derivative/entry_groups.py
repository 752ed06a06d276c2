"""Full mode at its cheapest: the entries of a leaf in groups, along two random directions each; one by one where they disagree.

What a group is off by along a line is taken for the error of each of its entries in turn: had it been that one alone, it would
be that much, since a line moves every entry by at least half of its scale. So each entry has an estimate and a bound of its
own, hardly wider than those of a line that moves it alone: noise does not grow with the entries that move.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gradcheck import progress
from gradcheck.compare import entry_lines
from gradcheck.compare.estimates import Sheet, blank, estimate
from gradcheck.compare.jacobians import contracted
from gradcheck.compare.judge import SHARP
from gradcheck.evidence import directions, richardson
from gradcheck.seeds import generator
from gradcheck.verdict.interval import default_rtol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradcheck.backends.flat import Leaf
    from gradcheck.backends.program import Claim, Program
    from gradcheck.compare.evaluator import Evaluator
    from gradcheck.compare.jacobians import Rows
    from gradcheck.evidence.line import F64, Setting

GROUP = 128  # numbers; no more of them in all are looked at one by one
LINES = 2
FIRST, BLOCK = 4, 32  # groups that are looked at side by side: a few at first, in case that most disagree
TERMS = 16.0  # units in the last place of the terms' root sum of squares: what two modes of differentiation may differ by


def sheet_for(evaluator: Evaluator, setting: Setting, leaf: Leaf, rows: Rows, label: str) -> Sheet:
    """Estimate every partial derivative of a leaf, in groups as far as a claim agrees with the evidence."""
    program = evaluator.program
    units = entry_lines.displacements(program, leaf)
    sheet = blank(leaf, evaluator.lines_of_entries(leaf.start, units), [setting] * units.size, program.eps)
    open_ = np.ones(units.size, dtype=bool)
    claimed = [group for group in _groups(program, leaf) if np.any(rows.rows[:, leaf.span][:, group])]
    blocks = [claimed[:FIRST], *(claimed[low : low + BLOCK] for low in range(FIRST, len(claimed), BLOCK))]
    for block in filter(None, blocks):
        progress.tell(leaf.path, block[0].start, units.size)
        right = _confirmed(evaluator, setting, sheet, rows, block, label)
        for group, agrees in zip(block, right, strict=True):
            open_[group] = not agrees
        if 2 * sum(right) < len(right):
            break  # it is wrong throughout
    for done, line in enumerate(np.flatnonzero(open_)):
        estimate(sheet, int(line), done, int(open_.sum()))
    return sheet


def _groups(program: Program, leaf: Leaf) -> Iterator[slice]:
    size = leaf.entries * leaf.width
    if program.point.size > GROUP:
        yield from (slice(low, min(low + GROUP, size)) for low in range(0, size, GROUP))


def _tangents(program: Program, leaf: Leaf, group: slice, label: str) -> list[tuple[F64, F64]]:
    """Random directions of a group, each as it is and as one of the whole input."""
    x, found = program.point[leaf.span][group], []
    for k in range(LINES):
        u = np.empty(x.size)
        directions.even(generator(0, "group", label, leaf.path, group.start, k), x, u)
        u = directions.exact(u, x, program.eps)
        whole = np.zeros(program.point.size)
        whole[leaf.start + group.start : leaf.start + group.stop] = u
        found.append((u, whole))
    return found


def _confirmed(evaluator: Evaluator, setting: Setting, sheet: Sheet, rows: Rows, block: list[slice], label: str) -> list[bool]:
    """Whether a claim agrees with the evidence along the lines of some groups; where it does, the sheet is filled in."""
    leaf, program = sheet.leaf, evaluator.program
    tangents = [_tangents(program, leaf, group, label) for group in block]
    units = entry_lines.displacements(program, leaf)
    right, found = [True] * len(block), []
    dull = SHARP * default_rtol(rows.eps)  # a group that is known no better, as beside a kink, is looked at one by one
    for k, ask in enumerate((richardson.sharp, richardson.plain)):
        slopes = richardson.of_outputs(evaluator.lines(np.stack([lines[k][1] for lines in tangents])), setting, ask)
        off = np.zeros_like(slopes.value)
        for g, group in enumerate(block):
            claim, own, u = rows.rows[:, leaf.span][:, group], rows.own[:, leaf.span][:, group], tangents[g][k][0]
            off[g] = slopes.value[g] - claim @ u
            allowed = slopes.bound[g] + np.sqrt(own**2 @ u**2) + rows.eps * (np.abs(claim) @ np.abs(u))
            largest = np.max(np.abs(claim * u), axis=1)
            right[g] &= bool(np.all((np.abs(off[g]) <= allowed) & ((allowed <= dull * largest) | (largest == 0))))
        found.append((off, slopes.bound))
    for g, group in enumerate(block):
        if right[g]:
            shares = [units[group] / lines for lines in (tangents[g][k][0] for k in range(LINES))]
            (off, bound), (other, least) = (
                (a[g][:, None] * share, b[g][:, None] * np.abs(share)) for (a, b), share in zip(found, shares, strict=True)
            )
            sharper = np.abs(other) + least < np.abs(off) + bound
            sheet.value[:, group] = rows.rows[:, leaf.span][:, group] * units[group] + np.where(sharper, other, off)
            sheet.bound[:, group] = np.where(sharper, least, bound)
            sheet.nearby[:, group] = np.abs(sheet.value[:, group])
    return right


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
        found[:, places] = contracted(cotangents, claim.jvp(program.point, units)) if places.size else 0.0
    return found


def _same(claim: Claim, program: Program, cotangents: F64, rows: F64, leaf: Leaf, group: slice, label: str) -> bool:
    assert claim.jvp is not None
    tangents = _tangents(program, leaf, group, label)
    pushed = claim.jvp(program.point, np.stack([whole for _, whole in tangents]))
    for (u, _), out in zip(tangents, pushed, strict=True):
        size = np.sqrt(rows**2 @ u**2) + np.sqrt(cotangents**2 @ out**2)
        if not np.all(np.abs(cotangents @ out - rows @ u) <= TERMS * claim.eps * size):
            return False
    return True

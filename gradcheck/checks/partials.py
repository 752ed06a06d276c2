"""Full mode: every partial derivative, by every method."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gradcheck.backends.program import Leaf, Program, Unavailable
from gradcheck.checks.claims import Rows
from gradcheck.checks.outputs import outlook, terms_of
from gradcheck.checks.sheet import Along, Compared, measure, settle, sides
from gradcheck.evidence import probes
from gradcheck.evidence.line import F64, Setting
from gradcheck.seeds import generator
from gradcheck.verdict.compare import judge

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradcheck.checks.evaluator import Evaluator

OWN_CHANNELS = 16  # up to so many outputs each is looked at by itself, beyond through random combinations
COMBINATIONS = 4
KINKED = 3  # random directions through a kink


def channels_for(evaluator: Evaluator, setting: Setting, label: str) -> F64 | None:
    """Combinations of outputs to differentiate, (C, M); None: each output by itself.

    Outputs that are not finite on both sides of the primal are looked at by themselves, as many as there is room for.
    """
    size = evaluator.program.value.size
    if size <= OWN_CHANNELS:
        return None
    found, rng = outlook(evaluator, setting, label), generator(0, "channels", label)
    combinations = [found.cotangent(rng) for _ in range(COMBINATIONS)]
    lost = np.flatnonzero(found.lost)[: OWN_CHANNELS - COMBINATIONS]
    alone = np.zeros((lost.size, size))
    alone[np.arange(lost.size), lost] = 1.0
    return np.vstack([*combinations, *alone])


def displacements(program: Program, leaf: Leaf) -> F64:
    """How far each entry of a leaf moves per unit of t, (n,)."""
    return probes.one_hot(program.point[leaf.span], program.eps)


def output_slopes(program: Program, setting: Setting) -> F64:
    """The slope of a channel that changes by the size of its terms over the scale of a leaf, (C, N)."""
    if setting.channels is not None:
        size = np.max(np.abs(setting.channels) * terms_of(program, setting), axis=1, initial=0.0)
    else:
        size = np.concatenate(
            [np.full(o.entries * o.width, np.max(np.abs(setting.base[o.span]), initial=0.0)) for o in program.outputs]
        )
    parts = [program.point[leaf.span] for leaf in program.leaves]
    units = np.concatenate([np.full(x.size, probes.scale_of(x)) for x in parts])
    return np.asarray(size[:, None] / units)


def along_entries(program: Program, leaf: Leaf, claimed: Rows) -> Along:
    """A claim along the lines that move one entry of a leaf each."""
    part, units = (slice(None), leaf.span), displacements(program, leaf)
    value, size = claimed.rows[part] * units, np.abs(units)
    return Along(value, claimed.own[part] * size, claimed.slip[part] * size, np.abs(value), many=False)


def through_kink(
    evaluator: Evaluator, setting: Setting, leaves: Sequence[Leaf], claimed: Rows, rtol: float, label: object
) -> Compared:
    """Hold a claim against one-sided slopes along dense directions of some leaves, which see a tie counted twice."""
    program = evaluator.program
    along = np.zeros((program.point.size, KINKED + 1))
    for leaf, unit in zip(leaves, alike(program, leaves), strict=True):
        x = program.point[leaf.span]
        tangents = [probes.dense(generator(0, "kink", label, leaf.path, k), x, program.eps) for k in range(KINKED)]
        tangents.append(probes.one_hot(x, program.eps))  # all entries alike: a tie stays one, and counts once
        along[leaf.span] = np.stack([probes.exact(unit * u, x, program.eps) for u in tangents], axis=1)
    phis = [evaluator.line(u) for u in along.T]
    sheet = measure(leaves[0], phis, [setting] * len(phis), program.eps)
    size = np.abs(along)
    own, slip = claimed.own @ size, claimed.slip @ size
    return settle(sheet, Along(claimed.rows @ along, own, slip, np.abs(claimed.rows) @ size, many=True), rtol, demanded=False)


def alike(program: Program, leaves: Sequence[Leaf]) -> list[float]:
    """What displacements in each of some leaves are multiplied by, so that entries of all of them move by the same."""
    scales = [probes.scale_of(program.point[leaf.span]) for leaf in leaves]
    return [min(scales) / scale for scale in scales]


def embedded(program: Program, leaf: Leaf, u: F64) -> F64:
    """A leaf's tangent as one of the whole input."""
    tangent = np.zeros(program.point.size)
    tangent[leaf.span] = u
    return tangent


def against_rows(leaf: Leaf, claimed: Rows, other: Rows, rtol: float, *, demanded: bool) -> Compared:
    """Hold a claim against another method's derivatives, entry by entry; both know their rounding."""
    part = (slice(None), leaf.span)
    claim, value = claimed.rows[part], other.rows[part]
    s = sides(claim, value, other.own[part], claimed.own[part], np.fmax(np.abs(claim), np.abs(value)))
    judged = judge(s, rtol, demanded=demanded)
    judged.code[s.apart == 0] = 0  # the same number, twice
    nothing = np.full(claim.shape, None, dtype=object)
    return Compared(leaf, s, judged.code, judged.unresolved, nothing, np.zeros(claim.shape, dtype=bool))


def complex_step(program: Program, setting: Setting) -> F64:
    """Partial derivatives by the complex step, (C, N).

    Raises:
        Unavailable: where the function does not take complex numbers.
    """
    if program.complex_step is None:
        raise Unavailable("it needs NumPy code with real float64 inputs and outputs")
    columns = []
    for position in range(program.point.size):
        unit = np.zeros(program.point.size)
        unit[position] = 1.0
        columns.append(setting.contract(program.complex_step(program.point, unit)))
    found = np.stack(columns, axis=1)
    if not np.all(np.isfinite(found)):
        raise Unavailable("it gives non-finite numbers")
    return found

"""Probe mode: random directions of each leaf, for problems too large for every partial derivative."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.backends.flat import Leaf
from gradcheck.checks.derivative import (
    bisect,
    diagnosis_facts,
    fault_injection,
    kinks,
    probe_forward,
    worst_output,
)
from gradcheck.checks.derivative.kinks import _unless_tied
from gradcheck.checks.derivative.probe_block import (
    PROBES,
    Part,
    along,
    probes_on,
    resolution_of_probes,
    row,
)
from gradcheck.compare import conditioning, jacobians, native_dtype, output_scaling, pairs
from gradcheck.compare.estimates import refine
from gradcheck.compare.jacobians import Rows
from gradcheck.compare.judge import Along, Compared, look, settle
from gradcheck.compare.output_scaling import outlook
from gradcheck.compare.table import output_name, resolution_of, told
from gradcheck.evidence import directions
from gradcheck.evidence.line import F64
from gradcheck.results import Comparison, Reason, Verdict, Whereabouts
from gradcheck.seeds import generator
from gradcheck.verdict.interval import DULLEST

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from gradcheck.compare.trial import Bench

PARTS = 64  # a leaf is split into at most so many parts where probes of the whole are too dull


def examine(bench: Bench, notes: list[str]) -> list[Comparison]:
    """Compare every claim with the numerical derivative along random directions, and with the other claims entry by entry."""
    program = bench.program
    cotangents = cotangents_for(bench, notes)
    bench = replace(bench, setting=replace(bench.setting, channels=cotangents))
    reverse = jacobians.evaluate(program, cotangents, notes)
    pushed = [c for c in program.claims if c.vjp is None]
    table: list[Comparison] = []
    for leaf in bench.leaves if program.claims else ():
        whole = probes_on(bench, leaf, slice(0, program.point[leaf.span].size))
        proved: list[tuple[Comparison, Rows]] = []
        for i, rows in enumerate(reverse):
            table.append(_against_evidence(bench, leaf, rows, whole, cotangents))
            proved.append((table[-1], rows))
            fine = jacobians.between(rows, program)
            table += [_against(bench, leaf, jacobians.between(other, program), fine, cotangents) for other in reverse[:i]]
        for claim in pushed:
            table += probe_forward.examine(bench, claim, whole, proved, notes)
    return _without_cut_off(table, reverse, notes)


def _without_cut_off(table: list[Comparison], claimed: list[Rows], notes: list[str]) -> list[Comparison]:
    """Leave out a traced derivative that the evidence contradicts: the tracing is at fault, not the user."""
    derived = {r.method for r in claimed if r.claim is not None and r.claim.derived}
    wrong = {c.method for c in table if c.method in derived and c.against == "numeric" and c.verdict is Verdict.FAIL}
    notes += [jacobians.CUT_OFF.format(method) for method in sorted(wrong)]
    return [c for c in table if not wrong & {c.method, c.against}]


def cotangents_for(bench: Bench, notes: list[str]) -> F64:
    """One random cotangent per probe, (P, M); of a single output number simply 1."""
    if bench.program.value.size == 1:
        return np.ones((PROBES, 1))
    found = outlook(bench.evaluator, bench.setting, bench.label)
    if found.lost.any():
        first = output_name(bench.program, int(np.argmax(found.lost)), None)
        notes.append(f"{found.lost.sum()} outputs are not finite nearby and not compared; the first is {first}")
    return np.stack([found.cotangent(generator(0, "cotangent", bench.label, k)) for k in range(PROBES)])


def _against_evidence(bench: Bench, leaf: Leaf, rows: Rows, whole: Part, cotangents: F64) -> Comparison:
    """The line of a claim on one leaf: a wrong output named, the score of the self-test, the story of its worst probe."""
    line, found, fine, part = _line(bench, leaf, rows, whole, cotangents)
    line = _scored(bench, worst_output.named(bench, line, leaf, rows), fine, part)
    if line.verdict is Verdict.FAIL:
        gradient = fine.rows[:, leaf.span]
        true, wrong = _with_all_mended(gradient, leaf, line.where)
        along_whole = spoilt_along(along(fine, whole), whole)
        line = diagnosis_facts.named(bench, line, whole.sheet, fine, along_whole, true=true, wrong=wrong)
    ask = bench.options.stories and line.mode == "probe"
    return told(line, found, part.sheet, np.ones(PROBES)) if ask else line


def _with_all_mended(gradient: F64, leaf: Leaf, where: Whereabouts | None) -> tuple[F64, NDArray[np.bool_]] | tuple[None, None]:
    """The gradient with its wrong entries as they should be, and which these are; None where not all are known."""
    if where is None or where.count is None or leaf.width == 2:
        return None, None
    true, wrong = gradient.copy(), np.zeros(gradient.shape, dtype=bool)
    for entry in where.entries:
        i = int(np.ravel_multi_index(entry.entry, leaf.shape)) if leaf.shape else 0
        wrong[:, i] = True
        true[:, i] = true[:, i] * (entry.estimate / entry.claimed) if entry.claimed else entry.estimate
    return true, wrong


def spoilt_along(claim: Along, part: Part) -> Callable[[F64], Along]:
    """From other gradients, one row a probe, to what they are along the probes; with the errors of the claim."""
    tangents = part.tangents[:, part.place]
    return lambda spoilt: replace(claim, value=np.sum(spoilt * tangents, axis=1)[None])


def _scored(bench: Bench, line: Comparison, rows: Rows, part: Part) -> Comparison:
    """The score of the self-test, on the part of a leaf that was looked at least sharply."""
    leaf = part.sheet.leaf
    gradient = rows.rows[:, leaf.span][:, part.place]
    along_part = spoilt_along(along(rows, part), part)

    scales = directions.scales_of(bench.program.point[leaf.span][part.place])
    nothing = float(np.max(np.fmax(part.sheet.nearby, part.sheet.outputs))) if np.isnan(line.resolution) else 0.0
    error = fault_injection.error_along_probes(scales, gradient, nothing)
    shape = (*leaf.shape, leaf.width) if part.place == slice(0, leaf.entries * leaf.width) else (-1, 1)
    rng = generator(0, "faults", bench.label, leaf.path)
    something = nothing / float(np.min(scales)) or 1.0
    slips = fault_injection.slips_through(part.sheet, along_part, line.rtol)
    return fault_injection.scored(line, gradient, slips, error, rng, shape=shape, something=something)


def _line(bench: Bench, leaf: Leaf, rows: Rows, whole: Part, cotangents: F64) -> tuple[Comparison, Compared, Rows, Part]:
    """The line of one claim and leaf: in the claim's own dtype against its float64 twin, and that against the evidence.

    With it the judgement behind it, and the claim and the part of the leaf that were looked at least sharply.
    """
    own = native_dtype.against_twin(bench, leaf, rows, cotangents) if rows.fine else None
    if own is not None and np.any(own.code == 2):
        return row(bench, own, rows, "numeric", resolution_of(own), entries=True), own, rows, whole
    fine, rtol = rows.fine or rows, bench.rtol(rows)
    found, fine, part = _settled(bench, fine, whole, rtol, cotangents)
    resolution = resolution_of_probes(found, fine, part)
    limit = bench.options.rtol or DULLEST
    if not np.any(found.code) and limit < resolution < np.inf:
        found, fine, part = _in_parts(bench, found, fine, part, rtol, limit, cotangents)
        resolution = resolution_of_probes(found, fine, part)
    if own is not None and np.any(own.code) and not np.any(found.code):
        return row(bench, own, rows, "numeric", resolution_of(own), entries=True), own, fine, part
    return row(bench, found, rows, "numeric", resolution), found, fine, part


def _settled(bench: Bench, rows: Rows, part: Part, rtol: float, cotangents: F64) -> tuple[Compared, Rows, Part]:
    """Judge a claim along the probes; where sums disagree, go down to an entry and judge that.

    With the judgement the claim and the probes that it rests on: at a kink those beside it.
    """
    first = look(part.sheet, along(rows, part), rtol, demanded=bench.demanded)
    if np.any((first.code > 0) | first.doubtful):
        rows = conditioning.jittered(rows, bench.program, cotangents)
    found = settle(part.sheet, along(rows, part), rtol, demanded=bench.demanded)
    if not np.any((found.code == 2) | found.doubtful):
        return _beside_kinks(bench, rows, found, part, cotangents)
    entry = bisect.wrong_entries(bench, rows, part, found, rtol)
    return _unless_tied(bench, rows, found if entry is None else entry, cotangents), rows, part


def _beside_kinks(bench: Bench, rows: Rows, found: Compared, part: Part, cotangents: F64) -> tuple[Compared, Rows, Part]:
    """Where a claim passed at kinks, look beside them: INCONCLUSIVE where it is wrong on either side.

    Where it is right there, that is what the PASS rests on: between the slopes at many kinks there is much room.
    """
    leaf, last = found.leaf, (found, rows, part)
    if not np.any((found.seen == Reason.KINK_SUBGRADIENT) & (found.code == 0)):
        return last
    dense = kinks.through_kink(bench.evaluator, bench.setting, [leaf], rows, bench.rtol(rows), bench.label)
    if np.any(dense.code == 2):
        return dense, rows, part
    for k in range(kinks.TWICE):
        point = kinks.beside(bench, leaf, np.arange(leaf.entries * leaf.width), k)
        moved = kinks.moved(bench, rows, cotangents, point)
        if moved is None:
            return found, rows, part
        there, claim = moved
        probed = probes_on(there, leaf, part.place)
        again = settle(probed.sheet, along(claim, probed), bench.rtol(rows), demanded=bench.demanded)
        bench.evaluator.count += there.evaluator.count
        wrong, seen = bool(np.any(again.code == 2)), again.seen.copy()
        seen[again.code == np.max(again.code)] = Reason.BESIDE_KINK if wrong else Reason.KINK_SUBGRADIENT
        last = replace(again, seen=seen, code=np.minimum(again.code, 1).astype(np.int8)), claim, probed
        if wrong:
            return last
    return (found, rows, part) if np.any(last[0].code) else last


def _in_parts(
    bench: Bench, found: Compared, rows: Rows, whole: Part, rtol: float, limit: float, cotangents: F64
) -> tuple[Compared, Rows, Part]:
    """Look again where the probes were too dull: with care, then part by part.

    An entry of a part of 1/k of the size stands out sqrt(k) times more. What is left to be dull decides nothing. Returned is
    the part that was looked at least sharply, or that shows something.
    """
    size = whole.tangents.shape[1]
    for line in np.flatnonzero(~whole.sheet.refined):
        refine(whole.sheet, int(line))
    last = found, rows, whole = _settled(bench, rows, whole, rtol, cotangents)
    dullest = resolution_of_probes(*last)
    evidence = resolution_of_probes(replace(found, sides=replace(found.sides, claim=found.sides.value)), rows, whole)
    if np.any(found.code) or dullest <= limit:
        return last
    if evidence > limit:  # else it is the claim that differs, not the evidence that is dull
        count = min(PARTS, size, int(np.ceil((evidence / limit) ** 2)) + 1)
        dullest = -np.inf
        for low, high in pairwise(np.linspace(0, size, count + 1).astype(int)):
            again = _settled(bench, rows, probes_on(bench, found.leaf, slice(int(low), int(high))), rtol, cotangents)
            sharp = resolution_of_probes(*again)
            if sharp > dullest or dullest == -np.inf:
                dullest, last = sharp, again
            if np.any(again[0].code):
                return again
    if dullest > limit:
        seen = np.full(last[0].seen.shape, Reason.DULL, dtype=object)
        last = (replace(last[0], code=np.ones_like(last[0].code), seen=seen), *last[1:])
    return last


def _against(bench: Bench, leaf: Leaf, rows: Rows, other: Rows, cotangents: F64) -> Comparison:
    floor = pairs.UNITS * max(rows.eps, other.eps) * output_scaling.output_slopes(bench.program, bench.setting)
    rows, other = (replace(r, own=r.own + floor) for r in (rows, other))
    c = pairs.against_rows(leaf, rows, other, bench.rtol(rows, other), demanded=bench.demanded)
    if np.any(c.code):
        rows, other = (conditioning.jittered(r, bench.program, cotangents) for r in (rows, other))
        c = pairs.against_rows(leaf, rows, other, bench.rtol(rows, other), demanded=bench.demanded)
    c = pairs.within_last_bits(c, 2 * floor[:, leaf.span])
    return row(bench, c, rows, other.method, resolution_of(c), entries=True)

"""Full mode: every partial derivative by every method, pair by pair."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.backends.flat import Leaf
from gradcheck.backends.program import COMPLEX_STEP, Claim, Program, Unavailable
from gradcheck.checks.derivative import (
    diagnosis_facts,
    entry_groups,
    fault_injection,
    heatmap,
    kinks,
    straight_through,
    swamped_entries,
    worst_output,
)
from gradcheck.checks.derivative.kinks import _at_ties, _between_leaves
from gradcheck.compare import (
    conditioning,
    dtype_range,
    entry_lines,
    jacobians,
    native_dtype,
    output_scaling,
    pairs,
)
from gradcheck.compare.estimates import Sheet
from gradcheck.compare.jacobians import Rows
from gradcheck.compare.judge import Along, Compared, look, settle
from gradcheck.compare.table import (
    comparison,
    output_leaf,
    resolution_of,
    told,
)
from gradcheck.evidence import directions
from gradcheck.evidence.line import F64, Setting
from gradcheck.results import Comparison, Partial, Reason, Verdict
from gradcheck.seeds import generator
from gradcheck.verdict.interval import ROUNDING, default_rtol, flat_here

if TYPE_CHECKING:
    from gradcheck.compare.trial import Bench
    from gradcheck.evidence.line import F64

SHOWN = 64  # partial derivatives kept for -v


def examine(bench: Bench, notes: list[str]) -> tuple[list[Comparison], list[Partial]]:
    """Compare every claim with every other method, leaf by leaf; notes say which methods were not used, and why."""
    program = bench.program
    channels = output_scaling.channels_for(bench.evaluator, bench.setting, bench.label)
    bench = replace(bench, setting=replace(bench.setting, channels=channels))
    rows_of = np.eye(program.value.size) if channels is None else channels

    def columns(claim: Claim, like: Rows) -> F64:
        return entry_groups.columns(claim, program, rows_of, like, bench.label)

    claimed = jacobians.evaluate(program, rows_of, notes, columns)
    if not claimed:
        return [], []
    first = claimed[0].fine or claimed[0]
    sheets = [entry_groups.sheet_for(bench.evaluator, bench.setting, leaf, first, bench.label) for leaf in bench.leaves]
    stepped = _complex_step(bench, sheets, notes)
    table: list[Comparison] = []
    trusted: list[Rows] = []
    for rows in claimed:
        compared = _against_numeric(bench, rows, sheets, rows_of)
        if rows.claim is not None and rows.claim.derived and any(np.any(c.code >= (1 if trusted else 2)) for c in compared):
            notes.append(jacobians.CUT_OFF.format(rows.method))
            continue
        table += [_against_evidence(bench, rows, sheet, c) for sheet, c in zip(sheets, compared, strict=True)]
        if stepped is not None:
            table += _against(bench, rows, stepped, sheets, rows_of)
        for other in trusted:
            first_of, then = (jacobians.between(r, program) for r in (other, rows))
            table += _against(bench, first_of, then, sheets, rows_of)
        trusted.append(rows)
    return table, _partials(bench, trusted, stepped, sheets, notes)


def _against_numeric(bench: Bench, rows: Rows, sheets: list[Sheet], cotangents: F64) -> list[Compared]:
    """Hold a claim against the numerical derivatives; its conditioning is measured only where it does not pass at once."""
    rtol, program = bench.rtol(rows), bench.program
    fine = rows.fine or rows
    first = [look(s, entry_lines.along_entries(program, s.leaf, fine), rtol, demanded=bench.demanded) for s in sheets]
    if any(np.any(c.code > 0) for c in first):
        fine = conditioning.jittered(fine, program, cotangents)
    found = [_settled(bench, s, fine, rtol) for s in sheets]
    found = [_not_smooth(bench, s, _numbers_only(bench, s, c), fine, cotangents) for s, c in zip(sheets, found, strict=True)]
    found = _between_leaves(bench, found, fine, cotangents)
    return [_in_own_dtype(bench, c, rows, cotangents) for c in found] if rows.fine else found


def _settled(bench: Bench, sheet: Sheet, rows: Rows, rtol: float) -> Compared:
    """Judge a leaf; once more where entries that seemed to move nothing are seen by larger steps."""
    along = entry_lines.along_entries(bench.program, sheet.leaf, rows)
    found = settle(sheet, along, rtol, demanded=bench.demanded)
    if swamped_entries.seen_at_large(bench, sheet, found):
        return settle(sheet, along, rtol, demanded=bench.demanded)
    return found


def _numbers_only(bench: Bench, sheet: Sheet, c: Compared) -> Compared:
    """Excuse claims that are not finite where the derivative is no number, either."""
    units = entry_lines.displacements(bench.program, sheet.leaf)
    beyond = dtype_range.of_evidence(bench.program.point[sheet.leaf.span], sheet.value, units, sheet.leaf.dtype)
    return dtype_range.excused(c, beyond, Reason.SINGULAR)


def _against_evidence(bench: Bench, rows: Rows, sheet: Sheet, c: Compared) -> Comparison:
    """The line of a claim on one leaf: a wrong output named, the score of the self-test, the story of its worst entry."""
    line = worst_output.named(bench, _line(bench, c, rows, "numeric"), c.leaf, rows)
    fine, units = rows.fine or rows, entry_lines.displacements(bench.program, c.leaf)
    gradient, size = fine.rows[:, c.leaf.span], np.abs(units)
    own, slip = fine.own[:, c.leaf.span] * size, fine.slip[:, c.leaf.span] * size

    def along(spoilt: F64) -> Along:
        return Along(spoilt * units, own, slip, np.abs(spoilt * units), many=False)

    true = sheet.value / units
    line = diagnosis_facts.named(bench, line, sheet, fine, along, true=true, wrong=c.code == 2)
    rng = generator(0, "faults", bench.label, c.leaf.path)
    something = float(np.max(sheet.outputs / size, initial=0.0)) or 1.0
    error = fault_injection.error_at_entries(sheet, c, units, gradient)
    shape = (*c.leaf.shape, c.leaf.width)
    line = fault_injection.scored(
        line, gradient, fault_injection.slips_through(sheet, along, line.rtol), error, rng, shape=shape, something=something
    )
    line = replace(line, picture=heatmap.of(c, units))
    ask = bench.options.stories or line.verdict is Verdict.FAIL
    return told(line, c, sheet, units) if ask else line


def _not_smooth(bench: Bench, sheet: Sheet, c: Compared, rows: Rows, cotangents: F64) -> Compared:
    """Second thoughts where the function is not differentiable: along dense directions, a little beside, and further off."""
    c = kinks.kinks(bench, _at_ties(bench, c, rows), rows, cotangents)
    c = kinks.ties(bench, c, rows, cotangents)
    return straight_through.through(sheet, c, declared=bench.options.straight_through)


def _in_own_dtype(bench: Bench, proved: Compared, rows: Rows, cotangents: F64) -> Compared:
    """The claim in its own dtype, given what the evidence says of its twin."""
    own = native_dtype.against_twin(bench, proved.leaf, rows, cotangents)
    if bench.program.half and not np.any(own.code):
        return proved
    units = entry_lines.displacements(bench.program, proved.leaf)
    per, s = np.abs(units), proved.sides
    claim = own.sides.claim * units
    scale = np.fmax(np.abs(claim), np.abs(s.value))
    sides = replace(s, claim=claim, rounding=s.rounding + own.sides.allowed * per, scale=scale)
    code = np.maximum(proved.code, np.where(proved.seen == Reason.KINK_SUBGRADIENT, proved.code, own.code)).astype(np.int8)
    seen = np.where(own.code > proved.code, own.seen, proved.seen)
    return replace(proved, sides=sides, code=code, seen=seen, unresolved=(proved.unresolved | own.unresolved) & (code == 0))


def _complex_step(bench: Bench, sheets: list[Sheet], notes: list[str]) -> Rows | None:
    """The complex step's derivatives, if central differences confirm them: abs, max, conj and comparisons break it silently."""
    try:
        rows = complex_step(bench.program, bench.setting)
    except Unavailable as why:
        if bench.program.complex_step is not None:
            notes.append(f"complex-step not available: {why}")
        return None
    error = ROUNDING * (2.0**-52 * np.abs(rows) + directions.smallest(2.0**-52) / COMPLEX_STEP)
    found = Rows("complex-step", rows, error, error, 2.0**-52)
    for sheet in sheets:
        c = settle(sheet, entry_lines.along_entries(bench.program, sheet.leaf, found), default_rtol(found.eps), demanded=False)
        if np.any(c.code != 0) or np.any(c.seen == Reason.KINK_SUBGRADIENT):
            notes.append("complex-step not used: central differences do not confirm it; abs, max, conj or comparisons break it")
            return None
    return found


def _against(bench: Bench, rows: Rows, other: Rows, sheets: list[Sheet], cotangents: F64) -> list[Comparison]:
    """Hold one method's derivatives against another's.

    At a kink they may choose different subgradients. Terms as large as the outputs may have cancelled in either. Where the
    numerical derivative cannot tell the two apart, nobody knows which is wrong: that decides nothing.
    """
    rtol, eps = bench.rtol(rows, other), max(rows.eps, other.eps)
    floors = [pairs.UNITS * r.eps * output_scaling.output_slopes(bench.program, bench.setting) for r in (rows, other)]
    rows, other = (replace(r, own=r.own + floor) for r, floor in zip((rows, other), floors, strict=True))

    def compare(sheet: Sheet) -> Compared:
        units = np.abs(entry_lines.displacements(bench.program, sheet.leaf))
        c = pairs.against_rows(sheet.leaf, rows, other, rtol, demanded=bench.demanded)
        c.code[(c.code == 1) & flat_here(c.sides, sheet.outputs / units, eps)] = 0
        c = pairs.within_last_bits(c, (floors[0] + floors[1])[:, sheet.leaf.span])
        dull = (c.code == 2) & (sheet.bound / units > rtol * c.sides.scale) & np.isfinite(c.sides.claim)
        c.code[dull], c.seen[dull] = 1, Reason.METHODS_DISAGREE
        c = _numbers_only(bench, sheet, c)
        kink = ~np.isnan(sheet.low)
        c.code[kink], c.seen[kink] = 0, Reason.KINK_SUBGRADIENT
        return c

    found = [compare(sheet) for sheet in sheets]
    if any(np.any(c.code) for c in found):
        rows, other = (conditioning.jittered(r, bench.program, cotangents) for r in (rows, other))
        found = [compare(sheet) for sheet in sheets]
    return [_line(bench, c, rows, other.method, entries=True) for c in found]


def _line(bench: Bench, c: Compared, rows: Rows, against: str, *, entries: bool = False) -> Comparison:
    units = np.ones(c.code.shape[1]) if entries else entry_lines.displacements(bench.program, c.leaf)
    return comparison(
        c,
        bench.program,
        (rows.method, against),
        bench.rtol(rows),
        units=units,
        channels=bench.setting.channels,
        resolution=resolution_of(c),
        trial=bench.trial,
    )


def _part(leaf: Leaf, place: int) -> str:
    """Which part of a complex entry a number is."""
    return "" if leaf.width == 1 else (".real", ".imag")[place % 2]


def _partials(bench: Bench, claimed: list[Rows], stepped: Rows | None, sheets: list[Sheet], notes: list[str]) -> list[Partial]:
    program = bench.program
    if bench.setting.channels is not None or program.point.size * program.value.size > SHOWN:
        notes.append(f"more than {SHOWN} partial derivatives: -v does not list them")
        return []
    shown = []
    for sheet in sheets:
        units = entry_lines.displacements(program, sheet.leaf)
        for channel in range(program.value.size):
            out = output_leaf(program, channel)
            for i, unit in enumerate(units):
                values = {
                    r.method: float(r.rows[channel, sheet.leaf.start + i]) for r in (*claimed, *([stepped] if stepped else []))
                }
                values["numeric"] = float(sheet.value[channel, i] / unit)
                scale = max(map(abs, values.values()))
                apart = max(abs(v - values["numeric"]) for v in values.values())
                shown.append(
                    Partial(
                        wrt=sheet.leaf.path + _part(sheet.leaf, i),
                        entry=sheet.leaf.index(sheet.leaf.start + i),
                        output=out.path + _part(out, channel - out.start),
                        output_entry=out.index(channel),
                        values=values,
                        bound=float(sheet.bound[channel, i] / abs(unit)),
                        rel_err=apart / scale if scale else 0.0,
                    )
                )
    return shown


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

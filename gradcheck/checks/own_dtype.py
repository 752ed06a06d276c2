"""A claim made in a lower precision: held against its twin in float64, which carries the proof.

The evidence judges the twin, and sharply. Here it is only asked whether the claim in its own dtype is the twin's rounded value,
so a generous allowance for rounding can hide no wrong formula.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.checks import claims, half, overflow, partials
from gradcheck.checks.evaluator import Evaluator, setting_for
from gradcheck.checks.sheet import Along, Compared, measure, settle
from gradcheck.results import Reason

if TYPE_CHECKING:
    from gradcheck.backends.program import Leaf
    from gradcheck.checks.bench import Bench
    from gradcheck.checks.claims import Rows
    from gradcheck.evidence.line import F64

SPARE = 8.0  # times that: what rounding and conditioning together may come to
UNITS = 16.0  # in the last place of the outputs: terms of their size may cancel in a derivative


def against_twin(bench: Bench, leaf: Leaf, rows: Rows, cotangents: F64) -> Compared:
    """Hold a claim against its twin, entry by entry; where they differ, differences in the claim's own dtype decide.

    A function may depend on the dtype it is given (an epsilon, a constant that is rounded, a kink between two floats): then
    both are right about different functions, and the comparison is INCONCLUSIVE. In half precision that is left to the
    accuracy beside a plain implementation: only what is certainly wrong is said here.
    """
    found = _held(bench, leaf, rows, cotangents)
    if not bench.program.half:
        return found
    out = ~np.isfinite(found.sides.claim) | ((found.sides.claim == 0) & (rows.eps in half.SHORT))  # of its range: told there
    return replace(found, code=np.where((found.code == 2) & ~out, 2, 0).astype(np.int8))


def _held(bench: Bench, leaf: Leaf, rows: Rows, cotangents: F64) -> Compared:
    assert rows.fine is not None
    floor = UNITS * rows.eps * partials.output_slopes(bench.program, bench.setting)
    rough = replace(rows, own=rows.own + floor)
    rtol = bench.rtol_of(rows.eps)
    found = partials.against_rows(leaf, rough, rows.fine, rtol, demanded=bench.demanded)
    if np.any(found.code == 2 if bench.program.half else found.code):
        rough = claims.jittered(rough, bench.program, cotangents)
        fine = claims.jittered(rows.fine, bench.program, cotangents)
        found = partials.against_rows(leaf, rough, fine, rtol, demanded=bench.demanded)
    # the twin is proved: a difference within the last bits of the outputs is all that this dtype can show
    found = within_last_bits(found, floor[:, leaf.span])
    found = overflow.excused(found, overflow.of_dtype(rows.fine.rows[:, leaf.span], leaf.dtype), Reason.DTYPE_DEPENDENT)
    if np.any(found.code == 2) and not _wrong_in_own_dtype(bench, leaf, rough, found, rtol):
        seen = found.seen.copy()
        seen[found.code == 2] = Reason.DTYPE_DEPENDENT
        return replace(found, code=np.minimum(found.code, 1).astype(np.int8), seen=seen)
    return found


def within_last_bits(c: Compared, floor: F64) -> Compared:
    """Let entries pass whose difference is lost in the last bits of the outputs; both sides are proved elsewhere."""
    lost = (c.code == 1) & (c.sides.apart <= c.sides.allowed) & (c.sides.allowed <= SPARE * floor)
    return replace(c, code=np.where(lost, 0, c.code).astype(np.int8), unresolved=c.unresolved | lost)


def _wrong_in_own_dtype(bench: Bench, leaf: Leaf, rows: Rows, found: Compared, rtol: float) -> bool:
    """Whether the worst entry is wrong about the function as it is in the claim's own dtype, too."""
    native = bench.program.native
    if native is None:
        return True
    apart = np.where(found.code == 2, np.nan_to_num(found.sides.apart, nan=np.inf), -1.0)
    channel, i = (int(k) for k in np.unravel_index(int(np.argmax(apart)), apart.shape))
    program = replace(bench.program, evaluate=native, eps=rows.eps, value=native(bench.program.point))
    evaluator = Evaluator(program)
    setting = setting_for(evaluator, 1, bench.label, np.zeros(program.value.shape))
    channels = np.eye(program.value.size)[channel] if bench.setting.channels is None else bench.setting.channels[channel]
    setting = replace(setting, channels=channels[None])
    unit = partials.displacements(program, leaf)[i]
    sheet = measure(leaf, [evaluator.line_of_entry(leaf.start + i, float(unit))], [setting], program.eps)
    value, own, slip = (a[channel : channel + 1, leaf.start + i : leaf.start + i + 1] for a in (rows.rows, rows.own, rows.slip))
    along = Along(value * unit, own * abs(unit), slip * abs(unit), np.abs(value * unit), many=False)
    confirmed = settle(sheet, along, rtol, demanded=bench.demanded)
    bench.evaluator.count += evaluator.count
    return bool(confirmed.code[0, 0] == 2)

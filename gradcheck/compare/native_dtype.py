"""A claim made in a lower precision: held against its twin in float64, which carries the proof.

The evidence judges the twin, and sharply. Here it is only asked whether the claim in its own dtype is the twin's rounded value,
so a generous allowance for rounding can hide no wrong formula.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.compare import (
    conditioning,
    dtype_range,
    entry_lines,
    output_scaling,
    pairs,
    ulp_error,
)
from gradcheck.compare.estimates import measure
from gradcheck.compare.evaluator import Evaluator
from gradcheck.compare.judge import Along, Compared, settle
from gradcheck.compare.noise_floor import setting_for
from gradcheck.compare.pairs import UNITS, within_last_bits
from gradcheck.results import Reason

if TYPE_CHECKING:
    from gradcheck.backends.flat import Leaf
    from gradcheck.compare.jacobians import Rows
    from gradcheck.compare.trial import Bench
    from gradcheck.evidence.line import F64


def against_twin(bench: Bench, leaf: Leaf, rows: Rows, cotangents: F64) -> Compared:
    """Hold a claim against its twin, entry by entry; where they differ, differences in the claim's own dtype decide.

    A function may depend on the dtype it is given (an epsilon, a constant that is rounded, a kink between two floats): then
    both are right about different functions, and the comparison is INCONCLUSIVE. In half precision that is left to the
    accuracy beside a plain implementation: only what is certainly wrong is said here.
    """
    found = _held(bench, leaf, rows, cotangents)
    if not bench.program.half:
        return found
    out = ~np.isfinite(found.sides.claim) | (
        (found.sides.claim == 0) & (rows.eps in ulp_error.SHORT)
    )  # of its range: told there
    return replace(found, code=np.where((found.code == 2) & ~out, 2, 0).astype(np.int8))


def _held(bench: Bench, leaf: Leaf, rows: Rows, cotangents: F64) -> Compared:
    assert rows.fine is not None
    floor = UNITS * rows.eps * output_scaling.output_slopes(bench.program, bench.setting)
    rough = replace(rows, own=rows.own + floor)
    rtol = bench.rtol_of(rows.eps)
    found = pairs.against_rows(leaf, rough, rows.fine, rtol, demanded=bench.demanded)
    if np.any(found.code == 2 if bench.program.half else found.code):
        rough = conditioning.jittered(rough, bench.program, cotangents)
        fine = conditioning.jittered(rows.fine, bench.program, cotangents)
        found = pairs.against_rows(leaf, rough, fine, rtol, demanded=bench.demanded)
    # the twin is proved: a difference within the last bits of the outputs is all that this dtype can show
    found = within_last_bits(found, floor[:, leaf.span])
    found = dtype_range.excused(found, dtype_range.of_dtype(rows.fine.rows[:, leaf.span], leaf.dtype), Reason.DTYPE_DEPENDENT)
    if np.any(found.code == 2) and not _wrong_in_own_dtype(bench, leaf, rough, found, rtol):
        seen = found.seen.copy()
        seen[found.code == 2] = Reason.DTYPE_DEPENDENT
        return replace(found, code=np.minimum(found.code, 1).astype(np.int8), seen=seen)
    return found


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
    unit = entry_lines.displacements(program, leaf)[i]
    sheet = measure(leaf, [evaluator.line_of_entry(leaf.start + i, float(unit))], [setting], program.eps)
    value, own, slip = (a[channel : channel + 1, leaf.start + i : leaf.start + i + 1] for a in (rows.rows, rows.own, rows.slip))
    along = Along(value * unit, own * abs(unit), slip * abs(unit), np.abs(value * unit), many=False)
    confirmed = settle(sheet, along, rtol, demanded=bench.demanded)
    bench.evaluator.count += evaluator.count
    return bool(confirmed.code[0, 0] == 2)

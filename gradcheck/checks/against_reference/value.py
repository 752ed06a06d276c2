"""The value of a target beside that of its reference."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.backends.flat import EPS, HALF
from gradcheck.compare import conditioning
from gradcheck.compare.judge import Compared, sides
from gradcheck.compare.noise_floor import largest_terms
from gradcheck.compare.table import comparison, resolution_of
from gradcheck.results import Comparison, Reason, Verdict
from gradcheck.verdict.interval import ROUNDING, judge

if TYPE_CHECKING:
    from gradcheck.backends.flat import Leaf
    from gradcheck.backends.program import Program
    from gradcheck.compare.trial import Bench
    from gradcheck.evidence.line import F64

ORDER = 0  # of the derivative
METHOD = "primal"


def examine(bench: Bench, other: Program) -> list[Comparison]:
    """Hold the value, in the target's own dtype, against the reference's: a line for each output.

    In half precision the twin's value: how accurate it is in the dtype itself is judged apart, and without a twin all there is.
    """
    program = bench.program
    if program.native is None and eps_of(program) in HALF.values() and other.eps <= EPS["float64"]:
        return []
    value = program.native(program.point) if program.native and not program.half else program.value
    allowed = _rounding(bench, program, value), _rounding(bench, other, other.value)
    return [_line(bench, leaf, value, other.value, allowed) for leaf in program.outputs if leaf.entries]


def eps_of(program: Program) -> float:
    """Relative spacing of floats in the dullest dtype of a target's inputs and outputs."""
    return max(EPS[leaf.dtype] for leaf in (*program.leaves, *program.outputs))


def _rounding(bench: Bench, program: Program, value: F64) -> F64:
    """What rounding may do to a value, (M,).

    A few units in the last place of it and of its leaf, the noise measured, and what one such unit of the inputs does.
    """
    native = bench.program is program and not program.half and program.native
    evaluate, eps = (native, eps_of(program)) if native else (program.evaluate, program.eps)
    whole = np.concatenate([np.full(o.entries * o.width, np.max(np.abs(value[o.span]), initial=0.0)) for o in program.outputs])
    spread = np.zeros(value.shape)
    for at in conditioning.points_around(program.point, eps, "value", conditioning.JITTERS):
        try:
            moved = evaluate(at)
        except Exception:
            continue  # off the primal a function need not exist
        if moved.shape == value.shape:
            with np.errstate(all="ignore"):
                spread = np.fmax(spread, np.where(np.isfinite(moved), np.abs(moved - value), 0.0))
    noise = bench.setting.slack * bench.setting.deviation * (eps / bench.program.eps)
    return np.asarray(ROUNDING * (eps * (np.abs(value) + whole) + spread) + noise)


def _line(bench: Bench, leaf: Leaf, value: F64, trusted: F64, allowed: tuple[F64, F64]) -> Comparison:
    program = bench.program
    rtol = bench.rtol_of(EPS["float32"] if program.half else eps_of(program))
    claim, estimate, own, bound = (a[leaf.span][None] for a in (value, trusted, *allowed))
    size = np.fmax(np.abs(claim), np.abs(estimate))
    s = sides(claim, estimate, bound, own, size, largest_terms(program)[leaf.span][None])
    judged = judge(s, rtol, demanded=False)  # an rtol is asked of derivatives
    judged.code[s.apart == 0] = 0
    nothing = np.full(size.shape, None, dtype=object)
    c = Compared(leaf, s, judged.code, judged.unresolved, nothing, np.zeros(size.shape, dtype=bool))
    line = comparison(
        c,
        program,
        (METHOD, "reference"),
        rtol,
        units=np.ones(size.shape[1]),
        channels=None,
        resolution=resolution_of(c),
        trial=bench.trial,
    )
    wrong = line.verdict is Verdict.FAIL and line.reason is Reason.DISAGREES
    where = line.where and replace(line.where, entries=tuple(replace(w, output="") for w in line.where.entries))
    return replace(line, output=leaf.path, order=ORDER, where=where, reason=Reason.VALUE_DIFFERS if wrong else line.reason)

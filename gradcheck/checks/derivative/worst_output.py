"""From a wrong combination of outputs to a wrong output: the partial derivative that a reader can check by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.compare import entry_lines, jacobians
from gradcheck.compare.table import output_name
from gradcheck.evidence import central, ladder
from gradcheck.results import Comparison, Verdict

if TYPE_CHECKING:
    from gradcheck.backends.flat import Leaf
    from gradcheck.compare.jacobians import Rows
    from gradcheck.compare.trial import Bench

ASKED = 8  # outputs whose claim is asked for: those that move most


def named(bench: Bench, line: Comparison, leaf: Leaf, rows: Rows) -> Comparison:
    """The same FAIL at a single output, where one of the outputs that the entry moves most shows it; else as it was.

    A random combination decides a verdict as well, but its number means nothing to a reader.
    """
    if line.verdict is not Verdict.FAIL or line.output != "combination" or line.worst_entry is None or rows.claim is None:
        return line
    program = bench.program
    place = leaf.start + int(np.ravel_multi_index(line.worst_entry, leaf.shape)) * leaf.width
    unit = float(entry_lines.displacements(program, leaf)[place - leaf.start])
    phi, steps = bench.evaluator.line_of_entry(place, unit), central.steps_for(bench.setting, program.eps)
    every = central.estimate(phi, replace(bench.setting, channels=None), steps).value
    asked = np.argsort(-np.abs(np.nan_to_num(every)), kind="stable")[:ASKED]
    cotangents = _units(program.value.size, asked)
    slope = ladder.estimate(phi, replace(bench.setting, channels=cotangents))
    value, bound = slope.value / unit, slope.bound / abs(unit)
    claimed = jacobians.rows_of(rows.claim, program.point, cotangents)[:, place]
    with np.errstate(all="ignore"):
        excess = np.nan_to_num(np.abs(claimed - value) - bound, nan=np.inf)
    best = int(np.argmax(excess))
    apart, scale = abs(claimed[best] - value[best]), max(abs(claimed[best]), abs(value[best]))
    if not excess[best] > line.rtol * scale:
        return line
    return replace(
        line,
        output=output_name(program, int(asked[best]), None),
        claimed=float(claimed[best]),
        estimate=float(value[best]),
        bound=float(bound[best]),
        abs_err=float(apart),
        story=slope.story[best].per(unit),
        rel_err=float(apart / scale),
    )


def _units(
    size: int, places: np.ndarray[tuple[int, ...], np.dtype[np.intp]]
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    units = np.zeros((places.size, size))
    units[np.arange(places.size), places] = 1.0
    return units

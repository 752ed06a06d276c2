"""From a wrong combination of outputs to a wrong output: the partial derivative that a reader can check by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.compare import claimed_jacobians, claims_along_lines
from gradcheck.compare.table_row import name_output
from gradcheck.evidence import ladder, richardson
from gradcheck.results import Comparison, Verdict

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gradcheck.backends.flat import Leaf
    from gradcheck.compare.claimed_jacobians import Jacobian
    from gradcheck.compare.judge import EntryLine
    from gradcheck.compare.trial import MeasuredTrial
    from gradcheck.evidence.line import F64

# The claim is evaluated one by one for up to this many outputs: those that move most.
MAX_CANDIDATE_OUTPUTS = 8


def name_worst_output(
    trial: MeasuredTrial, row: Comparison, leaf: Leaf, jacobian: Jacobian, entry_line: EntryLine | None = None
) -> Comparison:
    """State a FAIL by a single output, if one of those that the wrong entry moves most shows it; else return the row.

    A random combination of the outputs decides a verdict too, but its derivative means nothing to a reader.

    Args:
        trial: what is checked.
        row: a row of the table.
        leaf: the leaf of the row.
        jacobian: that of the claim.
        entry_line: a line of an entry that was evaluated before, which saves evaluations if it is that of the wrong entry.
    """
    is_combination = row.output == "combination"
    if row.verdict is not Verdict.FAIL or not is_combination or row.worst_entry is None or jacobian.claim is None:
        return row
    program = trial.program
    position = leaf.start + int(np.ravel_multi_index(row.worst_entry, leaf.shape)) * leaf.width
    displacement = float(claims_along_lines.compute_displacements(program, leaf)[position - leaf.start])
    phi, steps = trial.evaluator.line_of_entry(position, displacement), richardson.choose_steps(trial.setting, program.eps)
    if entry_line is not None and entry_line.place == position - leaf.start:
        phi = entry_line.phi
    rough_slopes = richardson.estimate_slopes(phi, replace(trial.setting, channels=None), steps).value
    outputs = np.argsort(-np.abs(np.nan_to_num(rough_slopes)), kind="stable")[:MAX_CANDIDATE_OUTPUTS]
    cotangents = _unit_vectors(program.value.size, outputs)
    slopes = ladder.estimate_slopes_by_ladder(phi, replace(trial.setting, channels=cotangents))
    values, bounds = slopes.value / displacement, slopes.bound / abs(displacement)
    claimed = claimed_jacobians.evaluate_rows(jacobian.claim, program.point, cotangents)[:, position]
    with np.errstate(all="ignore"):
        excess = np.nan_to_num(np.abs(claimed - values) - bounds, nan=np.inf)
    worst = int(np.argmax(excess))
    difference, size = abs(claimed[worst] - values[worst]), max(abs(claimed[worst]), abs(values[worst]))
    if not excess[worst] > row.rtol * size:
        return row
    return replace(
        row,
        output=name_output(program, int(outputs[worst]), None),
        claimed=float(claimed[worst]),
        estimate=float(values[worst]),
        bound=float(bounds[worst]),
        abs_err=float(difference),
        story=slopes.story[worst].per(displacement),
        rel_err=float(difference / size),
    )


def _unit_vectors(size: int, positions: NDArray[np.intp]) -> F64:
    vectors = np.zeros((positions.size, size))
    vectors[np.arange(positions.size), positions] = 1.0
    return vectors

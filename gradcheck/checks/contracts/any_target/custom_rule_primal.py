"""Contract `primal` for custom rules: a rule that computes a derivative also computes the value, which must be right."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gradcheck.backends.flat import EPS
from gradcheck.checks.contracts.rounding import ROUNDING_UNITS
from gradcheck.compare.conditioning import CONDITIONING_POINTS, jitter_points
from gradcheck.glossary.contracts import CONTRACTS
from gradcheck.results import Contract, Verdict

if TYPE_CHECKING:
    from gradcheck.compare.evaluator import Evaluator
    from gradcheck.evidence.line import F64

NAME = "primal"
BROKEN = (
    "under {} {} is {:.6g} instead of {:.6g}; the first output of a custom_vjp's fwd, or of a custom_jvp's rule, must be what"
    " the function returns"
)


def check_custom_rule_primal(evaluator: Evaluator, label: str) -> list[Contract]:
    """Compare the outputs that custom rules compute with those of the function alone.

    Sums in another order may round differently. The outputs may differ by the square root of the spacing of floats in the
    precision of the evaluation, relative to the largest output of the leaf. The shift that rounding of the inputs causes is
    allowed for, too.
    """
    program = evaluator.program
    assert program.capabilities.differentiated_values is not None
    for mode, outputs in program.capabilities.differentiated_values().items():
        for leaf in program.outputs:
            right, value = program.value[leaf.span], outputs[leaf.span]
            units = max(program.eps**0.5, ROUNDING_UNITS * EPS[leaf.dtype] if program.capabilities.evaluate_native else 0.0)
            excess = np.nan_to_num(np.abs(value - right), nan=np.inf) - units * np.max(np.abs(right), initial=0.0)
            if np.any(excess > 0):
                excess -= ROUNDING_UNITS * _measure_output_shift(evaluator, label)[leaf.span]
            if np.any(excess > 0):
                worst = int(np.argmax(excess))
                message = BROKEN.format(mode, leaf.entry(leaf.start + worst), value[worst], right[worst])
                return [Contract(NAME, Verdict.FAIL, message)]
    return [Contract(NAME, Verdict.PASS, CONTRACTS[NAME])]


def _measure_output_shift(evaluator: Evaluator, label: str) -> F64:
    """Measure how far the outputs move when the inputs move by their own rounding, (M,).

    Every output gets the largest shift of its leaf.
    """
    program = evaluator.program
    shift = np.zeros(program.value.shape)
    for point in jitter_points(program.point, program.eps, f"primal {label}", CONDITIONING_POINTS, move_whole_numbers=True):
        shift = np.fmax(shift, np.abs(evaluator(point) - program.value))
    for leaf in program.outputs:
        shift[leaf.span] = np.max(shift[leaf.span], initial=0.0)
    return shift

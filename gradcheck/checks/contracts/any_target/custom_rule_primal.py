"""Contract `primal` for custom rules: a rule that computes a derivative also computes the value, which must be right."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.backends.flat import EPS
from gradcheck.compare.conditioning import jitter_points, measure_shift
from gradcheck.compare.identity import bound_reordering, bound_round_off, explain_by_shift, find_unexplained
from gradcheck.glossary.contracts import CONTRACTS
from gradcheck.results import Contract, Verdict

if TYPE_CHECKING:
    from gradcheck.compare.evaluator import Evaluator

NAME = "primal"
BROKEN = (
    "under {} {} is {:.6g} instead of {:.6g}; the first output of a custom_vjp's fwd, or of a custom_jvp's rule, must be what"
    " the function returns"
)


def check_custom_rule_primal(evaluator: Evaluator, label: str) -> list[Contract]:
    """Compare the outputs that custom rules compute with those of the function alone.

    Sums in another order may round differently. Rounding of the inputs explains a shift of every output as large as the
    largest in its leaf.
    """
    program = evaluator.program
    assert program.capabilities.differentiated_values is not None
    points = jitter_points(program.point, program.eps, f"primal {label}", move_whole_numbers=True)
    output_shift = cache(lambda: measure_shift(evaluator, program.value, points))
    for mode, outputs in program.capabilities.differentiated_values().items():
        for leaf in program.outputs:
            right, value = program.value[leaf.span], outputs[leaf.span]
            largest = float(np.max(np.abs(right), initial=0.0))
            round_off = bound_round_off(EPS[leaf.dtype], largest) if program.capabilities.evaluate_native else 0.0
            allowed = np.maximum(bound_reordering(program.eps, largest), round_off)
            worst = find_unexplained(np.abs(value - right), allowed, explain_by_shift(output_shift, leaf.span, largest=True))
            if worst is not None:
                message = BROKEN.format(mode, leaf.entry(leaf.start + worst), value[worst], right[worst])
                return [Contract(NAME, Verdict.FAIL, message)]
    return [Contract(NAME, Verdict.PASS, CONTRACTS[NAME])]

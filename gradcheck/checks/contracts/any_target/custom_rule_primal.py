"""Does a custom rule return what the function returns? Where a derivative is taken, the rule computes the value, too."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gradcheck.backends.flat import EPS
from gradcheck.compare.conditioning import JITTERS, points_around
from gradcheck.glossary.contracts import CONTRACTS
from gradcheck.results import Contract, Verdict

if TYPE_CHECKING:
    from gradcheck.compare.evaluator import Evaluator
    from gradcheck.evidence.line import F64

NAME = "primal"
UNITS = 64.0  # in the last place of the largest output, in the target's own dtype, or what rounding of the inputs does
BROKEN = (
    "under {} {} is {:.6g} in place of {:.6g}; the first output of a custom_vjp's fwd, or of a custom_jvp's rule, must be what"
    " the function returns"
)


def examine(evaluator: Evaluator, label: str) -> list[Contract]:
    """Hold the outputs beside a derivative against those of the function alone; another order of sums may round otherwise.

    Up to the square root of the spacing of floats in the precision of the evaluation, relative to the largest of the leaf.
    """
    program = evaluator.program
    assert program.differentiated is not None
    for mode, found in program.differentiated().items():
        for leaf in program.outputs:
            plain, now = program.value[leaf.span], found[leaf.span]
            units = max(program.eps**0.5, UNITS * EPS[leaf.dtype] if program.native else 0.0)
            excess = np.nan_to_num(np.abs(now - plain), nan=np.inf) - units * np.max(np.abs(plain), initial=0.0)
            if np.any(excess > 0):
                excess -= UNITS * _shaken(evaluator, label)[leaf.span]
            if np.any(excess > 0):
                worst = int(np.argmax(excess))
                told = BROKEN.format(mode, leaf.entry(leaf.start + worst), now[worst], plain[worst])
                return [Contract(NAME, Verdict.FAIL, told)]
    return [Contract(NAME, Verdict.PASS, CONTRACTS[NAME])]


def _shaken(evaluator: Evaluator, label: str) -> F64:
    """How far the outputs move when the inputs do by their own rounding, (M,): the most of a leaf counts for each of it."""
    program = evaluator.program
    spread = np.zeros(program.value.shape)
    for at in points_around(program.point, program.eps, f"primal {label}", JITTERS, whole=True):
        spread = np.fmax(spread, np.abs(evaluator(at) - program.value))
    for leaf in program.outputs:
        spread[leaf.span] = np.max(spread[leaf.span], initial=0.0)
    return spread

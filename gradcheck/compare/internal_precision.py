"""The precision that a function seems to compute in somewhere inside, if it is lower than that of its inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gradcheck.compare.noise_floor import draw_gaussian_tangent, measure_setting
from gradcheck.compare.trial import MeasuredTrial, Trial
from gradcheck.evidence import internal_rounding
from gradcheck.results import Reason
from gradcheck.seeds import make_generator
from gradcheck.verdict.interval import default_rtol

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gradcheck.results import Comparison

# Rounding inside the function would explain an INCONCLUSIVE comparison with one of these reasons.
EXPLICABLE_REASONS = (Reason.DULL, Reason.QUANTISED)
# Derivatives may be off, relative to their terms, by this many times the noise that lower precision inside leaves in the
# values.
INTERNAL_NOISE_FACTOR = 64.0
# No precision rounds more than this, relative to the largest term.
MAX_TERM_ROUNDING = 3e-2
# A resolution coarser than this many times the relative error that matters needs an explanation.
COARSE_RESOLUTION = 100.0


def measure_internal_noise(trial: MeasuredTrial) -> float:
    """Measure the rounding that shows at coarse steps, relative to the outputs; 0 if there is none."""
    program, setting = trial.program, trial.setting
    line = trial.evaluator.line(draw_gaussian_tangent(program, make_generator(0, "hidden", trial.label)))
    noise = internal_rounding.find_internal_noise(line, setting, min_increase=0.0)
    if noise is None:
        return 0.0
    sizes = [np.linalg.norm(setting.base[leaf.span]) for leaf in program.outputs]
    noises = [np.linalg.norm(noise[leaf.span]) for leaf in program.outputs]
    return max((float(n / size) for n, size in zip(noises, sizes, strict=True) if size > 0), default=0.0)


def measure_internal_tolerance(trial: Trial, *, coarse: bool = False) -> float:
    """Measure what derivatives may be off by, relative to their terms, because the function computes in lower precision inside.

    Args:
        coarse: the values come in steps that hide the evidence, so that the loss cannot be measured.
    """
    if coarse:
        return MAX_TERM_ROUNDING
    if not isinstance(trial, MeasuredTrial):
        program = trial.program
        trial = trial.with_setting(measure_setting(trial.evaluator, 1, trial.label, np.zeros(program.value.shape)))
    return min(MAX_TERM_ROUNDING, INTERNAL_NOISE_FACTOR * measure_internal_noise(trial))


def may_be_internal_rounding(comparisons: Iterable[Comparison]) -> bool:
    """Whether a comparison could not be decided and rounding inside the function would explain it."""
    return any(comparison.reason in EXPLICABLE_REASONS for comparison in comparisons)


def describe_internal_precision(trial: MeasuredTrial, comparisons: Iterable[Comparison]) -> list[str]:
    """Name the precision that the function seems to compute in, in a note, if the evidence has a low resolution."""
    limit = COARSE_RESOLUTION * default_rtol(trial.program.eps)
    is_coarse = any(row.resolution > limit or row.reason in EXPLICABLE_REASONS for row in comparisons)
    relative_noise = measure_internal_noise(trial) if is_coarse else 0.0
    precision = internal_rounding.name_precision(relative_noise, trial.program.eps)
    if not precision:
        return []
    return [f"{precision} inside: the values carry noise of {relative_noise:.0e} of their size; the inputs are more precise"]

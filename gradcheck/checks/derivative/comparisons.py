"""The comparisons of a program's claims with the evidence, and the noise that they are judged by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradcheck.compare.noise_floor import measure_setting
from gradcheck.compare.output_scaling import MAX_SINGLE_CHANNELS

if TYPE_CHECKING:
    from gradcheck.backends.flat import F64
    from gradcheck.compare.output_scaling import OutputScales
    from gradcheck.compare.trial import MeasuredTrial, Trial
    from gradcheck.results import Comparison, Partial


@dataclass(frozen=True)
class Comparisons:
    """Every claim compared with every other method, leaf by leaf.

    Attributes:
        trial: the trial, with its measured noise.
        rows: rows of the report's table.
        partials: every partial derivative by every method; only in full mode.
        scales: the scales of the outputs, if a pass over the whole input measured them.
    """

    trial: MeasuredTrial
    rows: list[Comparison]
    mode: str
    partials: Sequence[Partial] = ()
    scales: OutputScales | None = None


def measure_trial_noise(trial: Trial, spread: F64) -> MeasuredTrial:
    """Measure the noise of the outputs.

    Args:
        trial: what is checked.
        spread: how far repeated evaluations at the primal differ, (M,).
    """
    program = trial.program
    comparisons = program.point.size * min(program.value.size, MAX_SINGLE_CHANNELS)
    return trial.with_setting(measure_setting(trial.evaluator, comparisons, trial.label, spread))

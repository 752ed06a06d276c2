"""The precision that a function seems to compute in somewhere inside, where it is lower than that of its inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gradcheck.compare.noise_floor import every_entry, setting_for
from gradcheck.compare.trial import Bench
from gradcheck.evidence import internal_rounding
from gradcheck.results import Reason
from gradcheck.seeds import generator
from gradcheck.verdict.interval import default_rtol

if TYPE_CHECKING:
    from gradcheck.compare.evaluator import Evaluator
    from gradcheck.options import Options
    from gradcheck.results import Comparison

EXPLICABLE = (Reason.DULL, Reason.QUANTISED)
INSIDE = 64.0  # times the noise that it leaves in the values
DULL = 100.0  # times the relative error that matters: what is duller wants an explanation


def noise(bench: Bench) -> float:
    """The rounding that shows at coarse steps, relative to the outputs; 0 where there is none."""
    program, setting = bench.program, bench.setting
    line = bench.evaluator.line(every_entry(program, generator(0, "hidden", bench.label)))
    found = internal_rounding.rounding(line, setting, more=0.0)
    if found is None:
        return 0.0
    sizes = [np.linalg.norm(setting.base[o.span]) for o in program.outputs]
    noises = [np.linalg.norm(found[o.span]) for o in program.outputs]
    return max((float(n / s) for n, s in zip(noises, sizes, strict=True) if s > 0), default=0.0)


def inside(evaluator: Evaluator, options: Options, label: str) -> float:
    """What claims may differ by, relative to their terms, for the lower precision that a program seems to compute in inside."""
    setting = setting_for(evaluator, 1, label, np.zeros(evaluator.program.value.shape))
    return INSIDE * noise(Bench(evaluator.program, evaluator, setting, options, label, 0))


def explicable(compared: list[Comparison]) -> bool:
    """Whether rounding inside would explain that the evidence could not decide."""
    return any(c.reason in EXPLICABLE for c in compared)


def remarks(bench: Bench, compared: list[Comparison]) -> list[str]:
    """Name the precision where the evidence was dull."""
    dull = [c.resolution > DULL * default_rtol(bench.program.eps) or c.reason in EXPLICABLE for c in compared]
    relative = noise(bench) if any(dull) else 0.0
    name = internal_rounding.name_of(relative, bench.program.eps)
    told = f"{name} inside: the values carry noise of {relative:.0e} of their size; the inputs are more precise"
    return [told] if name else []

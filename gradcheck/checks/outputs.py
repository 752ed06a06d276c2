"""Which outputs can be looked at together, and how much each counts in a combination."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.checks.evaluator import every_entry
from gradcheck.evidence import probes
from gradcheck.seeds import generator

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gradcheck.backends.program import Program
    from gradcheck.checks.evaluator import Evaluator
    from gradcheck.evidence.line import F64, Phi

NEAR = 4.0  # times the finest step


@dataclass(frozen=True)
class Outlook:
    """What the outputs look like nearby.

    Attributes:
        scales: by which each is divided in a combination, (M,): its leaf's root mean square, so that a large output does not
            hide a small one; an entry far smaller than its leaf, in value and in slope, counts by its own size.
        lost: those that are not finite on both sides, however near: they would take the others with them.
    """

    scales: F64
    lost: NDArray[np.bool_]

    def cotangent(self, rng: np.random.Generator) -> F64:
        """A Gaussian combination of the outputs that can be looked at together, (M,)."""
        found = rng.standard_normal(self.scales.shape) / np.maximum(self.scales, probes.TINY)
        return np.where(self.lost, 0.0, found)


def outlook(evaluator: Evaluator, label: str) -> Outlook:
    """Look a little ahead along a direction that moves every entry."""
    return seen_along(evaluator.program, evaluator.line(every_entry(evaluator.program, generator(0, "outlook", label))))


def seen_along(program: Program, phi: Phi) -> Outlook:
    """What the outputs look like a little ahead along a line."""
    step = NEAR * probes.finest_step(program.eps)
    with np.errstate(all="ignore"):
        ahead = phi(step).copy()
        behind = phi(-step)
        lost = ~(np.isfinite(ahead) & np.isfinite(behind))
        slope = np.where(lost, 0.0, np.abs(ahead - behind) / (2 * step))
    size = np.maximum(np.abs(program.value), slope)
    scales = np.concatenate([probes.scales_of(size[leaf.span]) for leaf in program.outputs])
    return Outlook(scales, lost & ~lost.all())

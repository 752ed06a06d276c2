"""Which outputs can be looked at together, and how much each counts in a combination."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.backends.program import Program
from gradcheck.compare.noise_floor import every_entry, largest_terms
from gradcheck.evidence import directions
from gradcheck.evidence.line import F64, Setting
from gradcheck.seeds import generator

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gradcheck.backends.program import Program
    from gradcheck.compare.evaluator import Evaluator
    from gradcheck.evidence.line import F64, Phi, Setting

OWN_CHANNELS = 16  # up to so many outputs each is looked at by itself, beyond through random combinations
COMBINATIONS = 4

NEAR = 4.0  # times the finest step
LOST = 0.25  # power of eps: so small beside the terms that cancel in it, an output counts as if it were no smaller


@dataclass(frozen=True)
class Outlook:
    """What the outputs look like nearby.

    Attributes:
        scales: by which each is divided in a combination, (M,): its leaf's root mean square, so that a large output does not
            hide a small one; an entry far smaller than its leaf, in value and in slope, counts by its own size, unless that is
            what is left of larger terms.
        lost: those that are not finite on both sides, however near: they would take the others with them.
    """

    scales: F64
    lost: NDArray[np.bool_]

    def cotangent(self, rng: np.random.Generator) -> F64:
        """A Gaussian combination of the outputs that can be looked at together, (M,)."""
        found = rng.standard_normal(self.scales.shape) / np.maximum(self.scales, directions.TINY)
        return np.where(self.lost, 0.0, found)


def outlook(evaluator: Evaluator, setting: Setting, label: str) -> Outlook:
    """Look a little ahead along a direction that moves every entry."""
    program = evaluator.program
    found = seen_along(program, evaluator.line(every_entry(program, generator(0, "outlook", label))))
    least = max((claim.eps for claim in program.claims), default=setting.eps) ** LOST
    return replace(found, scales=np.maximum(found.scales, least * terms_of(program, setting)))


def terms_of(program: Program, setting: Setting) -> F64:
    """How large the terms are that an output is the sum of, (M,), as its noise tells; no larger than they may be.

    The logarithm of a probability next to 1 is the difference of large ones, and so is its derivative. Weighed by its own size
    alone it would drown all others in their rounding.
    """
    return np.maximum(np.abs(program.value), np.minimum(setting.deviation / setting.eps, largest_terms(program)))


def seen_along(program: Program, phi: Phi) -> Outlook:
    """What the outputs look like a little ahead along a line."""
    step = NEAR * directions.finest_step(program.eps)
    with np.errstate(all="ignore"):
        ahead = phi(step).copy()
        behind = phi(-step)
        lost = ~(np.isfinite(ahead) & np.isfinite(behind))
        slope = np.where(lost, 0.0, np.abs(ahead - behind) / (2 * step))
    size = np.maximum(np.abs(program.value), slope)
    scales = np.concatenate([directions.scales_of(size[leaf.span]) for leaf in program.outputs])
    return Outlook(scales, lost & ~lost.all())


def channels_for(evaluator: Evaluator, setting: Setting, label: str) -> F64 | None:
    """Combinations of outputs to differentiate, (C, M); None: each output by itself.

    Outputs that are not finite on both sides of the primal are looked at by themselves, as many as there is room for.
    """
    size = evaluator.program.value.size
    if size <= OWN_CHANNELS:
        return None
    found, rng = outlook(evaluator, setting, label), generator(0, "channels", label)
    combinations = [found.cotangent(rng) for _ in range(COMBINATIONS)]
    lost = np.flatnonzero(found.lost)[: OWN_CHANNELS - COMBINATIONS]
    alone = np.zeros((lost.size, size))
    alone[np.arange(lost.size), lost] = 1.0
    return np.vstack([*combinations, *alone])


def output_slopes(program: Program, setting: Setting) -> F64:
    """The slope of a channel that changes by the size of its terms over the scale of a leaf, (C, N)."""
    if setting.channels is not None:
        size = np.max(np.abs(setting.channels) * terms_of(program, setting), axis=1, initial=0.0)
    else:
        size = np.concatenate(
            [np.full(o.entries * o.width, np.max(np.abs(setting.base[o.span]), initial=0.0)) for o in program.outputs]
        )
    parts = [program.point[leaf.span] for leaf in program.leaves]
    units = np.concatenate([np.full(x.size, directions.scale_of(x)) for x in parts])
    return np.asarray(size[:, None] / units)

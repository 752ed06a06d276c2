"""Random directions on a block of a leaf: the estimates along them, a claim along them, and what they resolve.

`reports/detection.md` measures how often a fault above the stated resolution is missed; the promise is at most 1 - CERTAINTY.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.compare import claims_along_lines
from gradcheck.compare.estimates import LineEstimates, estimate_lines
from gradcheck.compare.table_row import make_comparison
from gradcheck.evidence import directions
from gradcheck.evidence.line import F64, Setting
from gradcheck.results import Comparison, Reason
from gradcheck.seeds import make_generator
from gradcheck.verdict.facts import Fact

if TYPE_CHECKING:
    from gradcheck.backends.flat import Leaf
    from gradcheck.compare.claimed_jacobians import Jacobian
    from gradcheck.compare.judge import ClaimAlongLines, JudgedLeaf
    from gradcheck.compare.trial import MeasuredTrial

# A block has this many probes: dense ones move all its entries, a sparse one a few.
DENSE_PROBES, SPARSE_PROBES = 3, 1
PROBES = DENSE_PROBES + SPARSE_PROBES
# A wrong entry of the stated resolution would have been caught with this probability.
CERTAINTY = 0.99
# With that probability, at least one dense probe moves the entry by more than this share of its scale. The chance that a
# standard normal number stays below a small t is 0.8 t.
MIN_DENSE_DISPLACEMENT = (1 - CERTAINTY) ** (1 / DENSE_PROBES) / 0.8


@dataclass(frozen=True)
class ProbeBlock:
    """Consecutive numbers of a leaf, with probes on them.

    Attributes:
        estimates: the derivatives along the probes; probe k is read in channel k.
        tangents: the probes, (P, n), which are zero outside the block.
        span: the block, as positions in the leaf.
    """

    estimates: LineEstimates
    tangents: F64
    span: slice

    @property
    def is_whole_leaf(self) -> bool:
        """Whether the block is the whole leaf."""
        return self.span == slice(0, self.estimates.leaf.entries * self.estimates.leaf.width)


def estimate_probe_block(trial: MeasuredTrial, leaf: Leaf, span: slice) -> ProbeBlock:
    """Estimate the derivative along random directions of a block, cheaply.

    Dense directions do most of the work. A sparse one is for derivatives that would be lost among others in a dense one.

    Args:
        span: the block, as positions in the leaf.
    """
    program = trial.program
    x = program.point[leaf.span]
    tangents = np.zeros((PROBES, x.size))
    for k in range(PROBES):
        rng = make_generator(0, "tangent", trial.label, leaf.path, span.start, span.stop, k)
        draw = directions.draw_dense if k < DENSE_PROBES else directions.draw_sparse
        tangents[k, span] = draw(rng, x[span], program.eps)
    phis = [trial.evaluator.line(claims_along_lines.embed_tangent(program, leaf, u)) for u in tangents]
    settings = [select_channel(trial.setting, k) for k in range(PROBES)]
    return ProbeBlock(estimate_lines(leaf, phis, settings, program.eps), tangents, span)


def select_channel(setting: Setting, channel: int) -> Setting:
    """Return the setting with a single one of its channels."""
    assert setting.channels is not None
    return replace(setting, channels=setting.channels[channel : channel + 1])


def claim_along_probes(jacobian: Jacobian, block: ProbeBlock) -> ClaimAlongLines:
    """Compute a claim, with one row per probe, along the probes of a block."""
    return claims_along_lines.claim_along_tangents(jacobian, block.estimates.leaf.span, block.tangents)


def compute_probe_resolution(judged: JudgedLeaf, jacobian: Jacobian, block: ProbeBlock) -> float:
    """Compute the relative error of a single entry of typical size that would have been caught with probability `CERTAINTY`.

    An entry wrong by r moves probe k by r |g_i u_i|. It is missed if all K dense probes have |u_i| below t. The chance that
    a standard normal number stays below a small t is 0.8 t, so the probability of that is (0.8 t)^K.

    Returns:
        The resolution; NaN if the derivative is zero, or if the claim passed at a tie.
    """
    sides = judged.sides
    is_zero, is_tied = np.all(sides.magnitude <= sides.uncertainty), np.any(judged.remark == Reason.TIE)
    if sides.difference.shape[1] != PROBES or is_zero or is_tied:
        return float("nan")
    moving = np.any(block.tangents != 0, axis=0)
    terms = (jacobian.values[:, block.estimates.leaf.span] * block.tangents)[:DENSE_PROBES, moving]
    typical_term = np.sqrt(np.mean(terms**2, axis=1))
    with np.errstate(all="ignore"):
        visible = (sides.difference + sides.uncertainty)[0, :DENSE_PROBES]
        resolution = visible / (MIN_DENSE_DISPLACEMENT * typical_term)
    return float(np.max(np.where(np.isnan(resolution), 0.0, resolution)))


def mark_low_resolution(judged: JudgedLeaf) -> JudgedLeaf:
    """Mark a leaf because the evidence has too low a resolution."""
    return judged.with_fact(Fact.LOW_RESOLUTION, np.ones(judged.code.shape, dtype=bool))


def make_probe_comparison(
    trial: MeasuredTrial, judged: JudgedLeaf, jacobian: Jacobian, against: str, resolution: float, *, entries: bool = False
) -> Comparison:
    """Make the line of the table for a claim on one leaf.

    Args:
        against: the method that the claim was compared with.
        resolution: what the comparison resolves; NaN if the derivative is zero.
        entries: whether every entry was compared, and not sums along probes.
    """
    line = judged.entry_line
    comparison = make_comparison(
        judged,
        trial.program,
        (jacobian.method, against),
        trial.rtol(jacobian),
        channels=trial.setting.channels,
        resolution=resolution,
        trial_number=trial.number,
        mode="full" if entries else "probe",
        certainty=1.0 if entries else CERTAINTY,
    )
    return replace(comparison, worst_entry=judged.leaf.index(judged.leaf.start + line.place)) if line else comparison

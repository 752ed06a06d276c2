"""Full mode at its cheapest: entries in groups, along two random directions each, and one by one where the groups disagree.

Entries that lines along the whole input have shown already need no group.

The disagreement of a group along a line is taken for the error of each of its entries in turn. If that entry alone were wrong,
its error would be no larger, since a line moves every entry by at least half of its scale. So each entry has an estimate and a
bound of its own. The bound is hardly wider than that of a line that moves the entry alone, as noise does not grow with the
number of entries that move.

`reports/detection.md` measures which faults full mode catches.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from gradcheck import progress
from gradcheck.compare import claims_along_lines
from gradcheck.compare.claimed_jacobians import contract_columns
from gradcheck.compare.estimates import LineEstimates, empty_estimates, estimate_line
from gradcheck.compare.judge import MAX_CHEAP_UNCERTAINTY
from gradcheck.evidence import directions, richardson
from gradcheck.seeds import make_generator
from gradcheck.verdict.interval import default_rtol

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gradcheck.backends.flat import Leaf
    from gradcheck.backends.program import Claim, Program
    from gradcheck.compare.claimed_jacobians import Jacobian
    from gradcheck.compare.evaluator import Evaluator
    from gradcheck.evidence.line import F64, Setting

# A group has this many numbers. If the whole input has no more of them, each is estimated alone.
GROUP_SIZE = 128
# Each group is looked at along this many random directions.
LINES_PER_GROUP = 2
# This many groups are estimated together: only a few at first, in case most of them disagree.
FIRST_BATCH_SIZE, BATCH_SIZE = 4, 32
# The outputs must not change at these displacements (in units of t) of all entries that the function does not use, ...
UNUSED_STEPS = (2.0**-2, -(2.0**-2), 2.0**-6, -(2.0**-10))
# ... if there are enough of them for that to be worth it.
MIN_UNUSED_ENTRIES = 2
# Two modes of differentiation may differ by this many units in the last place of the root sum of squares of the terms.
MAX_MODE_DIFFERENCE_ULPS = 16.0


@dataclass(frozen=True)
class KnownEntries:
    """What lines that move the whole input have shown of single entries, where a claim agrees with the evidence.

    Attributes:
        channels: the combinations of the outputs, (C, M).
        tangents: the lines, (K, N).
        difference: estimate minus claim along each line, (K, C).
        uncertainty: how far the two may be apart although both are right, (K, C).
        is_known: the entries that need no line of their own, (N,).
    """

    channels: F64
    tangents: F64
    difference: F64
    uncertainty: F64
    is_known: NDArray[np.bool_]

    def read_in(self, channels: F64 | None) -> KnownEntries:
        """Return the same in the channels of full mode: these or, if None, every output, each of which is here with a sign."""
        if channels is not None:
            return self
        return replace(self, difference=self.difference * np.diag(self.channels))


def estimate_entries(
    evaluator: Evaluator, setting: Setting, leaf: Leaf, jacobian: Jacobian, label: str, known: KnownEntries | None = None
) -> LineEstimates:
    """Estimate every partial derivative of a leaf, in groups as far as a claim agrees with the evidence.

    Args:
        jacobian: the claim.
        label: names the random streams.
        known: entries that are known already, in the channels of the setting; None if there are none.
    """
    program = evaluator.program
    units = claims_along_lines.compute_displacements(program, leaf)
    phis = evaluator.lines_of_entries(leaf.start, units)
    estimates = empty_estimates(leaf, phis, [setting] * units.size, program.eps, units)
    remaining = np.ones(units.size, dtype=bool)
    if known is not None:
        remaining = ~known.is_known[leaf.span]
        tangents = known.tangents[:, leaf.span]
        _fill_in(estimates, jacobian, np.flatnonzero(~remaining), tangents, known.difference, known.uncertainty)
    remaining &= ~_confirm_unused_entries(evaluator, setting, estimates, jacobian, label, remaining)
    groups = _split_into_groups(np.flatnonzero(remaining)) if program.point.size > GROUP_SIZE else ()
    claimed = [group for group in groups if np.any(jacobian.values[:, leaf.span][:, group])]
    later_batches = (claimed[low : low + BATCH_SIZE] for low in range(FIRST_BATCH_SIZE, len(claimed), BATCH_SIZE))
    for batch in filter(None, (claimed[:FIRST_BATCH_SIZE], *later_batches)):
        progress.report_progress(leaf.path, int(batch[0][0]), units.size)
        confirmed = _confirm_groups(evaluator, setting, estimates, jacobian, batch, label)
        for group, is_confirmed in zip(batch, confirmed, strict=True):
            remaining[group] = not is_confirmed
        if 2 * sum(confirmed) < len(confirmed):  # The claim is wrong throughout, so groups would save nothing.
            break
    for done, line in enumerate(np.flatnonzero(remaining)):
        estimate_line(estimates, int(line), done, int(remaining.sum()))
    return estimates


def _confirm_unused_entries(
    evaluator: Evaluator,
    setting: Setting,
    estimates: LineEstimates,
    jacobian: Jacobian,
    label: str,
    remaining: NDArray[np.bool_],
) -> NDArray[np.bool_]:
    """Estimate together the entries that are claimed to be zero, as far as the outputs do not change at all far along them.

    Args:
        remaining: the entries that are not estimated yet, (n,).

    Returns:
        Which entries of the leaf were estimated.
    """
    leaf, x = estimates.leaf, evaluator.program.point[estimates.leaf.span]
    tangent, whole, is_unused = np.empty(x.size), np.zeros(evaluator.program.point.size), np.zeros(x.size, dtype=bool)
    directions.fill_even(make_generator(0, "unused", label, leaf.path), x, tangent)
    blocks = [np.flatnonzero(remaining & ~np.any(jacobian.values[:, leaf.span], axis=0))]
    while blocks:
        block = blocks.pop()
        if block.size < MIN_UNUSED_ENTRIES:
            continue
        whole[leaf.span] = 0.0
        whole[leaf.start + block] = tangent[block]
        phi = evaluator.line(whole)
        if all(np.array_equal(phi(t), setting.base) for t in UNUSED_STEPS):
            is_unused[block] = True
        else:
            blocks += np.array_split(block, 2)
    for values in (estimates.value, estimates.bound, estimates.nearby_slope):
        values[:, is_unused] = 0.0
    return is_unused


def _split_into_groups(positions: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    """Split positions in a leaf into groups, in order."""
    return [positions[low : low + GROUP_SIZE] for low in range(0, positions.size, GROUP_SIZE)]


def _draw_tangents(program: Program, leaf: Leaf, group: NDArray[np.intp], label: str) -> F64:
    """Draw the random directions of a group, (2, N); they move nothing else."""
    x, tangents = program.point[leaf.span][group], np.zeros((LINES_PER_GROUP, program.point.size))
    for k in range(LINES_PER_GROUP):
        u = np.empty(x.size)
        directions.fill_even(make_generator(0, "group", label, leaf.path, int(group[0]), k), x, u)
        tangents[k, leaf.start + group] = directions.round_tangent(u, x, program.eps)
    return tangents


def _confirm_groups(
    evaluator: Evaluator,
    setting: Setting,
    estimates: LineEstimates,
    jacobian: Jacobian,
    batch: list[NDArray[np.intp]],
    label: str,
) -> list[bool]:
    """Check whether a claim agrees with the evidence along the lines of some groups.

    Args:
        estimates: filled in for the entries of each group that agrees.
        batch: the groups, as positions in the leaf.

    Returns:
        For each group whether it agrees.
    """
    leaf, program = estimates.leaf, evaluator.program
    tangents = [_draw_tangents(program, leaf, group, label) for group in batch]
    values, errors = jacobian.values[:, leaf.span], jacobian.error[:, leaf.span]
    agrees, differences, bounds = [True] * len(batch), [], []
    # A group that is known no better than this, as near a kink, is estimated entry by entry, unless all of it is small.
    rtol = default_rtol(jacobian.eps)
    largest_of_leaf = np.max(np.abs(values * estimates.units), axis=1)
    for k, estimate in enumerate((richardson.estimate_from_three_steps, richardson.estimate_from_two_steps)):
        lines = evaluator.lines(np.stack([group_tangents[k] for group_tangents in tangents]))
        slopes = richardson.estimate_channels(lines, setting, estimate)
        difference = np.zeros_like(slopes.value)
        for j, group in enumerate(batch):
            claim, error, u = values[:, group], errors[:, group], tangents[j][k, leaf.start + group]
            difference[j] = slopes.value[j] - claim @ u
            allowed = slopes.bound[j] + np.sqrt(error**2 @ u**2) + jacobian.eps * (np.abs(claim) @ np.abs(u))
            largest = np.max(np.abs(claim * u), axis=1)
            is_sharp = allowed <= rtol * np.maximum(MAX_CHEAP_UNCERTAINTY * largest, largest_of_leaf)
            agrees[j] &= bool(np.all((np.abs(difference[j]) <= allowed) & (is_sharp | (largest == 0))))
        differences.append(difference)
        bounds.append(slopes.bound)
    for j, group in enumerate(batch):
        if agrees[j]:
            of_group = [np.stack([of_line[j] for of_line in of_lines]) for of_lines in (differences, bounds)]
            _fill_in(estimates, jacobian, group, tangents[j][:, leaf.span], *of_group)
    return agrees


def _fill_in(
    estimates: LineEstimates,
    jacobian: Jacobian,
    entries: NDArray[np.intp],
    tangents: F64,
    difference: F64,
    bound: F64,
) -> None:
    """Fill in the estimates of some entries from two lines that move them all.

    The disagreement along a line is taken for the error of each entry in turn, and the line that says more of an entry counts.

    Args:
        entries: positions in the leaf.
        tangents: of the numbers of the leaf, (2, n).
        difference: estimate minus claim along each line, (2, C).
        bound: how far the two may be apart although both are right, (2, C).
    """
    leaf, units = estimates.leaf, estimates.units[entries]
    shares = units / tangents[:, entries]
    corrections = difference[:, :, None] * shares[:, None]
    widths = bound[:, :, None] * np.abs(shares)[:, None]
    sharper = np.argmin(np.abs(corrections) + widths, axis=0)[None]
    value = jacobian.values[:, leaf.span][:, entries] * units
    estimates.value[:, entries] = value + np.take_along_axis(corrections, sharper, axis=0)[0]
    estimates.bound[:, entries] = np.take_along_axis(widths, sharper, axis=0)[0]
    estimates.nearby_slope[:, entries] = np.abs(estimates.value[:, entries])


def evaluate_forward_rows(
    claim: Claim, program: Program, cotangents: F64, known_jacobian: Jacobian, label: str, *, in_groups: bool
) -> F64:
    """Evaluate the rows of a forward-mode claim, (C, N).

    Args:
        in_groups: take the rows of another claim where this one agrees with it along a group's lines.
        known_jacobian: the derivatives by the other claim.
        label: names the random streams.
    """
    assert claim.jvp is not None
    remaining = np.ones(program.point.size, dtype=bool)
    for leaf in program.leaves if in_groups else ():
        for group in _split_into_groups(np.arange(leaf.entries * leaf.width)):
            columns = leaf.start + group
            remaining[columns] = not _agrees_on_group(
                claim, program, cotangents, known_jacobian.values[:, columns], leaf, group, label
            )
    rows = known_jacobian.values.copy()
    for chunk in np.array_split(np.flatnonzero(remaining), max(1, int(remaining.sum()) // GROUP_SIZE)):
        units = np.zeros((chunk.size, program.point.size))
        units[np.arange(chunk.size), chunk] = 1.0
        rows[:, chunk] = contract_columns(cotangents, claim.jvp(program.point, units)) if chunk.size else 0.0
    return rows


def _agrees_on_group(
    claim: Claim, program: Program, cotangents: F64, rows: F64, leaf: Leaf, group: NDArray[np.intp], label: str
) -> bool:
    """Whether a forward-mode claim agrees along a group's lines with the rows of another claim, (C, n)."""
    assert claim.jvp is not None
    tangents = _draw_tangents(program, leaf, group, label)
    for u, jvp in zip(tangents[:, leaf.start + group], claim.jvp(program.point, tangents), strict=True):
        size = np.sqrt(rows**2 @ u**2) + np.sqrt(cotangents**2 @ jvp**2)
        if not np.all(np.abs(cotangents @ jvp - rows @ u) <= MAX_MODE_DIFFERENCE_ULPS * claim.eps * size):
            return False
    return True

"""Full mode at its cheapest: entries in groups, along two random directions each, and one by one where the groups disagree.

The disagreement of a group along a line is taken for the error of each of its entries in turn. If that entry alone were wrong,
its error would be no larger, since a line moves every entry by at least half of its scale. So each entry has an estimate and a
bound of its own. The bound is hardly wider than that of a line that moves the entry alone, as noise does not grow with the
number of entries that move. Where it is too wide to settle an entry, that entry is estimated alone.

`reports/detection.md` measures which faults full mode catches.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from gradcheck import progress
from gradcheck.checks.derivative.swamped_entries import MAX_SWAMPED_ULPS
from gradcheck.compare import claims_along_lines
from gradcheck.compare.claimed_jacobians import contract_columns
from gradcheck.compare.estimates import LineEstimates, empty_estimates, estimate_line, estimate_with_ladder
from gradcheck.compare.judge import MANY_LINES, MAX_CHEAP_UNCERTAINTY
from gradcheck.evidence import directions, richardson
from gradcheck.evidence.line import LARGEST_STEP
from gradcheck.seeds import make_generator
from gradcheck.verdict.interval import MAX_SMALL_ENTRY_UNCERTAINTY, default_rtol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gradcheck.backends.flat import Leaf
    from gradcheck.backends.program import Claim, Program
    from gradcheck.compare.claimed_jacobians import Jacobian
    from gradcheck.compare.evaluator import Evaluator
    from gradcheck.evidence.line import F64, Setting

# A group has this many numbers, of one leaf or of several.
GROUP_SIZE = 128
# Each group is looked at along this many random directions.
LINES_PER_GROUP = 2
# This many groups are estimated together: only a few at first, in case most of them disagree.
FIRST_BATCH_SIZE, BATCH_SIZE = 4, 32
# A group has at least this many entries.
MIN_GROUP_SIZE = 4
# The step ladder is climbed along the lines of a group if at least this many entries stay open that no line contradicts, which
# costs no more than cheap estimates of them alone, and far less if these had to climb it too.
MIN_ENTRIES_FOR_LADDER = 16
# The outputs must not change at these displacements (in units of t) of all entries that the function does not use, ...
UNUSED_STEPS = (2.0**-2, -(2.0**-2), 2.0**-6, -(2.0**-10))
# ... if there are enough of them for that to be worth it.
MIN_UNUSED_ENTRIES = 2
# Two modes of differentiation may differ by this many units in the last place of the root sum of squares of the terms.
MAX_MODE_DIFFERENCE_ULPS = 16.0


def estimate_entries(
    evaluator: Evaluator, setting: Setting, leaves: Sequence[Leaf], jacobian: Jacobian, label: str, *, in_groups: bool
) -> list[LineEstimates]:
    """Estimate every partial derivative of some leaves, in groups as far as a claim agrees with the evidence.

    Args:
        jacobian: the claim.
        label: names the random streams.
        in_groups: whether entries may be estimated together.
    """
    program, estimates = evaluator.program, []
    for leaf in leaves:
        units = claims_along_lines.compute_displacements(program, leaf)
        phis = evaluator.lines_of_entries(leaf.start, units)
        estimates.append(empty_estimates(leaf, phis, [setting] * units.size, program.eps, units))
        _confirm_unused_entries(evaluator, setting, estimates[-1], jacobian, label)
    if in_groups:
        _estimate_groups(evaluator, setting, estimates, jacobian, label)
    for of_leaf in estimates:
        remaining = np.flatnonzero(np.isnan(of_leaf.value[0]))
        for done, line in enumerate(remaining):
            estimate_line(of_leaf, int(line), done, remaining.size)
    return estimates


def _confirm_unused_entries(
    evaluator: Evaluator, setting: Setting, estimates: LineEstimates, jacobian: Jacobian, label: str
) -> None:
    """Estimate together the entries that are claimed to be zero, as far as the outputs do not change at all far along them."""
    leaf, x = estimates.leaf, evaluator.program.point[estimates.leaf.span]
    tangent, whole, is_unused = np.empty(x.size), np.zeros(evaluator.program.point.size), np.zeros(x.size, dtype=bool)
    directions.fill_even(make_generator(0, "unused", label, leaf.path), x, tangent)
    blocks = [np.flatnonzero(~np.any(jacobian.values[:, leaf.span], axis=0))]
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


def _estimate_groups(
    evaluator: Evaluator, setting: Setting, estimates: list[LineEstimates], jacobian: Jacobian, label: str
) -> None:
    """Estimate entries in groups, until most of a batch stays open."""
    program, allowed = evaluator.program, _find_allowed_uncertainty(setting, estimates, jacobian)
    groups = _split_into_groups(_choose_grouped_entries(program, estimates))
    groups = [group for group in groups if group.size >= MIN_GROUP_SIZE and np.any(jacobian.values[:, group])]
    later_batches = (groups[low : low + BATCH_SIZE] for low in range(FIRST_BATCH_SIZE, len(groups), BATCH_SIZE))
    for batch in filter(None, (groups[:FIRST_BATCH_SIZE], *later_batches)):
        progress.report_progress(estimates[0].leaf.path, int(batch[0][0]), program.point.size)
        settled = 0
        for lines in _look_along_groups(evaluator, setting, jacobian, batch, label):
            is_settled = lines.find_settled(allowed)
            if not lines.contradicts and _is_ladder_cheaper(setting, program.eps, ~is_settled, allowed.cheaply[:, lines.group]):
                lines = lines.climb_ladder(evaluator, setting)
                is_settled = lines.find_settled(allowed)
            for of_leaf in estimates:
                lines.fill_in(of_leaf, is_settled)
            settled += int(np.count_nonzero(is_settled))
        if 2 * settled < sum(group.size for group in batch):  # The claim is wrong throughout, so groups would save nothing.
            break


@dataclass(frozen=True)
class AllowedUncertainty:
    """How uncertain the change of each channel may be for each number of the input to be settled, (C, N).

    Attributes:
        cheaply: along lines with few steps, after which an entry may be estimated alone.
        after_ladder: along lines with all steps, after which little is left to learn.
        rtol: relative error from which on a claim is wrong.
    """

    cheaply: F64
    after_ladder: F64
    rtol: float


def _find_allowed_uncertainty(setting: Setting, estimates: list[LineEstimates], jacobian: Jacobian) -> AllowedUncertainty:
    """Find how uncertain the changes may be, relative to the changes themselves.

    A zero counts by the largest change that an entry of the leaf makes; of any leaf, if that is zero; and by the channel itself
    if all are zero. A small one of many entries counts like a zero if there are several groups. After the ladder, the largest
    change that an entry of the leaf makes to any channel counts, as it does in the verdict (`Fact.SMALL`).
    """
    rtol, (cheaply, after_ladder) = default_rtol(jacobian.eps), np.zeros((2, *jacobian.values.shape))
    coarsely = min(MAX_CHEAP_UNCERTAINTY * rtol, MAX_SMALL_ENTRY_UNCERTAINTY)
    changes = [np.abs(jacobian.values[:, of_leaf.leaf.span] * of_leaf.units) for of_leaf in estimates]
    largest = np.max([np.max(change, axis=1) for change in changes], axis=0)
    fallback = np.where(largest > 0, largest, setting.channel_sizes)[:, None]
    for of_leaf, change in zip(estimates, changes, strict=True):
        largest_of_leaf = np.max(change, axis=1, keepdims=True)
        reference = np.where(largest_of_leaf > 0, largest_of_leaf, fallback)
        is_long = of_leaf.units.size > MANY_LINES and cheaply[0].size > GROUP_SIZE
        by_own_size = MAX_CHEAP_UNCERTAINTY * rtol * change
        as_zero = np.maximum(by_own_size, rtol * reference)
        cheaply[:, of_leaf.leaf.span] = np.where((change == 0) | is_long, as_zero, by_own_size)
        after_ladder[:, of_leaf.leaf.span] = np.maximum(as_zero, coarsely * np.max(change))
    return AllowedUncertainty(cheaply, after_ladder, rtol)


def _is_ladder_cheaper(setting: Setting, eps: float, is_open: NDArray[np.bool_], allowed: F64) -> bool:
    """Say whether the step ladder along two lines of a group costs less than estimates of its open entries alone.

    It does if there are many, or some that noise alone makes so uncertain that the ladder would be climbed for each.

    Args:
        is_open: the entries that are not settled, (n,).
        allowed: how uncertain each may be, (C, n).
    """
    step = richardson.choose_steps(setting, eps)[-1]
    noise = richardson.noise_bound(setting.slack * setting.contract_noise(setting.total_noise), step)
    is_noisy = is_open & np.any(noise[:, None] > allowed, axis=0)
    return bool(np.count_nonzero(is_open) >= MIN_ENTRIES_FOR_LADDER or np.count_nonzero(is_noisy) >= MIN_GROUP_SIZE)


def _choose_grouped_entries(program: Program, estimates: list[LineEstimates]) -> NDArray[np.intp]:
    """Choose the entries to estimate together, as positions in the input: all but those far smaller than others."""
    scales = [directions.compute_leaf_scale(program.point[of_leaf.leaf.span]) for of_leaf in estimates]
    chosen = []
    for of_leaf, scale in zip(estimates, scales, strict=True):
        smallest = max(directions.SMALL_ENTRY_RATIO * scale, MAX_SWAMPED_ULPS * program.eps * max(scales))
        is_open = np.isnan(of_leaf.value[0]) & (np.abs(of_leaf.units) >= smallest)
        chosen.append(of_leaf.leaf.start + np.flatnonzero(is_open))
    return np.concatenate(chosen)


def _split_into_groups(positions: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    """Split positions into groups, in order."""
    return [positions[low : low + GROUP_SIZE] for low in range(0, positions.size, GROUP_SIZE)]


def _draw_tangents(program: Program, group: NDArray[np.intp], label: str) -> F64:
    """Draw the random directions of a group, (2, N); they move nothing else."""
    tangents = np.zeros((LINES_PER_GROUP, program.point.size))
    for leaf in program.leaves:
        entries = group[(group >= leaf.start) & (group < leaf.span.stop)]
        for k in range(LINES_PER_GROUP if entries.size else 0):
            x, u = program.point[entries], np.empty(entries.size)
            directions.fill_even(make_generator(0, "group", label, leaf.path, int(entries[0] - leaf.start), k), x, u)
            tangents[k, entries] = directions.round_tangent(u, x, program.eps)
    return tangents


def _look_along_groups(
    evaluator: Evaluator, setting: Setting, jacobian: Jacobian, batch: list[NDArray[np.intp]], label: str
) -> list[_GroupLines]:
    """Estimate the slopes along the lines of some groups, all at once."""
    tangents = np.stack([_draw_tangents(evaluator.program, group, label) for group in batch])
    estimators = (richardson.estimate_from_three_steps, richardson.estimate_from_two_steps)
    slopes = [richardson.estimate_channels(evaluator.lines(tangents[:, k]), setting, f) for k, f in enumerate(estimators)]
    value, bound = (np.stack([getattr(of_line, name) for of_line in slopes], axis=1) for name in ("value", "bound"))
    return [_GroupLines(jacobian, group, *of_group) for group, *of_group in zip(batch, tangents, value, bound, strict=True)]


@dataclass(frozen=True)
class _GroupLines:
    """A claim and the slopes along the two lines of a group.

    Attributes:
        jacobian: the claim.
        group: the entries, as positions in the input.
        tangents: the lines, (2, N).
        value: the estimated slope of each channel along each line, (2, C).
        bound: bounds of the errors of these, (2, C).
        farther_slope: how steep each channel is up to a point far along each line, beyond its noise, (2, C); None until the
            step ladder was climbed.
    """

    jacobian: Jacobian
    group: NDArray[np.intp]
    tangents: F64
    value: F64
    bound: F64
    farther_slope: F64 | None = None

    @cached_property
    def difference(self) -> F64:
        """Estimate minus claim along each line, (2, C)."""
        return np.asarray(self.value - self.tangents[:, self.group] @ self.jacobian.values[:, self.group].T)

    @cached_property
    def uncertainty(self) -> F64:
        """How far the two may be apart although both are right, (2, C)."""
        size, claim_error = np.abs(self.jacobian.values[:, self.group]), self.jacobian.error[:, self.group]
        tangents = np.abs(self.tangents[:, self.group])
        return np.asarray(self.bound + np.sqrt(tangents**2 @ claim_error.T**2) + self.jacobian.eps * (tangents @ size.T))

    @property
    def agrees(self) -> bool:
        """Whether the claim agrees with slopes that are known along both lines."""
        return bool(np.all(np.abs(self.difference) <= self.uncertainty)) and bool(np.all(np.isfinite(self.bound)))

    @property
    def contradicts(self) -> bool:
        """Whether the evidence contradicts the claim along a line; no evidence does not."""
        return bool(np.any(np.abs(self.difference) > self.uncertainty))

    def climb_ladder(self, evaluator: Evaluator, setting: Setting) -> _GroupLines:
        """Take the slopes from the step ladder; they are unknown where the function is not smooth."""
        lines = [evaluator.line(u) for u in self.tangents]
        ladders = [estimate_with_ladder(line, setting) for line in lines]
        bound = [np.where(ladder.reason == None, ladder.bound, np.inf) for ladder in ladders]  # noqa: E711 - elementwise
        with np.errstate(all="ignore"):
            moves = np.abs([setting.contract(line(LARGEST_STEP) - setting.base) for line in lines])
            farther = np.fmax(moves - setting.slack * setting.contract_noise(setting.total_noise), 0.0) / LARGEST_STEP
        return replace(self, value=np.stack([ladder.value for ladder in ladders]), bound=np.stack(bound), farther_slope=farther)

    def find_settled(self, allowed: AllowedUncertainty) -> NDArray[np.bool_]:
        """Mark the entries that the lines show sharply enough in every channel, (n,); none if the claim disagrees with a line.

        After the step ladder, a channel in which all changes are lost in the uncertainty is settled too if that is far below
        its slopes farther away: its zeros are zeros.
        """
        uncertainty = np.max(self.uncertainty, axis=0)[:, None]
        if self.farther_slope is None:
            is_known = uncertainty <= allowed.cheaply[:, self.group]
        else:
            change = np.abs(self.jacobian.values[:, self.group]) * np.max(np.abs(self.tangents[:, self.group]), axis=0)
            is_zero = np.all(change <= uncertainty, axis=1, keepdims=True)
            is_zero &= uncertainty <= allowed.rtol * np.min(self.farther_slope, axis=0)[:, None]
            is_known = (uncertainty <= allowed.after_ladder[:, self.group]) | is_zero
        return np.asarray(np.all(is_known, axis=0) & self.agrees)

    def fill_in(self, estimates: LineEstimates, is_settled: NDArray[np.bool_]) -> None:
        """Fill in the estimates of the settled entries of the group, (n,), as far as they are of one leaf.

        The disagreement along a line is taken for the error of each entry in turn, and the line that says more of an entry
        counts.
        """
        span = estimates.leaf.span
        columns = self.group[is_settled & (self.group >= span.start) & (self.group < span.stop)]
        entries = columns - span.start
        units = estimates.units[entries]
        shares = units / self.tangents[:, columns]
        corrections = self.difference[:, :, None] * shares[:, None]
        widths = self.bound[:, :, None] * np.abs(shares)[:, None]
        sharper = np.argmin(np.abs(corrections) + widths, axis=0)[None]
        value = self.jacobian.values[:, columns] * units
        estimates.value[:, entries] = value + np.take_along_axis(corrections, sharper, axis=0)[0]
        estimates.bound[:, entries] = np.take_along_axis(widths, sharper, axis=0)[0]
        estimates.nearby_slope[:, entries] = np.abs(estimates.value[:, entries])
        if self.farther_slope is not None:
            farther_slopes = np.min(self.farther_slope[:, :, None] * np.abs(shares)[:, None], axis=0)
            estimates.nearby_slope[:, entries] = np.fmax(estimates.nearby_slope[:, entries], farther_slopes)
            estimates.refined[entries] = True


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
    for group in _split_into_groups(np.arange(program.point.size)) if in_groups else ():
        remaining[group] = not _agrees_on_group(claim, program, cotangents, known_jacobian.values[:, group], group, label)
    rows = known_jacobian.values.copy()
    for chunk in np.array_split(np.flatnonzero(remaining), max(1, int(remaining.sum()) // GROUP_SIZE)):
        units = np.zeros((chunk.size, program.point.size))
        units[np.arange(chunk.size), chunk] = 1.0
        rows[:, chunk] = contract_columns(cotangents, claim.jvp(program.point, units)) if chunk.size else 0.0
    return rows


def _agrees_on_group(claim: Claim, program: Program, cotangents: F64, rows: F64, group: NDArray[np.intp], label: str) -> bool:
    """Whether a forward-mode claim agrees along a group's lines with the rows of another claim, (C, n)."""
    assert claim.jvp is not None
    tangents = _draw_tangents(program, group, label)
    for u, jvp in zip(tangents[:, group], claim.jvp(program.point, tangents), strict=True):
        size = np.sqrt(rows**2 @ u**2) + np.sqrt(cotangents**2 @ jvp**2)
        if not np.all(np.abs(cotangents @ jvp - rows @ u) <= MAX_MODE_DIFFERENCE_ULPS * claim.eps * size):
            return False
    return True

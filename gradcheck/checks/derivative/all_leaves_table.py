"""The rows of the table for leaves that were all checked at once, with the scores of their self-tests."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.backends.flat import EPS
from gradcheck.checks.derivative import fault_injection
from gradcheck.checks.derivative.all_leaves_claims import find_peak
from gradcheck.compare.claims_along_lines import MAX_RANDOM_SUM
from gradcheck.compare.table_row import name_output
from gradcheck.evidence import directions
from gradcheck.evidence.line import F64
from gradcheck.results import Comparison
from gradcheck.seeds import make_generator
from gradcheck.verdict.facts import Fact
from gradcheck.verdict.interval import CLAIM_ROUNDING_ULPS, MAX_RESOLUTION, TINY, default_rtol
from gradcheck.verdict.planted_faults import inject_faults, inject_rearrangements
from gradcheck.verdict.rules import decide_row

if TYPE_CHECKING:
    from gradcheck.backends.flat import Leaf
    from gradcheck.backends.program import Claim, Program
    from gradcheck.compare.trial import Trial

# A leaf whose derivatives are known less sharply than this relative error is checked on its own ...
MAX_QUICK_RESOLUTION = 1e-3
# ... but with more input numbers than this, only if it is known less sharply than any PASS may be (`MAX_RESOLUTION`).
MAX_INPUT_FOR_QUICK_RESOLUTION = 2**20
# This is the root mean square of an even tangent, in scales.
EVEN_TANGENT_RMS = math.sqrt(13 / 12)


@dataclass(frozen=True)
class LeafSums:
    """Sums over the numbers of each leaf along each line, (K, C, L), for gradients g and tangents u; facts about the leaves.

    There are K lines, C combinations of the outputs and L leaves.

    Attributes:
        products: sums of g u.
        magnitudes: sums of |g u|.
        squares: sums of (g u)^2.
        tangent_squares: sums of u^2, (K, L).
        largest: the largest |g| of each leaf, (C, L).
        counts: the numbers in each leaf, (L,).
    """

    products: F64
    magnitudes: F64
    squares: F64
    tangent_squares: F64
    largest: F64
    counts: F64

    @property
    def typical_change(self) -> F64:
        """The change that a typical entry of each leaf contributes along each line, (K, C, L)."""
        return np.sqrt(self.squares / self.counts) / EVEN_TANGENT_RMS

    def rounding_error(self, eps: float) -> F64:
        """Bound the rounding error of a claim along each line, (K, C)."""
        spread = np.sqrt(2 * np.sum(self.squares + self.largest**2 * self.tangent_squares[:, None], axis=2))
        return np.asarray(eps * (CLAIM_ROUNDING_ULPS * spread + np.sum(self.magnitudes, axis=2)))


def make_empty_sums(leaves: list[Leaf], lines: int, *, largest: F64) -> LeafSums:
    """Make the sums of no line yet.

    Args:
        leaves: the leaves that are not empty.
        lines: how many lines there will be.
        largest: the largest |g| of each leaf, (C, L).
    """
    products, magnitudes, squares = np.zeros((3, lines, *largest.shape))
    counts = np.array([float(leaf.entries * leaf.width) for leaf in leaves])
    return LeafSums(products, magnitudes, squares, np.zeros((lines, len(leaves))), largest, counts)


def add_up_line(sums: LeafSums, gradients: F64, tangent: F64, leaves: list[Leaf], k: int) -> None:
    """Fill in the sums of gradients (C, N) along line number `k`, piece by piece."""
    longest = min(max(leaf.entries * leaf.width for leaf in leaves), directions.PIECE_SIZE)
    buffer = np.empty((len(gradients), longest))  # made once: new memory costs more than the arithmetic
    for i, leaf in enumerate(leaves):
        g, u = gradients[:, leaf.span], tangent[leaf.span]
        for piece in directions.split_for_cache(u.size):
            terms = np.multiply(g[:, piece], u[piece], out=buffer[:, : u[piece].size])
            sums.products[k, :, i] += np.sum(terms, axis=1)
            sums.squares[k, :, i] += np.einsum("cn,cn->c", terms, terms)
            sums.tangent_squares[k, i] += np.einsum("n,n->", u[piece], u[piece])
            sums.magnitudes[k, :, i] += np.sum(np.abs(terms, out=terms), axis=1)


@dataclass(frozen=True)
class ComparedSum:
    """A claim compared with estimates along lines that move all leaves, (K, C).

    Attributes:
        claim: the claim.
        claimed: the claimed slope along each line.
        estimate: the estimated slope.
        uncertainty: how far the two may be apart although both are right.
        noise_error: the error that noise alone would leave in an estimate at the steps of a first closer look.
    """

    claim: Claim
    claimed: F64
    estimate: F64
    uncertainty: F64
    noise_error: F64

    @property
    def difference(self) -> F64:
        """|claim - estimate|."""
        return np.abs(self.claimed - self.estimate)

    @property
    def agrees(self) -> bool:
        """Whether claim and estimate are no further apart than the uncertainty."""
        return bool(np.all(self.difference <= self.uncertainty))


def make_rows(
    program: Program,
    compared: ComparedSum,
    sums: LeafSums,
    leaves: list[Leaf],
    trial: Trial,
    cotangents: F64,
    least_resolutions: F64,
    certainty: float,
) -> list[Comparison]:
    """Make the row of each leaf: PASS if a single wrong entry of typical size would have been seen.

    An entry with relative error r moves every line by at least `MIN_EVEN_STEP` r times its size. A PASS states no sharper
    resolution than a first closer look could confirm, unless that is too coarse to be useful. A combination of the outputs
    that does not depend on a leaf at all says nothing about that leaf's resolution, if another one does.

    Args:
        least_resolutions: each leaf states no sharper resolution than this, (L,).
        certainty: probability with which an error of the size of the resolution would have been caught.
    """
    line_count = len(compared.claimed)
    options = trial.options
    is_small = program.point.size <= MAX_INPUT_FOR_QUICK_RESOLUTION
    limit = options.rtol or (MAX_QUICK_RESOLUTION if is_small else MAX_RESOLUTION)
    with np.errstate(all="ignore"):
        least_change = directions.MIN_EVEN_STEP * sums.typical_change[:line_count]
        depends = (least_change > 0) | ~np.any(least_change > 0, axis=1, keepdims=True)
        resolutions, confirmable = (
            np.max((compared.difference + error)[..., None] / least_change, axis=(0, 1), where=depends, initial=0.0)
            for error in (compared.uncertainty, compared.noise_error)
        )
        excess = np.fmax(compared.difference / compared.uncertainty, 0.0)
        worst = np.unravel_index(int(np.argmax(excess)), excess.shape)
        sizes = np.minimum(sums.magnitudes, MAX_RANDOM_SUM * np.sqrt(sums.squares))
        # The worst sum may be one that does not depend on a leaf; its difference is not infinitely large for that.
        depends_there = (sizes[worst] > 0) | (compared.difference[worst] == 0)
        size = np.where(depends_there, sizes[worst], np.max(sizes, axis=(0, 1)))
        errors = compared.difference[worst] / size
    claim_eps = compared.claim.eps
    rtol = options.rtol or default_rtol(min(claim_eps, EPS["float32"]) if program.half else claim_eps)
    coarsest = options.rtol or MAX_RESOLUTION
    stated = np.fmax(np.fmax(resolutions, np.fmin(confirmable, coarsest)), least_resolutions)
    is_sharp = (resolutions <= limit) & (stated <= coarsest)
    output = name_output(program, int(worst[1]), cotangents)
    verdicts = [decide_row({Fact.SHARP if sharp else Fact.LOW_RESOLUTION}) for sharp in is_sharp]
    return [
        Comparison(
            wrt=leaf.path,
            output=output,
            method=compared.claim.method,
            against="numeric",
            verdict=verdict,
            reason=reason,
            claimed=float(compared.claimed[worst]),
            estimate=float(compared.estimate[worst]),
            bound=float(compared.uncertainty[worst]),
            abs_err=float(compared.difference[worst]),
            rel_err=float(error),
            rtol=rtol,
            resolution=float(resolution),
            shape=leaf.shape,
            dtype=leaf.dtype,
            entries=leaf.entries,
            trial=trial.number,
            mode="probe",
            certainty=certainty,
        )
        for leaf, resolution, (verdict, reason), error in zip(leaves, stated, verdicts, errors, strict=True)
    ]


def pass_as_zero(row: Comparison, bound: float) -> Comparison:
    """Pass a leaf whose gradient is rightly zero; the row says 0, as what is claimed is rounding, or below the bound."""
    verdict, reason = decide_row({Fact.NO_PART})
    return replace(
        fault_injection.record_faults(row, [("one entry changed", False)]),  # the changed entry would not have been zero
        verdict=verdict,
        reason=reason,
        claimed=0.0,
        estimate=0.0,
        bound=bound,
        abs_err=0.0,
        rel_err=math.nan,
        resolution=math.nan,
    )


def add_self_test_of_leaf(
    row: Comparison, compared: ComparedSum, sums: LeafSums, i: int, gradients: F64, tangents: F64, label: str
) -> Comparison:
    """Add the score of the self-test to the row of a leaf.

    Entries are changed and rearranged only among some numbers of the leaf, where a fault is harder to see than in all of it.

    Args:
        row: the row.
        compared: the claim.
        sums: the sums of all leaves.
        i: index of the leaf in them.
        gradients: the claimed gradients at these numbers, (C, n).
        tangents: the lines there, (K, n).
        label: names the random stream.
    """
    size, typical_change = fault_injection.compute_fault_size(row), np.sqrt(np.mean(sums.typical_change[..., i] ** 2, axis=0))
    if not size < 1:
        return row
    leaf_slope = sums.products[..., i]
    factors = {"zeroed": -1.0, "sign flipped": -2.0, "scaled up": size, "scaled down": -size}
    changes = {name: factor * leaf_slope for name, factor in factors.items()}
    scales = np.sqrt(np.mean(tangents**2, axis=0)) / EVEN_TANGENT_RMS
    peak = find_peak(gradients * scales)  # a fault counts by how much it moves the outputs
    changes["one entry changed"] = size * np.outer(tangents[:, peak], gradients[:, peak])
    width = 2 if row.dtype.startswith("complex") else 1
    shape = (*row.shape, width) if gradients.shape[1] == row.entries * width else (-1, width)
    rng = make_generator(0, "faults", label, row.wrt)
    for name, faulty in inject_rearrangements(gradients.reshape(len(gradients), *shape), rng):
        change = faulty.reshape(gradients.shape) - gradients
        if np.any(np.linalg.norm(change * scales, axis=1) >= np.maximum(size * typical_change, TINY)):
            changes[name] = tangents @ change.T
    return _record_changes(row, compared, changes)


def add_self_test_of_sum(rows: list[Comparison], compared: ComparedSum, label: str) -> list[Comparison]:
    """Add the score of the faults that show in a sum over all entries, all that is known of a claim in forward mode.

    The sum is the same for every leaf, so the row with the sharpest resolution is tested, and its score holds for all.
    """
    sharpest, claimed = min(rows, key=lambda row: row.resolution), compared.claimed
    size = fault_injection.compute_fault_size(sharpest)
    if size < 1:
        # The terms of the other combinations may happen to cancel along the line.
        clearest = int(np.argmax(np.abs(claimed) / compared.uncertainty))
        least_change = max(size * (1 - fault_injection.FAULT_SIZE_ROUNDING) * abs(claimed[0, clearest]), TINY)
        rng = make_generator(0, "faults", label, compared.claim.method)
        faults = inject_faults(claimed.reshape(1, -1, 1), size, 1.0, rng)
        changes = {name: faulty.reshape(claimed.shape) - claimed for name, faulty in faults}
        clear_changes = {name: change for name, change in changes.items() if abs(change[0, clearest]) >= least_change}
        score = _record_changes(sharpest, compared, clear_changes).self_test
        if score is not None and not score.slipped:
            return [replace(row, self_test=score) for row in rows]
    verdict, reason = decide_row({Fact.BLIND})
    return [replace(row, verdict=verdict, reason=reason) for row in rows]


def _record_changes(row: Comparison, compared: ComparedSum, changes: dict[str, F64]) -> Comparison:
    """Add the score of faults to a row.

    Args:
        row: the row.
        compared: the claim.
        changes: how each fault changes the claim along the lines, (K, C), by the name of the fault.
    """
    difference = compared.claimed - compared.estimate
    faulty_differences = difference + np.reshape(list(changes.values()), (-1, *difference.shape))
    has_passed = np.all(np.abs(faulty_differences) <= compared.uncertainty, axis=(1, 2))
    return fault_injection.record_faults(row, zip(changes, has_passed.tolist(), strict=True))

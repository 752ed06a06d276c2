"""The claims of a whole input along some combinations of the outputs: gradients, and slopes in forward mode."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.backends import release_memory
from gradcheck.backends.views import LONG_INPUT
from gradcheck.checks.derivative import fault_injection
from gradcheck.compare import claimed_jacobians
from gradcheck.compare.method_pairs import CANCELLATION_ULPS
from gradcheck.evidence import directions
from gradcheck.verdict.interval import CLAIM_ROUNDING_ULPS, MAX_UNSEEN_ULPS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gradcheck.backends.flat import Leaf
    from gradcheck.backends.program import Claim, Program
    from gradcheck.compare.trial_recorder import Recorder
    from gradcheck.evidence.line import F64

# An optional claim in forward mode is evaluated for up to this many input numbers.
MAX_OPTIONAL_FORWARD_INPUT = 2**16


@dataclass(frozen=True)
class LeafGradients:
    """The claimed gradients of some combinations of the outputs, one per row, and facts about each leaf, (L,).

    Attributes:
        values: the gradients in the precision of the evaluation, (C, N).
        twin_error: the largest error of the claim in its own precision, relative to the entry and a typical one.
        entries_agree: whether every entry in its own precision is within `rtol` of its twin, or within the rounding of the
            leaf's largest. True if not every entry counts.
        agrees: whether the claim in its own precision agrees with the gradients to within `rtol`.
        is_lost: whether the gradients are lost in the last bits of the outputs in both precisions.
    """

    values: F64
    twin_error: F64
    entries_agree: NDArray[np.bool_]
    agrees: NDArray[np.bool_]
    is_lost: NDArray[np.bool_]


def evaluate_gradients(
    claim: Claim,
    twin: Claim | None,
    program: Program,
    cotangents: F64,
    leaves: list[Leaf],
    rtol: float,
    recorder: Recorder,
    *,
    every_entry_counts: bool,
) -> LeafGradients | None:
    """Evaluate the claimed gradients in their own precision and in that of the evaluation; None if they are not available.

    Args:
        claim: the claim.
        twin: the claim in the precision of the evaluation; None if its own is as high.
        program: what is checked.
        cotangents: the combinations of the outputs, (C, M).
        leaves: the leaves that are not empty.
        rtol: relative error up to which both precisions agree.
        recorder: takes a note if the claim is not available.
        every_entry_counts: compare the two precisions relative to each entry too, which takes another pass over the gradients.
    """
    twin_values: F64 | None = None
    native_values: F64 | None = None
    with claimed_jacobians.noting_unavailable(claim, recorder):
        if twin is not None:
            twin_values = _evaluate_rows(twin, program, cotangents)
        native_values = _evaluate_rows(claim, program, cotangents)
    if native_values is None:
        return None
    no_error, all_agree = np.zeros(len(leaves)), np.ones(len(leaves), dtype=bool)
    is_lost = _find_lost_leaves(native_values, claim.eps, program, cotangents, leaves)
    if twin is None or twin_values is None:
        return LeafGradients(native_values, no_error, all_agree, all_agree, is_lost)
    is_lost &= _find_lost_leaves(twin_values, twin.eps, program, cotangents, leaves)
    pairs = [(native_values[:, leaf.span], twin_values[:, leaf.span]) for leaf in leaves]
    twin_error, nonzero_error = np.transpose([_compare_with_twin(*pair) for pair in pairs])
    entries_agree = all_agree
    if program.half:  # its accuracy is judged apart
        twin_error = no_error
    elif every_entry_counts:
        last_bits = CANCELLATION_ULPS * claim.eps * find_output_sizes(program, cotangents)[:, None]
        scales = [directions.compute_entry_scales(program.point[leaf.span]) for leaf in leaves]
        entries_agree = np.array(
            [_every_entry_agrees(*pair, s, rtol, claim.eps, last_bits) for pair, s in zip(pairs, scales, strict=True)]
        )
    return LeafGradients(twin_values, twin_error, entries_agree, nonzero_error <= rtol, is_lost)


def _evaluate_rows(claim: Claim, program: Program, cotangents: F64) -> F64:
    rows = claimed_jacobians.evaluate_rows(claim, program.point, cotangents)
    if rows.size > LONG_INPUT:
        release_memory.release_unused()
    return rows


def find_lost_size(program: Program, cotangents: F64, eps: float) -> F64:
    """Return the size below which a slope per scale is lost in the last bits of each combination of the outputs, (C,).

    If these bits would hide an entry that the self-test plants in a zero gradient, only a gradient that is zero counts.
    """
    hides_faults = MAX_UNSEEN_ULPS * eps >= fault_injection.ZERO_FAULT_SIZE
    return np.asarray((0.0 if hides_faults else MAX_UNSEEN_ULPS * eps) * find_output_sizes(program, cotangents))


def find_output_sizes(program: Program, cotangents: F64) -> F64:
    """Return the largest term of each combination of the outputs, (C,)."""
    return np.asarray(np.max(np.abs(cotangents * program.value), axis=1, initial=0.0))


def _find_lost_leaves(gradients: F64, eps: float, program: Program, cotangents: F64, leaves: list[Leaf]) -> NDArray[np.bool_]:
    """Mark the leaves whose gradients are all lost in the last bits of the outputs."""
    lost_size = find_lost_size(program, cotangents, eps)
    return np.array(
        [
            np.all(find_largest(gradients[:, leaf.span]) * directions.compute_leaf_scale(program.point[leaf.span]) <= lost_size)
            for leaf in leaves
        ]
    )


def _compare_with_twin(native: F64, twin: F64) -> tuple[float, float]:
    """Return the largest difference of a claim (C, n) from its twin, relative to the entry and a typical one of its row.

    Returns:
        The largest, with the typical size among all entries and among those that are not zero.
    """
    error, nonzero_error = 0.0, 0.0
    typical = np.array([[directions.compute_leaf_scale(row)] for row in twin])
    nonzero_share = np.array([[max(1.0, np.count_nonzero(row))] for row in twin]) / twin.shape[1]
    nonzero_typical = typical / np.sqrt(nonzero_share)
    for piece in directions.split_for_cache(twin.shape[1]):
        with np.errstate(all="ignore"):
            size = np.abs(twin[:, piece])
            difference = np.abs(native[:, piece] - twin[:, piece])
            error = max(error, float(np.max(difference / (size + typical))))
            nonzero_error = max(nonzero_error, float(np.max(difference / (size + nonzero_typical))))
        if not error <= 1:  # also if it is NaN
            return math.inf, math.inf
    return error, nonzero_error


def _every_entry_agrees(native: F64, twin: F64, scales: F64, rtol: float, eps: float, last_bits: F64) -> bool:
    """Say whether every entry of a claim (C, n) is within `rtol` of its twin, or within the rounding of its row.

    Args:
        scales: how far each entry moves, (n,): of the changes that the entries make, the largest counts.
        eps: relative spacing of floats in the claim's own precision.
        last_bits: the change that the last bits of the outputs make, (C, 1).
    """
    with np.errstate(all="ignore"):
        largest_change = np.max(np.abs(twin) * scales, axis=1, keepdims=True)
        rounding = np.fmax(CLAIM_ROUNDING_ULPS * eps * largest_change, last_bits) / scales
        return bool(np.all(np.abs(native - twin) <= rtol * np.abs(twin) + rounding))


def evaluate_forward_claims(
    program: Program, tangent: F64, cotangents: F64, rtol: float, recorder: Recorder
) -> list[tuple[Claim, F64, F64]]:
    """Evaluate each claim in forward mode along a tangent: its slopes (C,) and their errors (C,).

    The slopes are infinite if the claim disagrees with its twin.

    Args:
        rtol: relative error of the sums up to which both precisions agree; 0 to allow for rounding only.
    """
    slopes = []
    for claim in (claim for claim in program.claims if claim.vjp is None):
        if claim.optional and program.point.size > MAX_OPTIONAL_FORWARD_INPUT:
            recorder.note(
                f"{claim.method} not used: {program.point.size} input numbers exceed its limit of {MAX_OPTIONAL_FORWARD_INPUT}"
            )
            continue
        versions = [version for version in (claimed_jacobians.make_twin(claim), claim) if version is not None]
        derivatives = [claimed_jacobians.evaluate_jvp(version, program.point, tangent[None], recorder) for version in versions]
        sums = [
            _sum_with_error(cotangents, derivative[0], program, version.eps)
            for version, derivative in zip(versions, derivatives, strict=True)
            if derivative is not None
        ]
        if len(sums) < len(versions):
            continue
        (slope, error, size), (native_slope, native_error, _) = sums[0], sums[-1]
        agrees = len(sums) == 1 or program.half or bool(np.all(np.abs(native_slope - slope) <= native_error + rtol * size))
        slopes.append((claim, slope if agrees else np.full_like(slope, np.inf), error))
    return slopes


def _sum_with_error(cotangents: F64, derivative: F64, program: Program, eps: float) -> tuple[F64, F64, F64]:
    """Contract a directional derivative (M,) with cotangents (C, M).

    Returns:
        The sums, their rounding errors, and the sums of the magnitudes, (C,).
    """
    terms = cotangents * derivative
    size = np.sum(np.abs(terms), axis=1)
    error = eps * (CLAIM_ROUNDING_ULPS * size + CANCELLATION_ULPS * find_output_sizes(program, cotangents))
    return np.sum(terms, axis=1), error, size


def find_largest(values: F64) -> F64:
    """Return the largest size in each row of (C, n), without a copy."""
    return np.asarray(np.maximum(np.max(values, axis=1), -np.min(values, axis=1)))


def find_peak(values: F64) -> int:
    """Return the column of (C, n) with the number of largest size."""
    high, low = int(np.argmax(values)), int(np.argmin(values))
    peak = high if values.flat[high] >= -values.flat[low] else low
    return int(peak % values.shape[1])

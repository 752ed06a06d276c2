"""The claims of a whole input along one combination of the outputs: the gradient, and slopes in forward mode."""

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
    """The claimed gradient of one combination of the outputs, and facts about each leaf, (L,).

    Attributes:
        values: the gradient in the precision of the evaluation, (N,).
        twin_error: the largest error of the claim in its own precision, relative to the entry and a typical one.
        entry_error: the largest error of the claim in its own precision, relative to the entry alone; infinite if it is not
            zero where the twin is. Zero if not every entry counts.
        agrees: whether the claim in its own precision agrees with the gradient to within `rtol`.
        is_lost: whether the gradient is lost in the last bits of the outputs in both precisions.
    """

    values: F64
    twin_error: F64
    entry_error: F64
    agrees: NDArray[np.bool_]
    is_lost: NDArray[np.bool_]


def evaluate_whole_gradient(
    claim: Claim,
    twin: Claim | None,
    program: Program,
    cotangent: F64,
    leaves: list[Leaf],
    rtol: float,
    recorder: Recorder,
    *,
    every_entry_counts: bool,
) -> LeafGradients | None:
    """Evaluate the claimed gradient in its own precision and in that of the evaluation; None if it is not available.

    Args:
        claim: the claim.
        twin: the claim in the precision of the evaluation; None if its own is as high.
        program: what is checked.
        cotangent: the combination of the outputs, (M,).
        leaves: the leaves that are not empty.
        rtol: relative error up to which both precisions agree.
        recorder: takes a note if the claim is not available.
        every_entry_counts: compare the two precisions relative to each entry too, which takes another pass over the gradient.
    """
    twin_values: F64 | None = None
    native_values: F64 | None = None
    with claimed_jacobians.noting_unavailable(claim, recorder):
        if twin is not None:
            twin_values = _evaluate_row(twin, program, cotangent)
        native_values = _evaluate_row(claim, program, cotangent)
    if native_values is None:
        return None
    no_error, all_agree = np.zeros(len(leaves)), np.ones(len(leaves), dtype=bool)
    is_lost = _find_lost_leaves(native_values, claim.eps, program, cotangent, leaves)
    if twin is None or twin_values is None:
        return LeafGradients(native_values, no_error, no_error, all_agree, is_lost)
    is_lost &= _find_lost_leaves(twin_values, twin.eps, program, cotangent, leaves)
    pairs = [(native_values[leaf.span], twin_values[leaf.span]) for leaf in leaves]
    twin_error, nonzero_error = np.transpose([_compare_with_twin(*pair) for pair in pairs])
    entry_error = no_error
    if program.half:  # its accuracy is judged apart
        twin_error = no_error
    elif every_entry_counts:
        entry_error = np.array([_largest_entry_error(*pair) for pair in pairs])
    return LeafGradients(twin_values, twin_error, entry_error, nonzero_error <= rtol, is_lost)


def _evaluate_row(claim: Claim, program: Program, cotangent: F64) -> F64:
    row: F64 = claimed_jacobians.evaluate_rows(claim, program.point, cotangent[None])[0]
    if row.size > LONG_INPUT:
        release_memory.release_unused()
    return row


def _find_lost_leaves(gradient: F64, eps: float, program: Program, cotangent: F64, leaves: list[Leaf]) -> NDArray[np.bool_]:
    """Mark the leaves whose gradient is lost in the last bits of the outputs.

    If these bits would hide an entry that the self-test plants in a zero gradient, only a gradient that is zero counts.
    """
    output_size = float(np.max(np.abs(cotangent * program.value), initial=0.0))
    hides_faults = MAX_UNSEEN_ULPS * eps >= fault_injection.ZERO_FAULT_SIZE
    lost_size = 0.0 if hides_faults else MAX_UNSEEN_ULPS * eps * output_size
    sizes = [abs(gradient[leaf.start + find_peak(gradient[leaf.span])]) for leaf in leaves]
    scales = [directions.compute_leaf_scale(program.point[leaf.span]) for leaf in leaves]
    return np.array([size * scale <= lost_size for size, scale in zip(sizes, scales, strict=True)])


def _compare_with_twin(native: F64, twin: F64) -> tuple[float, float]:
    """Return the largest difference of a claim from its twin, relative to the entry and a typical one.

    Returns:
        The largest, with the typical size among all entries and among those that are not zero.
    """
    typical, error, nonzero_error = directions.compute_leaf_scale(twin), 0.0, 0.0
    nonzero_typical = typical * math.sqrt(twin.size / max(1.0, float(np.count_nonzero(twin))))
    for piece in directions.split_for_cache(twin.size):
        with np.errstate(all="ignore"):
            size = np.abs(twin[piece])
            difference = np.abs(native[piece] - twin[piece])
            error = max(error, float(np.max(difference / (size + typical))))
            nonzero_error = max(nonzero_error, float(np.max(difference / (size + nonzero_typical))))
        if not error <= 1:  # also if it is NaN
            return math.inf, math.inf
    return error, nonzero_error


def _largest_entry_error(native: F64, twin: F64) -> float:
    """Return the largest difference of a claim from its twin relative to the entry; infinite over a zero, NaN if it is NaN."""
    error = 0.0
    for piece in directions.split_for_cache(twin.size):
        with np.errstate(all="ignore"):
            difference = np.abs(native[piece] - twin[piece])
            ratio = np.where(difference == 0, 0.0, difference / np.abs(twin[piece]))
        error = float(np.maximum(error, np.max(ratio, initial=0.0)))  # a NaN stays one
    return error


def evaluate_forward_claims(
    program: Program, tangent: F64, cotangent: F64, rtol: float, recorder: Recorder
) -> list[tuple[Claim, float, float]]:
    """Evaluate each claim in forward mode along a tangent: its slope and the slope's error.

    The slope is infinite if the claim disagrees with its twin.
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
            _sum_with_error(cotangent, derivative[0], program, version.eps)
            for version, derivative in zip(versions, derivatives, strict=True)
            if derivative is not None
        ]
        if len(sums) < len(versions):
            continue
        (slope, error, size), (native_slope, native_error, _) = sums[0], sums[-1]
        agrees = len(sums) == 1 or program.half or abs(native_slope - slope) <= native_error + rtol * size
        slopes.append((claim, slope if agrees else math.inf, error))
    return slopes


def _sum_with_error(cotangent: F64, derivative: F64, program: Program, eps: float) -> tuple[float, float, float]:
    """Contract a directional derivative (M,) with a cotangent: the sum, its rounding error, and the sum of the magnitudes."""
    terms = cotangent * derivative
    size = float(np.sum(np.abs(terms)))
    largest_output = float(np.max(np.abs(cotangent * program.value), initial=0.0))
    return float(np.sum(terms)), eps * (CLAIM_ROUNDING_ULPS * size + CANCELLATION_ULPS * largest_output), size


def find_peak(values: F64) -> int:
    """Return the position of the number of largest size."""
    high, low = int(np.argmax(values)), int(np.argmin(values))
    return high if values[high] >= -values[low] else low

"""Conditioning: how far a claim's derivatives move when the inputs move by their own rounding."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.backends.program import Claim, Program
from gradcheck.compare.claimed_jacobians import MAX_OVER_RMS, Jacobian, evaluate_rows
from gradcheck.evidence.line import F64
from gradcheck.number_format import FLOAT64
from gradcheck.seeds import make_generator
from gradcheck.verdict.interval import CLAIM_ROUNDING_ULPS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

# Conditioning is measured at this many points, each with all inputs moved by their rounding. `reports/false_alarms.md` shows
# which of PyTorch's operators do not pass with this and the other bounds of rounding.
CONDITIONING_POINTS = 6
# Whole numbers among the inputs are not labels if moving them by their rounding changes the outputs by at most this many units
# in the last place of the largest output.
MAX_OUTPUT_CHANGE_ULPS = 64.0
# Whole numbers larger than this are hardly labels, since floats of many inputs are whole.
LARGEST_LABEL = 2.0**10


def with_conditioning(jacobian: Jacobian, program: Program, cotangents: F64) -> Jacobian:
    """Add to a claim's error how far it moves when the inputs move by one unit in the last place: its conditioning.

    Whole numbers stay as they are, since they may be labels that the code compares with. A jitter at which the claim raises
    or is not finite is skipped. In lower precision rounding is so coarse that all jitters may repeat it: there an entry
    counts as moving by no less than is usual in its leaf.
    """
    if jacobian.claim is None:
        return jacobian
    return replace(jacobian, error=jacobian.error + CLAIM_ROUNDING_ULPS * measure_movement(jacobian, program, cotangents))


def measure_shift(function: Callable[[F64], F64], value: F64, points: Iterable[F64]) -> F64:
    """Measure how far each number of a function is from its value at the primal, at most, over points near the primal.

    A point where the function raises, or has another shape, counts for nothing, and so do numbers that are not finite.
    """
    shift = np.zeros(value.shape)
    for point in points:
        try:
            moved = function(point)
        except Exception:
            continue
        if moved.shape == value.shape:
            with np.errstate(all="ignore"):
                shift = np.fmax(shift, np.where(np.isfinite(moved), np.abs(moved - value), 0.0))
    return shift


def jitter_points(
    point: F64, eps: float, name: str, count: int = CONDITIONING_POINTS, *, move_whole_numbers: bool = False
) -> Iterator[F64]:
    """Yield points (N,) whose entries are moved by one unit in the last place each.

    Args:
        point: the primal, (N,).
        eps: relative spacing of floats in the dtype of the inputs or of the claim.
        name: of the random stream.
        count: how many points.
        move_whole_numbers: move small whole numbers too; otherwise they stay, as they may be labels.
    """
    for k in range(count):
        signs = make_generator(0, "jitter", name, k).choice([-1.0, 1.0], point.shape)
        signs[(point == np.round(point)) & (np.abs(point) < LARGEST_LABEL) & (not move_whole_numbers)] = 0.0
        yield point * (1 + eps * signs)


def measure_full_conditioning(jacobian: Jacobian, program: Program, cotangents: F64) -> F64:
    """Measure how far a claim moves when whole numbers among the inputs move too, (C, N).

    A jitter counts only if the function hardly changes there, since whole numbers are then no labels.
    """
    claim = jacobian.claim
    assert claim is not None
    allowed = MAX_OUTPUT_CHANGE_ULPS * jacobian.eps * np.max(np.abs(program.value))

    def evaluate(point: F64) -> F64:
        is_unchanged = np.all(np.abs(program.evaluate(point) - program.value) <= allowed)
        return evaluate_rows(claim, point, cotangents) if is_unchanged else np.full(jacobian.values.shape, np.nan)

    points = jitter_points(program.point, jacobian.eps, jacobian.method, move_whole_numbers=True)
    return measure_shift(evaluate, jacobian.values, points)


def measure_movement(jacobian: Jacobian, program: Program, cotangents: F64) -> F64:
    """Measure how far a claim's derivatives move when the inputs move by one unit in the last place of its `eps`, (C, N)."""
    claim = jacobian.claim
    assert claim is not None
    return jacobian.conditioning.measure_once(lambda: _jitter(jacobian, claim, program, cotangents), jacobian.eps)


def _jitter(jacobian: Jacobian, claim: Claim, program: Program, cotangents: F64) -> F64:
    points = jitter_points(program.point, jacobian.eps, jacobian.method)
    movement = measure_shift(lambda point: evaluate_rows(claim, point, cotangents), jacobian.values, points)
    if jacobian.eps > FLOAT64.eps:
        for leaf in program.leaves:
            usual = MAX_OVER_RMS * np.sqrt(np.mean(movement[:, leaf.span] ** 2, axis=1, keepdims=True))
            movement[:, leaf.span] = np.maximum(movement[:, leaf.span], usual / CLAIM_ROUNDING_ULPS)
    return movement

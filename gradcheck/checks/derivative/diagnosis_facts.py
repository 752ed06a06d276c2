"""From a FAIL to its likely cause: the claim, and repairs of it, compared with the same estimates."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.compare.judge import judge_lines
from gradcheck.results import Comparison, Reason, Verdict
from gradcheck.verdict.diagnose import Facts, diagnose
from gradcheck.verdict.interval import Code

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from gradcheck.backends.flat import Leaf
    from gradcheck.compare.claimed_jacobians import Jacobian
    from gradcheck.compare.estimates import LineEstimates
    from gradcheck.compare.judge import ClaimAlongLines
    from gradcheck.compare.trial import MeasuredTrial
    from gradcheck.evidence.line import F64

# In a fit every estimate counts as off by at least this relative error, so that no exact one outweighs all others.
MIN_FIT_ERROR = 1e-13


def diagnose_failure(
    trial: MeasuredTrial,
    row: Comparison,
    estimates: LineEstimates,
    jacobian: Jacobian,
    along_lines: Callable[[F64], ClaimAlongLines],
    *,
    true: F64 | None = None,
    wrong: NDArray[np.bool_] | None = None,
) -> Comparison:
    """Add a diagnosis to a FAIL; none where the evidence has no say, as at kinks or in the claim's own precision.

    Args:
        trial: what is checked.
        row: a row of the table.
        estimates: the estimates that the claim disagrees with.
        jacobian: that of the claim.
        along_lines: gives derivatives (C, n) with respect to the leaf along the lines of the estimates.
        true: the estimated partial derivatives, (C, n), if every one was estimated.
        wrong: those of them that the claim misses, (C, n).
    """
    claim = jacobian.values[:, estimates.leaf.span]
    if row.verdict is not Verdict.FAIL or row.reason is not Reason.DISAGREES or not np.all(np.isfinite(claim)):
        return row
    usable = np.isfinite(estimates.bound) & np.isfinite(estimates.value) & np.isnan(estimates.low)
    if not np.any(usable):
        return row

    def passes(candidate: F64) -> bool:
        judged = judge_lines(estimates, along_lines(candidate), row.rtol, demanded=False)
        undisputed = not np.any(judged.code == Code.FAIL) and not np.any(judged.doubtful)
        return undisputed and bool(np.any(judged.code == Code.PASS))

    if passes(claim):  # only the claim in its own precision is wrong
        return row

    def fit(candidate: F64, offset: F64) -> tuple[float, int]:
        """Fit a factor of the candidate to the estimates by least squares, each weighted by its error."""
        slopes, offset_slopes = along_lines(candidate).value, along_lines(offset).value
        counted = usable & (slopes != 0)
        error = estimates.bound + MIN_FIT_ERROR * np.abs(estimates.value) + np.finfo(np.float64).tiny
        weight = np.where(counted, 1 / np.where(counted, error, 1.0) ** 2, 0.0)
        norm = float(np.sum(weight * slopes**2))
        remainder = np.where(counted, estimates.value - offset_slopes, 0.0)
        return (float(np.sum(weight * slopes * remainder)) / norm if norm > 0 else 0.0), int(np.sum(counted))

    leaf = estimates.leaf
    with np.errstate(all="ignore"):
        description = diagnose(
            Facts(
                claim=claim,
                x=trial.program.point[leaf.span],
                shape=leaf.shape,
                width=leaf.width,
                size_names=_name_sizes(trial),
                passes=passes,
                fit=fit,
                conjugate_claim=lambda: _evaluate_conjugate_claim(trial, jacobian, leaf),
                attached_claim=lambda: _evaluate_attached_claim(trial, jacobian, leaf),
                true=true,
                wrong=wrong,
                ranks=trial.program.ranks,
            )
        )
    return replace(row, diagnosis=f"{description.diagnosis.code}: {description.sentence}")


def _evaluate_conjugate_claim(trial: MeasuredTrial, jacobian: Jacobian, leaf: Leaf) -> F64 | None:
    """Evaluate the claim for the conjugate cotangents; None if the outputs are real or the claim has no working vjp."""
    outputs, channels = trial.program.outputs, trial.setting.channels
    if jacobian.claim is None or jacobian.claim.vjp is None or all(output.width == 1 for output in outputs):
        return None
    signs = np.concatenate([np.tile([1.0, -1.0] if output.width == 2 else [1.0], output.entries) for output in outputs])
    cotangents = signs * (np.eye(signs.size) if channels is None else channels)
    try:
        return jacobian.claim.vjp(trial.program.point, cotangents)[:, leaf.span]
    except Exception:
        return None


def _evaluate_attached_claim(trial: MeasuredTrial, jacobian: Jacobian, leaf: Leaf) -> tuple[F64, tuple[str, ...]] | None:
    """Evaluate the claim as if nothing in the function were detached; None if the claim does not come from such a function."""
    if jacobian.claim is None or jacobian.claim.attached is None:
        return None
    channels = trial.setting.channels
    try:
        values, lines = jacobian.claim.attached(
            trial.program.point, np.eye(trial.program.value.size) if channels is None else channels
        )
    except Exception:
        return None
    return values[:, leaf.span], lines


def _name_sizes(trial: MeasuredTrial) -> dict[int, str]:
    """Say for each size among the arrays of the call what it is the size of."""
    names: dict[int, str] = {}
    for path, shape in trial.program.shapes:
        for size in dict.fromkeys(shape):
            axes = " or ".join(str(axis) for axis, n in enumerate(shape) if n == size)
            names.setdefault(size, f"the size of {path} along axis {axes}" if len(shape) > 1 else f"the size of {path}")
    for path, shape in trial.program.shapes:
        names.setdefault(int(np.prod(shape)), f"the number of entries of {path}")
    return names

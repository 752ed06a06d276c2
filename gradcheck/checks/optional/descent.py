"""Check `descent`: the change of the value in a step of an optimiser, as the gradient predicts it and as measured.

For gradient descent, dθ = -η ∇f, the predicted change is -η ‖∇f‖²; for another optimiser it is ⟨∇f, dθ⟩. As the learning rate
η falls, the ratio of measured and predicted change must tend to 1. The table shows one row per decade, and the conclusion the
learning rate up to which the value really falls.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.compare import directional
from gradcheck.evidence import directions
from gradcheck.results import CheckTable, Reason, Row, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradcheck.backends.program import Claim
    from gradcheck.compare.directional import JudgedDirection
    from gradcheck.compare.trial import MeasuredTrial
    from gradcheck.evidence.line import F64

    # This takes a learning rate and returns the displacement, (N,).
    Step = Callable[[float], F64]
    # This takes a learning rate and returns the measured change of the value.
    Change = Callable[[float], float]

COLUMNS = ("learning rate", "predicted", "measured", "ratio")
# The table has at least this many rows.
MIN_ROWS = 9
# Rows are added until the ratio comes near 1, up to this many.
MAX_ROWS = 24
# A change of at most this many times the noise shows no ratio.
MIN_CHANGE_TO_NOISE = 100.0
# A step at a tenth of the learning rate, relative to that at the whole learning rate, has a length within these bounds. It is
# about 0.1 if the step is proportional to the learning rate to first order.
TENTH = (0.05, 0.2)
# The largest learning rate at which the value falls is found by this many bisection steps.
BISECTIONS = 40
# The search for a falling value starts at the natural learning rate, which is halved this often.
SEARCH_HALVINGS = 80
# A ratio that is further than this from 1 does not yet tend to it.
NEAR = 0.1
# No learning rate larger than this is tried, relative to the natural one.
LARGEST = 2.0**20
# A change between two almost equal learning rates is a jump if it is larger than this, relative to the largest fall.
JUMP = 1e-3


def check_descent(trial: MeasuredTrial, claim: Claim) -> CheckTable:
    """Take optimiser steps of every size and compare the predicted change with the measured one.

    Raises:
        Unavailable: if the claim cannot be evaluated.
    """
    program = trial.program
    if program.value.size != 1:
        shapes = ", ".join(f"{leaf.path} of shape {leaf.shape}" for leaf in program.outputs)
        return _without_rows(trial, claim.method, Reason.NOT_SCALAR, f"{Reason.NOT_SCALAR.message}: {shapes}")
    cotangents = np.ones((1, 1))
    jacobian = directional.evaluate_gradient(trial, claim, cotangents)
    gradient = jacobian.values[0]
    if not np.all(np.isfinite(gradient)):
        conclusion = "the gradient is not finite: there is no step to take"
        return _without_rows(trial, claim.method, Reason.CLAIM_NOT_FINITE, conclusion)
    if not np.any(gradient):
        conclusion = "the gradient is exactly zero: gradient descent does not move from here"
        return _without_rows(trial, claim.method, Reason.BOTH_ZERO, conclusion, Verdict.PASS)
    natural_rate = _natural_learning_rate(trial, gradient)
    step = _make_step(trial, gradient)
    problem = _check_first_order(trial, claim.method, step, natural_rate)
    if problem is not None:
        return problem
    small = step(natural_rate * 10.0 ** -(MIN_ROWS // 2))
    size = float(np.linalg.norm(small))
    # The tangent is as large as the inputs: the steps of the ladder are relative to it.
    tangent = small * (np.linalg.norm(_entry_scales(trial)) / size)
    comparison = directional.compare_along(trial, claim, jacobian, cotangents, tangent)
    return _make_table(trial, claim.method, comparison, gradient, step, natural_rate)


def _without_rows(
    trial: MeasuredTrial, method: str, reason: Reason, conclusion: str, verdict: Verdict = Verdict.INCONCLUSIVE
) -> CheckTable:
    return CheckTable("descent", method, verdict, reason, conclusion, trial=trial.number)


def _entry_scales(trial: MeasuredTrial) -> F64:
    """Return the scale of each input number, (N,)."""
    return np.concatenate([directions.compute_entry_scales(trial.program.point[leaf.span]) for leaf in trial.program.leaves])


def _natural_learning_rate(trial: MeasuredTrial, gradient: F64) -> float:
    """Return the power of ten nearest to the learning rate at which gradient descent moves the inputs by their own size."""
    with np.errstate(all="ignore"):
        scales = _entry_scales(trial)
        large, steep = np.max(scales), np.max(np.abs(gradient))  # divided out so that no square leaves the range
        power = math.log10(large / steep * np.linalg.norm(scales / large) / np.linalg.norm(gradient / steep))
    return float(10.0 ** np.clip(round(power), -300, 300))


def _make_step(trial: MeasuredTrial, gradient: F64) -> Step:
    """Return the function from a learning rate to the displacement."""
    optimizer, program = trial.options.optimizer, trial.program
    if optimizer is None:
        return lambda rate: -rate * gradient
    assert program.capabilities.optimizer_step is not None
    take_step = program.capabilities.optimizer_step
    return lambda rate: take_step(optimizer, program.point, gradient, rate) - program.point


def _check_first_order(trial: MeasuredTrial, method: str, step: Step, natural_rate: float) -> CheckTable | None:
    """Return a table with the problem if an optimiser's step is not proportional to the learning rate; None if it is."""
    if trial.options.optimizer is None:
        return None
    rate = natural_rate * 10.0 ** -(MIN_ROWS // 2)
    whole, tenth = step(rate), step(rate / 10)
    if not (np.all(np.isfinite(whole)) and np.all(np.isfinite(tenth))):
        conclusion = f"the optimiser's step is not finite at a learning rate of {rate:.0e}"
        return _without_rows(trial, method, Reason.NO_FIRST_ORDER, conclusion)
    if not np.any(whole):
        return _without_rows(trial, method, Reason.NO_FIRST_ORDER, "the optimiser leaves the parameters where they are")
    if not TENTH[0] <= np.linalg.norm(tenth) / np.linalg.norm(whole) <= TENTH[1]:
        return _without_rows(trial, method, Reason.NO_FIRST_ORDER, Reason.NO_FIRST_ORDER.message, Verdict.FAIL)
    return None


def _make_table(
    trial: MeasuredTrial, method: str, comparison: JudgedDirection, gradient: F64, step: Step, natural_rate: float
) -> CheckTable:
    """Tabulate predicted and measured changes, one row per decade of the learning rate."""
    measure = _make_measure(trial)
    rows: list[Row] = []
    for decade in range(MAX_ROWS):
        if decade >= MIN_ROWS and not _is_too_large(comparison, rows[-1]):
            break
        rate = natural_rate * 10.0**-decade
        displacement = step(rate)  # called once, since an optimiser may keep a state
        predicted, change = float(gradient @ displacement), measure(displacement)
        is_clear = abs(change) > MIN_CHANGE_TO_NOISE * comparison.noise
        remark = "not finite" if not math.isfinite(change) else "rounding" if not is_clear else "rises" if change > 0 else ""
        ratio = change / predicted if is_clear and predicted else math.nan
        rows.append(Row(f"{rate:.0e}", (predicted, change, ratio), remark))
    verdict, reason, conclusion = _judge(comparison, rows)
    if verdict is Verdict.PASS:
        conclusion += "; " + _describe_range(lambda rate: measure(step(rate)), natural_rate, comparison.noise)
    return CheckTable("descent", method, verdict, reason, conclusion, COLUMNS, tuple(rows), trial=trial.number)


def _is_too_large(comparison: JudgedDirection, last: Row) -> bool:
    """Whether the last learning rate was still too large for the ratio to come near 1."""
    return comparison.verdict is Verdict.PASS and last.remark != "rounding" and not abs(last.values[2] - 1) <= NEAR


def _make_measure(trial: MeasuredTrial) -> Callable[[F64], float]:
    """Return the function from a displacement (N,) to the change of the value."""
    program = trial.program

    def change(displacement: F64) -> float:
        with np.errstate(all="ignore"):
            return float((trial.evaluator(program.point + displacement) - program.value)[0])

    return change


def _judge(comparison: JudgedDirection, rows: list[Row]) -> tuple[Verdict, Reason, str]:
    """Return verdict, reason and conclusion: the evidence along the step decides, the rows illustrate it."""
    if comparison.verdict is Verdict.FAIL:
        ratio = comparison.estimate / comparison.claimed if comparison.claimed else math.inf
        conclusion = f"the gradient predicts another change: the slope along the step is {ratio:.6g} times the claimed slope"
        return comparison.verdict, comparison.reason, conclusion
    if comparison.verdict is Verdict.INCONCLUSIVE:
        return comparison.verdict, comparison.reason, comparison.reason.message
    if comparison.claimed == 0:
        conclusion = "the step is perpendicular to the gradient: to first order it changes nothing"
        return Verdict.INCONCLUSIVE, Reason.NO_FIRST_ORDER, conclusion
    if comparison.claimed > 0:
        return Verdict.FAIL, Reason.UPHILL, Reason.UPHILL.message
    ratios = [(row.label, row.values[2]) for row in rows if math.isfinite(row.values[2])]
    label, ratio = min(ratios, key=lambda pair: abs(pair[1] - 1), default=("", math.nan))
    if not ratios:
        conclusion = "every change is hidden by the rounding"
    elif abs(ratio - 1) > NEAR:
        conclusion = f"the slope along the step is as predicted; no learning rate is small enough for the ratio: {ratio:.4g}"
    else:
        conclusion = f"the ratio tends to 1 ({ratio:.6f} at {label})"
    return comparison.verdict, comparison.reason, conclusion


def _describe_range(measure: Change, natural_rate: float, noise: float) -> str:
    """Describe the learning rates at which the value falls; their limit is found by doubling and then by bisection."""
    candidates = (natural_rate * 2.0**-k for k in range(SEARCH_HALVINGS, -1, -1))
    low = next((rate for rate in candidates if measure(rate) < -MIN_CHANGE_TO_NOISE * noise), None)
    if low is None:
        return "at no learning rate tried does the value fall by more than the rounding"
    high, largest_fall = low, 0.0
    while (change := measure(high)) < 0 and high < LARGEST * natural_rate:
        low, high, largest_fall = high, 2 * high, max(largest_fall, -change)
    if change < 0:
        return f"it falls at every learning rate tried, up to {high:.1e}"
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if measure(middle) < 0 else (low, middle)
    below, above = measure(low), measure(high)
    if not math.isfinite(above):
        return f"the value falls for learning rates up to {low:.4g}, beyond which it is not finite"
    has_jump = above - below > max(JUMP * largest_fall, MIN_CHANGE_TO_NOISE * noise)
    tail = f", where it jumps by {above - below:.3g}" if has_jump else ""
    return f"the value falls for learning rates up to {low:.4g}{tail}"

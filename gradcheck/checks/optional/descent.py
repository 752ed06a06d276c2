"""What a step of an optimiser does to the value: the change that the gradient predicts against the change measured.

For gradient descent, dθ = -η ∇f, the predicted change is -η ‖∇f‖²; for another optimiser it is ⟨∇f, dθ⟩. As the learning rate
η falls their ratio must tend to 1. The table shows a row a decade, and the learning rate up to which the value really falls.
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
    from gradcheck.compare.directional import Directional
    from gradcheck.compare.trial import Bench
    from gradcheck.evidence.line import F64

    Step = Callable[[float], F64]
    Change = Callable[[float], float]

COLUMNS = ("learning rate", "predicted", "measured", "ratio")
DECADES = 9  # shown at least
MOST = 24
CLEAR = 100.0  # times the noise: a change smaller than that tells no ratio
TENTH = (0.05, 0.2)  # a step at a tenth of the learning rate is about a tenth as long, if the optimiser has a first order
HALVINGS = 40
NEAR = 0.1  # of 1: a ratio further off does not yet tend to it
LARGEST = 2.0**20  # times the learning rate that moves the parameters by their own size
JUMPS = 1e-3  # of the largest fall: what is left between two learning rates that are all but equal is a jump


def examine(bench: Bench, claim: Claim) -> CheckTable:
    """Take steps of every size.

    Raises:
        Unavailable: where the claim cannot be had.
    """
    program = bench.program
    if program.value.size != 1:
        shapes = ", ".join(f"{leaf.path} of shape {leaf.shape}" for leaf in program.outputs)
        return _told(bench, claim.method, Reason.NOT_SCALAR, f"{Reason.NOT_SCALAR.message}: {shapes}")
    cotangents = np.ones((1, 1))
    rows = directional.gradient(bench, claim, cotangents)
    g = rows.rows[0]
    if not np.all(np.isfinite(g)):
        return _told(bench, claim.method, Reason.CLAIM_NOT_FINITE, "the gradient is not finite: there is no step to take")
    if not np.any(g):
        words = "the gradient is exactly zero: gradient descent stands still here"
        return _told(bench, claim.method, Reason.BOTH_ZERO, words, Verdict.PASS)
    unit = _unit(bench, g)
    step = _step(bench, g)
    problem = _without_first_order(bench, claim.method, step, unit)
    if problem is not None:
        return problem
    small = step(unit * 10.0 ** -(DECADES // 2))
    size = float(np.linalg.norm(small))
    u = small * (np.linalg.norm(_scales(bench)) / size)  # the ladder's unit is a displacement of the inputs' own size
    found = directional.along(bench, claim, rows, cotangents, u)
    return _table(bench, claim.method, found, g, step, unit)


def _told(bench: Bench, method: str, reason: Reason, words: str, verdict: Verdict = Verdict.INCONCLUSIVE) -> CheckTable:
    return CheckTable("descent", method, verdict, reason, words, trial=bench.trial)


def _scales(bench: Bench) -> F64:
    return np.concatenate([directions.scales_of(bench.program.point[leaf.span]) for leaf in bench.program.leaves])


def _unit(bench: Bench, g: F64) -> float:
    """The power of ten next to the learning rate at which gradient descent moves the inputs by their own size."""
    with np.errstate(all="ignore"):
        scales = _scales(bench)
        large, steep = np.max(scales), np.max(np.abs(g))  # taken out, so that no square leaves the range
        power = math.log10(large / steep * np.linalg.norm(scales / large) / np.linalg.norm(g / steep))
    return float(10.0 ** np.clip(round(power), -300, 300))


def _step(bench: Bench, g: F64) -> Step:
    """From a learning rate to the displacement."""
    optimizer, program = bench.options.optimizer, bench.program
    if optimizer is None:
        return lambda rate: -rate * g
    assert program.stepped is not None
    stepped = program.stepped
    return lambda rate: stepped(optimizer, program.point, g, rate) - program.point


def _without_first_order(bench: Bench, method: str, step: Step, unit: float) -> CheckTable | None:
    """What is wrong with an optimiser whose step is no multiple of the learning rate to first order, or goes nowhere."""
    if bench.options.optimizer is None:
        return None
    rate = unit * 10.0 ** -(DECADES // 2)
    whole, tenth = step(rate), step(rate / 10)
    if not (np.all(np.isfinite(whole)) and np.all(np.isfinite(tenth))):
        return _told(
            bench, method, Reason.NO_FIRST_ORDER, f"the optimiser's step is not finite at a learning rate of {rate:.0e}"
        )
    if not np.any(whole):
        return _told(bench, method, Reason.NO_FIRST_ORDER, "the optimiser leaves the parameters where they are")
    if not TENTH[0] <= np.linalg.norm(tenth) / np.linalg.norm(whole) <= TENTH[1]:
        return _told(bench, method, Reason.NO_FIRST_ORDER, Reason.NO_FIRST_ORDER.message, Verdict.FAIL)
    return None


def _table(bench: Bench, method: str, found: Directional, g: F64, step: Step, unit: float) -> CheckTable:
    measured = _measured(bench)
    rows: list[Row] = []
    for decade in range(MOST):
        if decade >= DECADES and not _still_too_large(found, rows[-1]):
            break
        rate = unit * 10.0**-decade
        moved = step(rate)  # once: an optimiser may keep a state
        predicted, change = float(g @ moved), measured(moved)
        clear = abs(change) > CLEAR * found.noise
        remark = "not finite" if not math.isfinite(change) else "rounding" if not clear else "rises" if change > 0 else ""
        rows.append(Row(f"{rate:.0e}", (predicted, change, change / predicted if clear and predicted else math.nan), remark))
    verdict, reason, words = _judged(found, rows)
    if verdict is Verdict.PASS:
        words += "; " + _up_to(lambda rate: measured(step(rate)), unit, found.noise)
    return CheckTable("descent", method, verdict, reason, words, COLUMNS, tuple(rows), trial=bench.trial)


def _still_too_large(found: Directional, last: Row) -> bool:
    """Whether no learning rate so far was small enough for the ratio to come near 1."""
    return found.verdict is Verdict.PASS and last.remark != "rounding" and not abs(last.values[2] - 1) <= NEAR


def _measured(bench: Bench) -> Callable[[F64], float]:
    program = bench.program

    def change(moved: F64) -> float:
        with np.errstate(all="ignore"):
            return float((bench.evaluator(program.point + moved) - program.value)[0])

    return change


def _judged(found: Directional, rows: list[Row]) -> tuple[Verdict, Reason, str]:
    if found.verdict is Verdict.FAIL:
        ratio = found.estimate / found.claimed if found.claimed else math.inf
        words = f"the change is not what the gradient predicts: the slope along the step is {ratio:.6g} times the claimed"
        return found.verdict, found.reason, words
    if found.verdict is Verdict.INCONCLUSIVE:
        return found.verdict, found.reason, found.reason.message
    if found.claimed == 0:
        return Verdict.INCONCLUSIVE, Reason.NO_FIRST_ORDER, "the step is across the gradient: to first order it changes nothing"
    if found.claimed > 0:
        return Verdict.FAIL, Reason.UPHILL, Reason.UPHILL.message
    told = [(row.label, row.values[2]) for row in rows if math.isfinite(row.values[2])]
    label, ratio = min(told, key=lambda pair: abs(pair[1] - 1), default=("", math.nan))
    if not told:
        seen = "every change drowns in the rounding"
    elif abs(ratio - 1) > NEAR:
        seen = f"the slope along the step is the predicted one; no learning rate is small enough for the ratio: {ratio:.4g}"
    else:
        seen = f"the ratio tends to 1 ({ratio:.6f} at {label})"
    return found.verdict, found.reason, seen


def _up_to(measured: Change, unit: float, noise: float) -> str:
    """The learning rate up to which the value falls, found by doubling and then by bisection."""
    low = next((r for r in (unit * 2.0**-k for k in range(80, -1, -1)) if measured(r) < -CLEAR * noise), None)
    if low is None:
        return "at no learning rate tried does the value fall by more than the rounding"
    high, most = low, 0.0
    while (change := measured(high)) < 0 and high < LARGEST * unit:
        low, high, most = high, 2 * high, max(most, -change)
    if change < 0:
        return f"it falls at every learning rate tried, up to {high:.1e}"
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if measured(middle) < 0 else (low, middle)
    before, after = measured(low), measured(high)
    if not math.isfinite(after):
        return f"the value falls for learning rates up to {low:.4g}, beyond which it is not finite"
    jump = after - before > max(JUMPS * most, CLEAR * noise)
    tail = f", where it jumps by {after - before:.3g}" if jump else ""
    return f"the value falls for learning rates up to {low:.4g}{tail}"

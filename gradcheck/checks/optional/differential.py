"""Check `differential`: df = Σ (∂f/∂x_i) dx_i along random displacements of all inputs at once.

The remainder that the claim leaves, f(x + h u) - f(x) - h df, must shrink with the square of the step. Its odd form,
f(x + h u) - f(x - h u) - 2 h df, must shrink with the cube. This is the Taylor test.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.compare import directional
from gradcheck.glossary.verdicts import SEVERITY
from gradcheck.results import CheckTable, Reason, Row, Verdict

if TYPE_CHECKING:
    from gradcheck.backends.program import Claim
    from gradcheck.compare.directional import JudgedDirection
    from gradcheck.compare.trial import MeasuredTrial

# This many random displacements are tried.
DISPLACEMENTS = 3
# The steps are 1e-1 to 1e-8 of the inputs' size.
DECADES = range(1, 9)
COLUMNS = ("step", "remainder", "order", "odd remainder", "order")
# A remainder of at most this many times the noise shows no order.
MIN_REMAINDER_TO_NOISE = 3.0
# A smaller order counts as 1: the remainder is then proportional to the step.
LINEAR_ORDER = 1.5
ROUNDING = "rounding"


def check_differential(trial: MeasuredTrial, claim: Claim) -> CheckTable:
    """Compare the claim with the changes along some displacements; return the table of the worst.

    Raises:
        Unavailable: if the claim cannot be evaluated.
    """
    cotangents = directional.choose_cotangent(trial)
    jacobian = directional.evaluate_gradient(trial, claim, cotangents)
    tables = []
    for k in range(DISPLACEMENTS):
        tangent = directional.draw_tangent(trial, "displacement", k)
        comparison = directional.compare_along(trial, claim, jacobian, cotangents, tangent)
        tables.append(_make_table(trial, claim.method, comparison))
    return min(tables, key=lambda table: SEVERITY.index(table.verdict))


def _make_table(trial: MeasuredTrial, method: str, comparison: JudgedDirection) -> CheckTable:
    """Tabulate the remainders, one row per decade of the step."""
    rows, previous = [], (math.nan, math.nan)
    for decade in DECADES:
        h = 10.0**-decade
        with np.errstate(all="ignore"):
            forth, back = comparison.change(h), comparison.change(-h)
        remainders = abs(forth - h * comparison.claimed), abs(forth - back - 2 * h * comparison.claimed)
        # The error of the claim and of the evidence: a remainder of that size shows no order either.
        error = h * comparison.bound
        clear = [r > MIN_REMAINDER_TO_NOISE * comparison.noise + k * error for k, r in enumerate(remainders, 1)]
        pairs = zip(previous, remainders, clear, strict=True)
        orders = [math.log10(before / r) if is_clear and before > 0 else math.nan for before, r, is_clear in pairs]
        values = (remainders[0], orders[0], remainders[1], orders[1])
        rows.append(Row(f"1e-{decade}", values, "" if clear[0] else ROUNDING))
        previous = remainders
    verdict, reason, conclusion = comparison.verdict, comparison.reason, _describe(comparison, rows)
    return CheckTable("differential", method, verdict, reason, conclusion, COLUMNS, tuple(rows), trial=trial.number)


def _describe(comparison: JudgedDirection, rows: list[Row]) -> str:
    """Say in words how fast the remainder shrinks, and what that means."""
    order, odd_order = (_finest_order([row.values[k] for row in rows]) for k in (1, 3))
    slope = "" if math.isnan(order) else f"the remainder falls with slope {order:.2f}"
    slope += f" (odd form {odd_order:.2f})" if slope and not math.isnan(odd_order) else ""
    claimed = f"df = {comparison.claimed:.6g}"
    if comparison.verdict is Verdict.PASS:
        if not slope:
            return f"{claimed}: no remainder is larger than the rounding, so the function is linear along this line"
        if order < LINEAR_ORDER:
            return f"{claimed}: {slope}, but the remainder is smaller than the error that matters"
        return f"{claimed}: {slope} until rounding hides it, so the claim is the differential"
    if comparison.verdict is Verdict.FAIL and comparison.reason is not Reason.OUTSIDE_KINK:
        remainder = abs(comparison.claimed - comparison.estimate)
        slow = f"{slope}, no faster than the step: " if order < LINEAR_ORDER else ""
        return (
            f"{slow}{remainder:.3g} times the step is left over. "
            f"The claim {comparison.claimed:.9g} is not the differential, {comparison.estimate:.9g} ± {comparison.bound:.0e}"
        )
    return f"{comparison.reason.message}{f'; {slope}' if slope else ''}"


def _finest_order(orders: list[float]) -> float:
    """Return the order that the finest clear steps show; NaN if there is none."""
    clear = [order for order in orders if not math.isnan(order)]
    return float(np.median(clear[-3:])) if clear else math.nan

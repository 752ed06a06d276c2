"""The total differential: df = Σ (∂f/∂x_i) dx_i along random displacements of all inputs at once.

What the claim leaves over, f(x + h u) - f(x) - h df, must fall with the square of the step, and its odd form,
f(x + h u) - f(x - h u) - 2 h df, with the cube: the Taylor test.
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
    from gradcheck.compare.directional import Directional
    from gradcheck.compare.trial import Bench

DISPLACEMENTS = 3
DECADES = range(1, 9)  # steps of 1e-1 to 1e-8 of the inputs' size
COLUMNS = ("step", "remainder", "order", "odd remainder", "order")
CLEAR = 3.0  # times the noise: a remainder smaller than that tells no order
FIRST = 1.5  # an order below that is 1: what is left over is as large as the step
ROUNDING = "rounding"


def examine(bench: Bench, claim: Claim) -> CheckTable:
    """Look along some displacements; the table is that of the worst.

    Raises:
        Unavailable: where the claim cannot be had.
    """
    cotangents = directional.combination(bench)
    rows = directional.gradient(bench, claim, cotangents)
    tables = []
    for k in range(DISPLACEMENTS):
        found = directional.along(bench, claim, rows, cotangents, directional.displacement(bench, "displacement", k))
        tables.append(_table(bench, claim.method, found))
    return min(tables, key=lambda t: SEVERITY.index(t.verdict))


def _table(bench: Bench, method: str, found: Directional) -> CheckTable:
    rows, before = [], (math.nan, math.nan)
    for decade in DECADES:
        h = 10.0**-decade
        with np.errstate(all="ignore"):
            forth, back = found.change(h), found.change(-h)
        now = abs(forth - h * found.claimed), abs(forth - back - 2 * h * found.claimed)
        own = h * found.bound  # the claim's and the evidence's own error: a remainder of that size tells no order either
        clear = [r > CLEAR * found.noise + k * own for k, r in enumerate(now, 1)]
        orders = [math.log10(b / r) if c and b > 0 else math.nan for b, r, c in zip(before, now, clear, strict=True)]
        rows.append(Row(f"1e-{decade}", (now[0], orders[0], now[1], orders[1]), "" if clear[0] else ROUNDING))
        before = now
    conclusion = _words(found, rows)
    return CheckTable("differential", method, found.verdict, found.reason, conclusion, COLUMNS, tuple(rows), trial=bench.trial)


def _words(found: Directional, rows: list[Row]) -> str:
    plain, odd = (_order([r.values[k] for r in rows]) for k in (1, 3))
    seen = "" if math.isnan(plain) else f"the remainder falls with slope {plain:.2f}"
    seen += f" (odd form {odd:.2f})" if seen and not math.isnan(odd) else ""
    if found.verdict is Verdict.PASS:
        if not seen:
            return (
                f"df = {found.claimed:.6g}: no remainder stands out of the rounding, so the function is linear along this line"
            )
        if plain < FIRST:
            return f"df = {found.claimed:.6g}: {seen}, but what is left over is less than the error that matters"
        return f"df = {found.claimed:.6g}: {seen} until rounding drowns it, so the claim is the differential"
    if found.verdict is Verdict.FAIL and found.reason is not Reason.OUTSIDE_KINK:
        left = abs(found.claimed - found.estimate)
        slow = f"{seen}, no faster than the step: " if plain < FIRST else ""
        return (
            f"{slow}{left:.3g} times the step is left over. "
            f"The claim {found.claimed:.9g} is not the differential, {found.estimate:.9g} ± {found.bound:.0e}"
        )
    return f"{found.reason.message}{f'; {seen}' if seen else ''}"


def _order(orders: list[float]) -> float:
    """The order that the finest clear steps show; NaN where there is none."""
    told = [p for p in orders if not math.isnan(p)]
    return float(np.median(told[-3:])) if told else math.nan

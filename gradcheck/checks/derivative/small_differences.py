"""Likely causes why a claim that passed differs from the evidence: a constant, a solver, an ill-conditioned function."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.results import Reason
from gradcheck.verdict.interval import MAX_RESOLUTION

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gradcheck.results import Comparison

# Constants of formulas that a single-precision number cannot hold, by their names. Powers of two times one lose the same share.
CONSTANTS = {
    "0.1 or 0.2": 0.1,
    "0.3 or 0.6": 0.3,
    **{f"{k:g}": k for k in (0.7, 0.9, 1.1, 1.3, 0.01, 0.02, 0.05, 0.15, 0.95, 0.99, 0.999, 1e-3, 1e-4, 1e-5, 1e-6, 1e-8)},
    **{f"{k:g}": k for k in (0.044715, 1.702)},
    "1/3 or 1/6": 1 / 3,
    "1/7": 1 / 7,
    "1/9": 1 / 9,
    "pi": math.pi,
    "1/pi": 1 / math.pi,
    "sqrt(2 pi)": math.sqrt(2 * math.pi),
    "sqrt(2)": math.sqrt(2),
    "sqrt(2/pi)": math.sqrt(2 / math.pi),
    "log(2)": math.log(2),
    "e": math.e,
}
# A constant explains a ratio if the two differ by no more than the evidence's error, and by no more than this share of the
# ratio's distance from 1.
MAX_RATIO_ERROR = 0.02
ILL_CONDITIONED_NOTE = (
    "{}: {} is {:.1g} of itself away from the derivative in float64, which moves that far when the {} inputs are rounded: the"
    " function is ill-conditioned here"
)
UNKNOWN_CAUSE = "The cause may be a constant in single precision, a solver's tolerance, or an added eps"
# Two numbers that differ are printed with this many digits after the first one that differs.
DIGITS_AFTER_FIRST = 2


def describe_small_differences(rows: Iterable[Comparison]) -> list[str]:
    """Describe, in a note for each input, a claim that passed although it differs from the evidence."""
    notes = {}
    for row in rows:
        if row.wrt in notes:
            continue
        if row.reason is Reason.SMALL_DIFFERENCE:
            notes[row.wrt] = _describe(row)
        elif row.reason is Reason.AGREES and row.against == "numeric" and row.rel_err > MAX_RESOLUTION:
            notes[row.wrt] = ILL_CONDITIONED_NOTE.format(row.wrt, row.method, row.rel_err, row.dtype)
    return list(notes.values())


def _describe(row: Comparison) -> str:
    difference = row.abs_err / max(abs(row.claimed), abs(row.estimate))  # along a direction, `rel_err` is that of the terms
    # High precision sees differences that the two numbers do not show when they are rounded to float64.
    digits = min(17, DIGITS_AFTER_FIRST - math.floor(math.log10(difference))) if difference > 0 else 17
    place = f"{row.wrt}{list(row.worst_entry)}" if row.worst_entry else row.wrt
    return (
        f"{place}: {row.method} {row.claimed:.{digits}g}, {row.against} {row.estimate:.{digits}g}. They differ by"
        f" {row.rel_err:.1e} of their terms, less than rtol {row.rtol:.0e}. {_guess_cause(row)}; --rtol 1e-9 makes this a"
        " failure"
    )


def _guess_cause(row: Comparison) -> str:
    if row.claimed == 0 or row.estimate == 0:
        return UNKNOWN_CAUSE
    ratio = row.claimed / row.estimate
    allowed = min(row.bound / abs(row.estimate), MAX_RATIO_ERROR * abs(ratio - 1))
    for name, constant in CONSTANTS.items():
        in_single_precision = float(np.float32(constant)) / constant
        if min(abs(ratio - in_single_precision), abs(1 / ratio - in_single_precision)) <= allowed:
            return f"A constant such as {name} loses that much in single precision: compute it in float64"
    return UNKNOWN_CAUSE

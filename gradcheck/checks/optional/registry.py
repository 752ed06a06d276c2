"""The optional checks, which a user requests by name.

To add one, copy `differential.py`, write a function (trial, claim) -> CheckTable, enter it in `CHECKS`, and add its name to the
names that `checks=` and `--check` accept.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from gradcheck.backends.program import Unavailable
from gradcheck.checks.optional import descent, differential, laws, sensitivity
from gradcheck.compare import directional, internal_precision
from gradcheck.errors import TargetError
from gradcheck.results import CheckTable, Reason, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gradcheck.backends.program import Claim, Program
    from gradcheck.compare.trial import MeasuredTrial
    from gradcheck.results import Comparison

CHECKS: dict[str, Callable[[MeasuredTrial, Claim], CheckTable]] = {
    "differential": differential.check_differential,
    "descent": descent.check_descent,
    "sensitivity": sensitivity.check_sensitivity,
}
# These checks rest on differences, as the evidence does.
BY_DIFFERENCES = ("differential", "descent")
# For these reasons right methods may give different derivatives.
AMBIGUOUS = (Reason.KINK_SUBGRADIENT, Reason.TIE, Reason.STRAIGHT_THROUGH)


def run_optional_checks(
    trial: MeasuredTrial, partners: Sequence[Program], compared: list[Comparison]
) -> tuple[CheckTable, ...]:
    """Run the requested checks in the order in which they were named.

    Args:
        partners: programs that the laws combine the target with.
        compared: the verdicts on the derivative. If the evidence cannot decide there, it cannot decide along one direction.
    """
    methods = _methods_in_use(compared)
    tables = [_run_check(trial, name, partners, methods) for name in dict.fromkeys(trial.options.checks)]
    undecided = _find_undecided(compared)
    return tuple(_weaken_fail(table, undecided) if undecided else table for table in tables)


def _run_check(trial: MeasuredTrial, name: str, partners: Sequence[Program], methods: frozenset[str]) -> CheckTable:
    """Run one check on the main claim; an exception ends only this check."""
    claim = directional.choose_main_claim(trial.program)
    verdict, reason, conclusion = Verdict.INCONCLUSIVE, Reason.NOTHING_CLAIMED, Reason.NOTHING_CLAIMED.message
    if claim is not None:
        try:
            return laws.check_laws(trial, claim, partners, methods) if name == "laws" else CHECKS[name](trial, claim)
        except Unavailable as error:
            conclusion = f"{claim.method}: {error}"
        except TargetError as error:  # raised by an optimiser or a partner: the other results stand
            verdict, reason, conclusion = Verdict.ERROR, Reason.TARGET_RAISED, str(error)
    return CheckTable(name, "", verdict, reason, conclusion, trial=trial.number)


def _methods_in_use(compared: Sequence[Comparison]) -> frozenset[str]:
    """Return the methods that the comparisons rest on: derived ones (tracing, complex step) may be set aside as wrong."""
    return frozenset(name for comparison in compared for name in (comparison.method, comparison.against))


def _find_undecided(compared: Sequence[Comparison]) -> Comparison | None:
    """Return the first comparison that is undecided or ambiguous; None if there is none, or if a claim is wrong."""
    if any(comparison.verdict is Verdict.FAIL for comparison in compared):
        return None
    candidates = (c for c in compared if c.verdict is Verdict.INCONCLUSIVE or c.reason in AMBIGUOUS)
    return next(candidates, None)


def _weaken_fail(table: CheckTable, undecided: Comparison) -> CheckTable:
    """Turn a FAIL into INCONCLUSIVE if it may have the cause for which the evidence could not decide."""
    by_rounding = table.check == "laws" and undecided.reason in (*internal_precision.EXPLICABLE_REASONS, *AMBIGUOUS)
    if table.verdict is not Verdict.FAIL or not (by_rounding or table.check in BY_DIFFERENCES):
        return table
    conclusion = f"nothing can be decided here: {undecided.reason.message}"
    return replace(table, verdict=Verdict.INCONCLUSIVE, reason=undecided.reason, conclusion=conclusion)

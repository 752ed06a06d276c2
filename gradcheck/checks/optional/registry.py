"""The checks that any target can have beside that of its derivative, by name."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from gradcheck.backends.program import Unavailable
from gradcheck.checks.optional import (
    descent,
    differential,
    laws,
    sensitivity,
)
from gradcheck.compare import directional, internal_precision
from gradcheck.errors import TargetError
from gradcheck.results import CheckTable, Reason, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gradcheck.backends.program import Claim, Program
    from gradcheck.compare.trial import Bench
    from gradcheck.results import Comparison

CHECKS: dict[str, Callable[[Bench, Claim], CheckTable]] = {
    "differential": differential.examine,
    "descent": descent.examine,
    "sensitivity": sensitivity.examine,
}
BY_DIFFERENCES = ("differential", "descent")
CHOICES = (Reason.KINK_SUBGRADIENT, Reason.TIE, Reason.STRAIGHT_THROUGH)


def examine(bench: Bench, partners: Sequence[Program], compared: list[Comparison]) -> tuple[CheckTable, ...]:
    """Make the checks that were asked for, in the order they were named.

    Args:
        compared: what the evidence says of the derivative. Where it cannot decide, it cannot decide along one direction either.
    """
    found = [_made(bench, name, partners, _used(compared)) for name in dict.fromkeys(bench.options.checks)]
    undecided = _undecided(compared)
    return tuple(_tempered(table, undecided) if undecided else table for table in found)


def _made(bench: Bench, name: str, partners: Sequence[Program], used: frozenset[str]) -> CheckTable:
    """One check of the chief claim; what keeps it from being made costs it alone."""
    claim = directional.chief(bench.program)
    verdict, reason, words = Verdict.INCONCLUSIVE, Reason.NOTHING_CLAIMED, Reason.NOTHING_CLAIMED.message
    if claim is not None:
        try:
            return laws.examine(bench, claim, partners, used) if name == "laws" else CHECKS[name](bench, claim)
        except Unavailable as why:
            words = f"{claim.method}: {why}"
        except TargetError as error:  # of an optimiser or a partner: what else was found out stands
            verdict, reason, words = Verdict.ERROR, Reason.TARGET_RAISED, str(error)
    return CheckTable(name, "", verdict, reason, words, trial=bench.trial)


def _used(compared: Sequence[Comparison]) -> frozenset[str]:
    """The methods that the evidence did not set aside: derived ones (tracing, the complex step) may be wrong themselves."""
    return frozenset(name for c in compared for name in (c.method, c.against))


def _undecided(compared: Sequence[Comparison]) -> Comparison | None:
    """What keeps the evidence from deciding, unless a claim is wrong: an open verdict, a choice among subgradients."""
    if any(c.verdict is Verdict.FAIL for c in compared):
        return None
    return next((c for c in compared if c.verdict is Verdict.INCONCLUSIVE or c.reason in CHOICES), None)


def _tempered(table: CheckTable, undecided: Comparison) -> CheckTable:
    """A FAIL as INCONCLUSIVE where the evidence could not decide, or each method may choose its own subgradient."""
    rounded = table.check == "laws" and undecided.reason in (*internal_precision.EXPLICABLE, *CHOICES)
    if table.verdict is not Verdict.FAIL or not (rounded or table.check in BY_DIFFERENCES):
        return table
    words = f"nothing can be decided here: {undecided.reason.message}"
    return replace(table, verdict=Verdict.INCONCLUSIVE, reason=undecided.reason, conclusion=words)

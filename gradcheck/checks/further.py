"""The checks that any target can have beside that of its derivative, by name."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from gradcheck.checks import demotion, descent, differential, laws, sensitivity
from gradcheck.results import CheckTable, Reason, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gradcheck.backends.program import Program
    from gradcheck.checks.bench import Bench
    from gradcheck.results import Comparison

CHECKS: dict[str, Callable[[Bench], list[CheckTable]]] = {
    "differential": differential.examine,
    "descent": descent.examine,
    "sensitivity": sensitivity.examine,
}


CHOSEN = (Reason.KINK_SUBGRADIENT, Reason.TIE)
BY_DIFFERENCES = ("differential", "descent")


def examine(bench: Bench, partners: Sequence[Program], compared: list[Comparison]) -> tuple[CheckTable, ...]:
    """Make the checks that were asked for, in the order they were named.

    Args:
        compared: what the evidence says of the derivative. Where it cannot decide, it cannot decide along one direction either.
    """
    found: list[CheckTable] = []
    for name in dict.fromkeys(bench.options.checks):
        found += laws.examine(bench, partners) if name == "laws" else CHECKS[name](bench)
    undecided = next((c for c in compared if c.verdict is Verdict.INCONCLUSIVE or c.reason in CHOSEN), None)
    return tuple(_tempered(table, undecided) if undecided else table for table in found)


def _tempered(table: CheckTable, undecided: Comparison) -> CheckTable:
    """A FAIL as INCONCLUSIVE where the evidence could not decide, or each method may choose its own subgradient."""
    rounded = table.check == "laws" and undecided.reason in (*demotion.EXPLICABLE, *CHOSEN)
    if table.verdict is not Verdict.FAIL or not (rounded or table.check in BY_DIFFERENCES):
        return table
    words = f"nothing can be decided here: {undecided.reason.message}"
    return replace(table, verdict=Verdict.INCONCLUSIVE, reason=undecided.reason, conclusion=words)

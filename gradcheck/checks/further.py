"""The checks that any target can have beside that of its derivative, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck.checks import descent, differential, laws, sensitivity

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gradcheck.backends.program import Program
    from gradcheck.checks.bench import Bench
    from gradcheck.results import CheckTable

CHECKS: dict[str, Callable[[Bench], list[CheckTable]]] = {
    "differential": differential.examine,
    "descent": descent.examine,
    "sensitivity": sensitivity.examine,
}


def examine(bench: Bench, partners: Sequence[Program]) -> tuple[CheckTable, ...]:
    """Make the checks that were asked for, in the order they were named."""
    found: list[CheckTable] = []
    for name in dict.fromkeys(bench.options.checks):
        found += laws.examine(bench, partners) if name == "laws" else CHECKS[name](bench)
    return tuple(found)

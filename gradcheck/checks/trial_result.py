"""The findings of the checks of one trial."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gradcheck.results import CheckTable, Comparison, Contract, Partial, Reason
    from gradcheck.targets.location import Location


@dataclass(frozen=True)
class TrialResult:
    """The findings of the checks of one trial; trials are merged into the result of a case.

    Attributes:
        comparisons: rows of the table.
        contracts: outcomes of the contracts.
        checks: tables of the optional checks.
        partials: every partial derivative by every method, for `-v`.
        notes: remarks for the report.
        branches: fingerprints of what the inputs chose in exact traces.
        details: remarks for a reader who asks for more (`-v`).
        stop: why the derivative could not be judged; None if it was.
        message: what led to `stop`.
        mode: 'full' or 'probe'.
        device: where the target computes; '' for NumPy.
        evaluations: number of evaluations of the function.
        place: where the backward that made the claim is written, if it is the user's.
    """

    comparisons: tuple[Comparison, ...] = ()
    contracts: tuple[Contract, ...] = ()
    checks: tuple[CheckTable, ...] = ()
    partials: tuple[Partial, ...] = ()
    notes: tuple[str, ...] = ()
    branches: frozenset[str] = frozenset()
    details: tuple[str, ...] = ()
    stop: Reason | None = None
    message: str = ""
    mode: str = ""
    device: str = ""
    evaluations: int = 0
    place: Location | None = None

"""The recorder of a trial: the number of evaluations, and notes for the report."""

from __future__ import annotations

from gradcheck.backends.time_budget import refuse_after_deadline

# How notes on one trial name the branch that its inputs choose; those on several trials count branches instead.
BRANCH_TAKEN = "the branch taken at these inputs"


class Recorder:
    """Counts evaluations and collects notes.

    All parts of a trial count into one recorder. A part whose notes may be dropped, or which is reported on its own, gets a
    nested recorder. That has notes of its own, and what it counts is counted by the outer one too.

    Args:
        outer: the recorder of the whole trial, for one of its parts.

    Attributes:
        evaluations: how often the function was evaluated.
        notes: remarks for the report, each once, in the order in which they were made.
        branches: fingerprints of what the inputs chose in exact traces.
    """

    def __init__(self, outer: Recorder | None = None) -> None:
        self.evaluations = 0
        self.notes: list[str] = []
        self.branches: set[str] = set()
        self._outer = outer

    def nested(self) -> Recorder:
        """Return a recorder for a part of the trial."""
        return Recorder(self)

    def count(self, evaluations: int = 1) -> None:
        """Count evaluations of the function.

        Raises:
            OverBudgetError: if the time of the trial is used up.
        """
        refuse_after_deadline()
        self.evaluations += evaluations
        if self._outer is not None:
            self._outer.count(evaluations)

    def note(self, *notes: str) -> None:
        """Add notes that were not made before."""
        self.notes += [text for text in dict.fromkeys(notes) if text not in self.notes]

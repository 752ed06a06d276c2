"""What a trial yields besides its results: the number of evaluations, and notes for the report."""

from __future__ import annotations


class Recorder:
    """Counts evaluations and collects notes; all parts of a trial share one.

    Attributes:
        evaluations: how often the function was evaluated.
        notes: remarks for the report, in the order in which they were made, without duplicates.
    """

    def __init__(self) -> None:
        self.evaluations = 0
        self.notes: list[str] = []

    def count(self, evaluations: int = 1) -> None:
        """Count evaluations of the function."""
        self.evaluations += evaluations

    def note(self, *notes: str) -> None:
        """Add the notes that were not made before."""
        self.notes += [text for text in dict.fromkeys(notes) if text not in self.notes]

"""From claims and estimates to verdicts: the interval test, and the way down to the wrong entry."""

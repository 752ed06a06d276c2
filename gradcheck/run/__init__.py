"""Plan, run and merge."""

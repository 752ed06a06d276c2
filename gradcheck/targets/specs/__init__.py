"""Input specs: what to draw for each argument."""

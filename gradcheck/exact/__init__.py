"""Derivatives decided exactly: a program's graph evaluated in prime fields at random points, with no rounding and no step."""

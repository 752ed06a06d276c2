"""Checks: one file each, from a bound target to comparisons."""

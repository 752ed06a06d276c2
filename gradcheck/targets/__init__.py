"""Targets of a check: input specs, cases, and how `module:fn` becomes them."""

"""Reference models: textbook formulas with gradients written by hand, each proved by several methods.

`gradcheck run gradcheck.reference` runs them all.
"""

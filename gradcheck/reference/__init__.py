"""Reference models: textbook formulas with hand-written gradients, each checked by several methods.

`gradcheck run gradcheck.reference` runs them all.
"""

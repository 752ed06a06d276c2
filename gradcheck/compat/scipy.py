"""SciPy's checkers, answered by gradcheck."""

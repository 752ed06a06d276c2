"""Both checkers on the calls that a suite or a script makes anyway: its own, and gradcheck.

`pytest --gradcheck-takeover` and `python -m gradcheck.takeover script.py` intercept the checkers that `gradcheck.compat` knows.
Importing this package loads no framework.
"""

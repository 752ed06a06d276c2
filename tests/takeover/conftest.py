"""A takeover of the checker in `tests/support/incumbent.py`, in this process."""

import contextlib

import incumbent_adapter
import pytest

from gradcheck.takeover.session import Takeover


@pytest.fixture
def takeover(tmp_path):
    """A context in which calls are intercepted; it yields a list that holds their records afterwards."""

    @contextlib.contextmanager
    def intercept(mode="report", budget=60.0, checkers=incumbent_adapter.CHECKERS):
        running, calls = Takeover(mode, budget, folder=tmp_path, checkers=checkers), []
        running.start()
        try:
            yield calls
        finally:
            running.stop()
            calls += running.collect().calls

    return intercept

"""The pytest plugin: the fixture `gradcheck`, the marker of the same name, and declared cases as tests.

It is registered as `gradcheck` and can be disabled by `-p no:gradcheck`. Importing it loads neither a framework nor gradcheck.
"""

from pytest_gradcheck.fixture import Gradcheck as Gradcheck
from pytest_gradcheck.outcome import InconclusiveWarning as InconclusiveWarning
from pytest_gradcheck.outcome import ReportOnlyWarning as ReportOnlyWarning

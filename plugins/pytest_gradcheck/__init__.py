"""The pytest plugin: the fixture `gradcheck`, the marker of that name, and declared cases as tests.

It is registered as `gradcheck` (`-p no:gradcheck` leaves it out), and importing it loads neither a framework nor gradcheck.
"""

from pytest_gradcheck.fixture import Gradcheck as Gradcheck
from pytest_gradcheck.outcome import InconclusiveWarning as InconclusiveWarning

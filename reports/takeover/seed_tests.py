"""A plugin of pytest that seeds the global generators before each test, so that two runs see the same inputs."""

from __future__ import annotations

import random
import sys

import numpy as np
import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Seed the generators of Python, NumPy and, if it is loaded, PyTorch."""
    random.seed(0)
    np.random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)

"""What a test of a page loads is forgotten afterwards: other tests have modules of the same names."""

import sys

import pytest


@pytest.fixture(autouse=True)
def forget_loaded_modules(monkeypatch):
    before = set(sys.modules)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield
    for name in {"cases", "example", "mine"} - before:
        sys.modules.pop(name, None)

"""A project of a user's, with pytest run inside it, in this process where nothing speaks against it."""

import functools
import sys

import hypothesis.strategies  # noqa: F401 - what is imported here is not imported anew in each run
import numpy as np
import pytest
import torch

import gradcheck

LAYERS = """
import torch
from gradcheck import case, normal

class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x
    @staticmethod
    def backward(ctx, g):
        return 2 * ctx.saved_tensors[0] * g

class Wrong(Square):
    @staticmethod
    def backward(ctx, g):
        return 3 * ctx.saved_tensors[0] * g

def right(x): return torch.sin(x).sum()
def undecided(x): return torch.log(-x.abs()).sum()
"""
NUMPY = """
import numpy as np
from gradcheck import case, normal

@case(x=normal(3), gradient=lambda x: 2 * x)
def good(x): return np.sum(x**2)

@case(x=normal(3), gradient=lambda x: 2 * x, name="right")
@case(x=normal(4), gradient=lambda x: 3 * x, name="wrong")
def both(x): return np.sum(x**2)

@case(x=normal(3), gradient=lambda x: 3 * x, expect="fail", because="the book has a misprint")
def misprint(x): return np.sum(x**2)

@case(x=normal(3), gradient=lambda x: x)
def undecided(x): return np.sum(x) + np.random.default_rng().standard_normal()
"""
WITHOUT_TORCH = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")

sys.meta_path.insert(0, Blocked())
"""
SLOW_PLUGINS = ("hypothesispytest", "jaxtyping", "pytest_cov")  # which take a second to load, in each process


@pytest.fixture(scope="session", autouse=True)
def _loaded():
    """Runs in this process forget what they import; what is imported already stays."""
    gradcheck.check(torch.sin, gradcheck.normal(3), framework="torch", exact=True)
    wrong = gradcheck.check(lambda x: np.sum(x**2), gradcheck.normal(3), gradient=lambda x: 3 * x, exact=True)
    assert "FAIL" in str(wrong)
    assert "gradcheck.verdict.entry_bisection" in sys.modules


@pytest.fixture
def project(pytester, monkeypatch):
    """Write files into a user's project whose warnings are errors; `project.run_alone` runs pytest in another process."""
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    pytester.makeini("[pytest]\nfilterwarnings =\n    error\n    default::pytest_gradcheck.InconclusiveWarning\n")
    pytester.makepyfile(layers=LAYERS, cases=NUMPY)
    pytester.syspathinsert()
    others = [word for name in SLOW_PLUGINS for word in ("-p", f"no:{name}")]
    pytester.run_alone = functools.partial(pytester.runpytest_subprocess, *others)
    pytester.block_torch = functools.partial(pytester.makeconftest, WITHOUT_TORCH)
    return pytester


@pytest.fixture
def write_tests(project):
    """Write `test_it.py`, with the imports that all of them need."""
    head = "import numpy as np, pytest, torch\nfrom gradcheck import normal\nfrom layers import *\n"

    def write(source):
        return project.makepyfile(test_it=head + source.lstrip("\n"))

    return write

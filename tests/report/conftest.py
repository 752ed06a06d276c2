"""A run in which every kind of outcome occurs, from a repository of its own."""

import contextlib

import pytest

from gradcheck.options import Options
from gradcheck.run.plan import Request, plan
from gradcheck.run.runner import run

SOURCE = '''
import numpy as np
import torch
from gradcheck import case, normal


def slope(x):
    return 3 * x


@case(x=normal(3), gradient=slope)
@case(x=normal(3), gradient=slope, expect="fail", because="a lesson", name="lesson")
@case(x=normal(3), gradient=lambda x: 2 * x, expect="fail", because="was wrong once", name="fixed")
@case(x=normal(3), gradient=lambda x: 2 * x, name="right")
def square(x):
    return np.sum(x**2)


class Wave(torch.autograd.Function):
    """A sine whose gradient is wrong in one entry."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.sin(x)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        d = torch.cos(x).clone()
        d.view(-1)[1] *= 1.5
        return g * d


class Waves(torch.nn.Module):
    def forward(self, x):
        return Wave.apply(x)


@case(x=normal(4), options={"contracts": False})
@case(x=normal(4000), name="wide", options={"mode": "probe", "contracts": False})
def wave(x):
    return Wave.apply(x) + x


@case(normal(2, 3), init={}, options={"by_layer": True, "contracts": False})
def model():
    return torch.nn.Sequential(torch.nn.Linear(3, 3), Waves())


class Cube(torch.autograd.Function):
    """A cube whose backward writes on the gradient that it is given."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g.mul_(3 * x**2)


@case(x=normal(3))
def cube(x):
    return Cube.apply(x)


@case(x=normal(3))
def raises(x):
    raise ValueError("<script>alert(1)</script> %0A::error::\\x00\\ud800 ]]>" + str(type(torch)))


@case(x=normal(3), name="<script>|`a`,b:%0A")
def logarithm(x):
    return torch.log(-torch.abs(x))


@case(x=normal(3), tolerates={"non-finite": "seen before"}, name="tolerated")
def logarithm_too(x):
    return torch.log(-torch.abs(x))


@case(x=normal(3), options={"checks": ("differential", "sensitivity")})
def sine(x):
    return torch.sin(x)
'''


@pytest.fixture(scope="session")
def repository(tmp_path_factory):
    """A folder with a .git and the targets in layers/targets.py."""
    folder = tmp_path_factory.mktemp("repository")
    (folder / ".git").mkdir()
    (folder / "layers").mkdir()
    (folder / "layers" / "targets.py").write_text(SOURCE)
    return folder


@pytest.fixture(scope="session")
def varied(repository):
    with contextlib.chdir(repository):
        cases = plan(Request(targets=["layers/targets.py"]))
        return run(cases, Options(), replay=lambda case: f"gradcheck run {case.target} --seed 0", config={"strict": False})


@pytest.fixture(scope="session")
def by_name(varied):
    """Its results, by what stands behind the colon."""
    return {result.case.partition(":")[2]: result for result in varied.results}

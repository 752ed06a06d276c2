"""Lower precision inside a function: no right gradient fails because of it, no wrong one passes, and it is named."""

import numpy as np
import pytest
import torch

import gradcheck
from gradcheck import Verdict, normal
from gradcheck.evidence import internal_rounding

SIZES = [5, 5_000]
SEEDS = range(2)


def half_done(x):
    return (torch.tanh(x.float()).double() * x).sum()


class Doubled(torch.autograd.Function):
    """`half_done` with a gradient twice as large as the right one."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return half_done(x)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 2 * g * (torch.tanh(x) + x * (1 - torch.tanh(x) ** 2))


def inputs(size, seed):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(size))


def precision_notes(result):
    return [note for note in result.notes if " inside: " in note]


@pytest.mark.parametrize("seed", SEEDS)
def test_float32_inside_is_named_and_never_called_wrong(seed):
    result = gradcheck.check(half_done, inputs(1, seed), seed=seed)
    assert result.verdict is not Verdict.FAIL, str(result)
    assert [note[:14] for note in precision_notes(result)] == ["float32 inside"]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("size", SIZES)
def test_a_wrong_gradient_fails_although_float32_is_used_inside(size, seed):
    assert gradcheck.check(Doubled, inputs(size, seed), seed=seed).verdict is Verdict.FAIL


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_inside_never_makes_a_right_gradient_wrong(dtype, size, seed):
    result = gradcheck.check(lambda x: (torch.tanh(x.to(dtype)).double() * x).sum(), inputs(size, seed), seed=seed)
    assert result.verdict is not Verdict.FAIL, str(result)


def test_half_precision_is_named():
    result = gradcheck.check(lambda x: (torch.tanh(x.bfloat16()).double() * x).sum(), inputs(50, 0))
    assert [note[:21] for note in precision_notes(result)] == ["half precision inside"]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("function", [torch.tanh, lambda x: torch.tanh(x).sum(), lambda x: x.relu(), torch.abs, torch.exp])
def test_functions_in_one_precision_have_no_such_note(function, size, dtype):
    result = gradcheck.check(function, normal(size), framework="torch", dtype=dtype)
    assert result.verdict is Verdict.PASS, str(result)
    assert not precision_notes(result)


@pytest.mark.parametrize(
    ("relative", "eps", "name"),
    [
        (2.0**-25, 2.0**-52, "float32"),
        (2.0**-9, 2.0**-52, "half precision"),
        (2.0**-9, 2.0**-23, "half precision"),
        (2.0**-25, 2.0**-23, ""),
        (2.0**-53, 2.0**-52, ""),
        (1e-5, 2.0**-52, ""),
        (0.5, 2.0**-52, ""),
        (0.0, 2.0**-52, ""),
    ],
)
def test_the_name_goes_by_the_size_of_the_noise(relative, eps, name):
    assert internal_rounding.name_precision(relative, eps) == name

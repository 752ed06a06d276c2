"""Backwards under torch.autocast."""

import pytest
import torch
from casting import RAISING, RIGHT, TWO, WRONG, Linear, corrupt_gradients, declared

import gradcheck
from gradcheck import Verdict
from gradcheck.glossary.contracts import CONTRACTS


def autocast(result):
    return next(c for c in result.contracts if c.name == "autocast")


@pytest.mark.parametrize(("dtype", "seed"), [("float64", 0), ("float32", 1)])
@pytest.mark.parametrize("name", RIGHT)
def test_a_right_layer_passes(name, dtype, seed):
    layer, inputs = RIGHT[name]
    result = gradcheck.check(layer, *inputs, dtype=dtype, seed=seed, mode="probe")
    assert result.verdict is Verdict.PASS, str(result)
    assert autocast(result).message == CONTRACTS["autocast"]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", WRONG)
def test_an_error_in_bfloat16_only_is_caught(name, dtype):
    result = gradcheck.check(corrupt_gradients(WRONG[name]), *TWO, dtype=dtype, mode="probe")
    assert all(c.verdict is Verdict.PASS for c in result.comparisons)
    assert (result.verdict, autocast(result).verdict) == (Verdict.FAIL, Verdict.FAIL), str(result)
    assert "under autocast the gradient of" in autocast(result).message


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", RAISING)
def test_a_backward_that_raises_is_remarked(name, dtype):
    layer, inputs = RAISING[name]
    result = gradcheck.check(layer, *inputs, dtype=dtype, mode="probe")
    assert (result.verdict, autocast(result).verdict) == (Verdict.PASS, Verdict.INCONCLUSIVE), str(result)
    for word in ("the backward raises RuntimeError", "custom_fwd", ".py:", "return "):
        assert word in autocast(result).message


def test_a_backward_made_for_autocast_must_not_raise():
    half = type("Half", (Linear,), {"forward": vars(declared(Linear))["forward"]})
    result = gradcheck.check(half, *TWO, mode="probe")
    assert (result.verdict, autocast(result).verdict) == (Verdict.FAIL, Verdict.FAIL), str(result)
    assert "in a backward whose forward has custom_fwd, it raises RuntimeError" in autocast(result).message
    assert "return g @ w, g.T @ x" in autocast(result).message


def test_autocast_is_restored():
    before = torch.is_autocast_enabled("cpu"), torch.is_autocast_cache_enabled(), torch.get_autocast_dtype("cpu")
    gradcheck.check(declared(Linear), *TWO)
    assert before == (torch.is_autocast_enabled("cpu"), torch.is_autocast_cache_enabled(), torch.get_autocast_dtype("cpu"))


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 2 * g * x


def test_outputs_that_underflow_into_a_tie_are_not_compared():
    x = torch.tensor([[1e-20, 1e-20], [1e-20, 1e-20], [1.1e-20, 1.1e-20]], dtype=torch.float64)
    result = gradcheck.check(lambda x: Square.apply(x).amax(0), x)
    assert result.verdict is Verdict.PASS, str(result)

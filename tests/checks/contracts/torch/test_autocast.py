"""Backwards under torch.autocast."""

import pytest
import torch
from casting import RAISING, RIGHT, TWO, WRONG, Linear, declared, spoilt

import gradcheck
from gradcheck import Verdict
from gradcheck.glossary.contracts import CONTRACTS


def autocast(result):
    return next(c for c in result.contracts if c.name == "autocast")


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", RIGHT)
def test_a_right_layer_passes(name, dtype):
    layer, inputs = RIGHT[name]
    for seed in range(2):
        result = gradcheck.check(layer, *inputs, dtype=dtype, seed=seed, mode="probe")
        assert result.verdict is Verdict.PASS, str(result)
        assert autocast(result).message == CONTRACTS["autocast"]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_in_bfloat16_alone_is_caught(name, dtype):
    result = gradcheck.check(spoilt(WRONG[name]), *TWO, dtype=dtype, mode="probe")
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


def test_one_that_was_made_for_autocast_must_not_raise():
    half = type("Half", (Linear,), {"forward": vars(declared(Linear))["forward"]})
    result = gradcheck.check(half, *TWO, mode="probe")
    assert (result.verdict, autocast(result).verdict) == (Verdict.FAIL, Verdict.FAIL), str(result)
    assert "in a backward whose forward has custom_fwd, it raises RuntimeError" in autocast(result).message
    assert "return g @ w, g.T @ x" in autocast(result).message


def test_autocast_is_as_it_was():
    before = torch.is_autocast_enabled("cpu"), torch.is_autocast_cache_enabled(), torch.get_autocast_dtype("cpu")
    gradcheck.check(declared(Linear), *TWO)
    assert before == (torch.is_autocast_enabled("cpu"), torch.is_autocast_cache_enabled(), torch.get_autocast_dtype("cpu"))

"""Forward mode beside reverse mode, without differences."""

import pytest
import torch
from alone import alone
from lawful import Function
from pushing import PRODUCT, RIGHT, TIES, WRONG, Largest, Module, kept

import gradcheck
from gradcheck import Verdict, normal
from gradcheck.glossary.contracts import CONTRACTS


def adjoint(result):
    return next((c for c in result.contracts if c.name == "adjoint"), None)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", RIGHT)
def test_a_right_jvp_passes(name, dtype):
    layer, inputs = RIGHT[name]
    for seed in range(2):
        result = gradcheck.check(layer, *inputs, dtype=dtype, seed=seed, mode="probe")
        assert result.verdict is Verdict.PASS, str(result)
        assert adjoint(result).message == CONTRACTS["adjoint"]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("size", [12, 2000])
@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_jvp_is_caught(name, size, dtype):
    x = torch.linspace(-1.5, 2, size, dtype=getattr(torch, dtype))
    for layer, verdict in ((kept(Function, WRONG[name]), Verdict.FAIL), (PRODUCT, Verdict.PASS)):
        found = alone("adjoint", layer, x, x.cos())
        assert found.verdict is verdict, found.message


def test_it_is_tried_where_nothing_else_looks_at_a_jvp():
    module = Module(kept(Function, WRONG["one input"]), 257)
    result = gradcheck.check(module, normal(257, 257))
    assert not any("forward" in (c.method, c.against) for c in result.comparisons)
    assert (result.verdict, adjoint(result).verdict) == (Verdict.FAIL, Verdict.FAIL), str(result)


def test_what_the_table_says_is_not_said_again():
    result = gradcheck.check(kept(Function, WRONG["a factor"]), normal(3, 4), normal(3, 4))
    assert result.verdict is Verdict.FAIL
    assert adjoint(result) is None


def test_at_a_tie_each_mode_may_choose():
    found = alone("adjoint", Largest, TIES)
    assert (found.verdict, "at a kink or tie" in found.message) == (Verdict.INCONCLUSIVE, True), found.message


def test_a_jvp_that_raises_is_told_with_its_line():
    def raising(ctx, u, v):
        return u * ctx.never_saved

    found = alone("adjoint", kept(Function, raising), torch.ones(3), torch.ones(3))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "AttributeError" in found.message
    assert "u * ctx.never_saved" in found.message


def test_without_a_forward_mode_it_is_not_tried():
    found = alone("adjoint", Function, torch.ones(3), torch.ones(3))
    assert found.verdict is Verdict.PASS
    assert "there is no forward mode" in found.message

"""Forward mode compared with reverse mode, without differences."""

import pytest
import torch
from alone import check_contract_alone
from lawful import Function
from pushing import PRODUCT, RIGHT, TIES, WRONG, Largest, Module, kept

import gradcheck
from gradcheck import Verdict, normal
from gradcheck.glossary.contracts import CONTRACTS


def adjoint(result):
    return next((c for c in result.contracts if c.name == "adjoint"), None)


@pytest.mark.parametrize(("dtype", "seed"), [("float64", 0), ("float32", 1)])
@pytest.mark.parametrize("name", RIGHT)
def test_a_right_jvp_passes(name, dtype, seed):
    layer, inputs = RIGHT[name]
    result = gradcheck.check(layer, *inputs, dtype=dtype, seed=seed, mode="probe")
    assert result.verdict is Verdict.PASS, str(result)
    assert adjoint(result).message == CONTRACTS["adjoint"]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("size", [12, 2000])
@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_jvp_is_caught(name, size, dtype):
    x = torch.linspace(-1.5, 2, size, dtype=getattr(torch, dtype))
    for layer, verdict in ((kept(Function, WRONG[name]), Verdict.FAIL), (PRODUCT, Verdict.PASS)):
        contract = check_contract_alone("adjoint", layer, x, x.cos())
        assert contract.verdict is verdict, contract.message


def test_it_is_tried_where_no_other_check_uses_the_jvp():
    module = Module(kept(Function, WRONG["one input"]), 257)
    result = gradcheck.check(module, normal(257, 257))
    assert not any("forward" in (c.method, c.against) for c in result.comparisons)
    assert (result.verdict, adjoint(result).verdict) == (Verdict.FAIL, Verdict.FAIL), str(result)


def test_it_is_left_out_if_the_table_reports_the_jvp():
    result = gradcheck.check(kept(Function, WRONG["a factor"]), normal(3, 4), normal(3, 4))
    assert result.verdict is Verdict.FAIL
    assert adjoint(result) is None


def test_at_a_tie_each_mode_may_choose_another_subgradient():
    contract = check_contract_alone("adjoint", Largest, TIES)
    assert (contract.verdict, "at a kink or tie" in contract.message) == (Verdict.INCONCLUSIVE, True), contract.message


def test_a_jvp_that_raises_is_reported_with_its_line():
    def raising(ctx, u, v):
        return u * ctx.never_saved

    contract = check_contract_alone("adjoint", kept(Function, raising), torch.ones(3), torch.ones(3))
    assert contract.verdict is Verdict.INCONCLUSIVE
    assert "AttributeError" in contract.message
    assert "u * ctx.never_saved" in contract.message


def test_without_a_forward_mode_it_is_not_tried():
    contract = check_contract_alone("adjoint", Function, torch.ones(3), torch.ones(3))
    assert contract.verdict is Verdict.PASS
    assert "there is no forward mode" in contract.message

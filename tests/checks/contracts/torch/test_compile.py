"""Layers under torch.compile."""

import pytest
import torch
from casting import Converted
from lawful import RIGHT, Dropped, Forces, Function
from registered import REMARKED, TWO, Doubled
from registered import RIGHT as OPERATORS
from unruly import other

import gradcheck
from gradcheck import Verdict, normal
from gradcheck.errors import UsageError
from gradcheck.glossary.contracts import CONTRACTS

NAMES = ("function", "two outputs", "softmax", "turned", "gathered", "squared")
RIGHT_ONES = {
    **{name: RIGHT[name] for name in NAMES},
    **{name: OPERATORS[name] for name in ("polar", "rows", "total")},
    "converted": (Converted, (normal(5, 4), normal(3, 4))),
}


def compiled(layer, *inputs, **options):
    alone = {"contracts": False, "contract": ("compile",), "mode": "probe"}
    result = gradcheck.check(layer, *inputs, framework="torch", **alone, **options)
    (contract,) = result.contracts
    return result, contract


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", RIGHT_ONES)
def test_a_right_layer_passes(name, dtype):
    layer, inputs = RIGHT_ONES[name]
    result, contract = compiled(layer, *inputs, dtype=dtype)
    assert (result.verdict, contract.message) == (Verdict.PASS, CONTRACTS["compile"]), str(result)


def another_when_compiled(ctx, g):
    x, w = ctx.saved_tensors
    factor = 2 if torch.compiler.is_compiling() else 1
    return factor * g * 2 * x * torch.sin(w), g * x**2 * torch.cos(w)


@pytest.mark.parametrize(
    ("layer", "inputs", "message"),
    [(Doubled, (normal(3, 4),), "output["), (other(backward=another_when_compiled), TWO, "the gradient at x[")],
)
def test_an_error_in_compiled_code_only_is_caught(layer, inputs, message):
    result, contract = compiled(layer, *inputs)
    assert all(c.verdict is Verdict.PASS for c in result.comparisons), str(result)
    assert (result.verdict, contract.verdict) == (Verdict.FAIL, Verdict.FAIL)
    assert f"under torch.compile {message}" in contract.message


@pytest.mark.parametrize(
    ("layer", "inputs", "message"),
    [(REMARKED["no fake"][0], TWO, "There was no fake impl registered"), (Forces, (normal(6),), "double backward")],
)
def test_a_layer_that_cannot_be_compiled_is_remarked(layer, inputs, message):
    result, contract = compiled(layer, *inputs)
    assert (result.verdict, contract.verdict) == (Verdict.PASS, Verdict.INCONCLUSIVE)
    assert message in contract.message


def test_it_is_not_tried_if_random_numbers_are_drawn():
    assert "random numbers are drawn" in compiled(Dropped, normal(3, 4))[1].message


def test_it_is_tried_only_on_request():
    assert "compile" not in {c.name for c in gradcheck.check(Function, *TWO, mode="probe").contracts}
    with pytest.raises(UsageError, match="did you mean compile"):
        gradcheck.check(Function, *TWO, contract=("compiled",))
    with pytest.raises(UsageError, match="contract='compile' and no_contract='compile'"):
        gradcheck.check(Function, *TWO, contract=("compile",), no_contract=("compile",))

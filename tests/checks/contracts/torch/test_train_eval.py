"""Modules in the other mode, training or evaluation."""

import pytest
import torch
from switching import NOT_TRIED, RIGHT, WRONG, Counted, Frozen, Iterated, Mlp, Rounded, X
from torch import nn

import gradcheck
from gradcheck import Verdict
from gradcheck.glossary.contracts import CONTRACTS


def checked(kind, x, training, dtype="float64", **options):
    torch.manual_seed(0)
    module = kind().to(getattr(torch, dtype))
    module.training or module.train()
    for inner in module.modules():
        inner.training = training
    if isinstance(module, Frozen):
        module.norm.training = False
    result = gradcheck.check(module, *x, mode="probe", **options)
    return result, next((c for c in result.contracts if c.name == "train-eval"), None), module


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", RIGHT)
def test_a_right_module_passes(name, dtype):
    result, contract, _ = checked(*RIGHT[name], dtype)
    assert result.verdict is Verdict.PASS, str(result)
    assert (contract.verdict, contract.message) == (Verdict.PASS, CONTRACTS["train-eval"])


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", WRONG)
def test_an_error_in_the_other_mode_only_is_caught(name, dtype):
    kind, training, message = WRONG[name]
    result, contract, _ = checked(kind, (X,), training, dtype)
    assert all(c.verdict is Verdict.PASS for c in result.comparisons), str(result)
    assert (result.verdict, contract.verdict) == (Verdict.FAIL, Verdict.FAIL), str(result)
    assert message in contract.message


@pytest.mark.parametrize("name", NOT_TRIED)
def test_a_contract_that_does_not_apply_says_why(name):
    *arguments, message = NOT_TRIED[name]
    result, contract, _ = checked(*arguments)
    assert (result.verdict, contract.verdict) == (Verdict.PASS, Verdict.PASS), str(result)
    assert message in contract.message


def test_an_exception_is_reported_with_the_user_s_own_lines():
    _, contract, _ = checked(WRONG["a name"][0], (X,), True)
    assert "return scale * super().forward(x)" in contract.message
    assert "train_eval.py" not in contract.message


def test_a_straight_through_estimator_is_remarked():
    result, contract, _ = checked(Rounded, (X,), True)
    assert (result.verdict, contract.verdict) == (Verdict.PASS, Verdict.INCONCLUSIVE)
    assert "straight-through" in contract.message


def test_a_buffer_that_a_call_writes_for_the_next_one_is_remarked():
    result, contract, _ = checked(Iterated, (X,), False)
    assert (result.verdict, contract.verdict) == (Verdict.PASS, Verdict.INCONCLUSIVE), str(result)
    assert "the output depends on u, which the forward updates" in contract.message


@pytest.mark.parametrize("kind", [Counted, Frozen])
def test_the_module_is_as_it_was(kind):
    result, _, module = checked(kind, (X,), True)
    assert result.verdict is Verdict.PASS
    modes = {name: inner.training for name, inner in module.named_modules()}
    assert modes == {name: not (kind is Frozen and name == "norm") for name in modes}
    assert all(parameter.requires_grad and parameter.grad is None for parameter in module.parameters())
    assert all(torch.equal(buffer, fresh) for buffer, fresh in zip(module.buffers(), kind().buffers(), strict=True))
    assert getattr(module, "seen", []) == []


def test_a_module_that_ignores_the_mode_is_called_once_more():
    modes = []

    class Watched(Mlp):
        def forward(self, x):
            modes.append(self.training)
            return super().forward(x)

    checked(Watched, (X,), True)
    assert modes.count(False) == 1


def test_pytorch_s_own_modules_are_not_tried():
    for kind in (lambda: nn.Linear(4, 3), lambda: nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5))):
        assert checked(kind, (X,), True)[1] is None
    assert checked(Mlp, (X,), True, no_contract=("train-eval",))[1] is None
    assert checked(Mlp, (X,), True, contracts=False, contract=("train-eval",))[1] is not None

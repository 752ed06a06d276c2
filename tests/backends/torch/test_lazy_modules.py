"""Modules that create their parameters at their first call, and are as lazy after a check as before."""

import threading

import pytest
import torch
from torch import nn
from torch.nn.parameter import UninitializedParameter, is_lazy

import gradcheck
from gradcheck import Verdict, normal


def net():
    return nn.Sequential(nn.LazyConv2d(2, 3), nn.LazyBatchNorm2d(), nn.Flatten(), nn.LazyLinear(2))


def as_it_was_made(module):
    hooks = [(len(m._forward_pre_hooks), len(m._load_state_dict_pre_hooks)) for m in module.modules()]
    tensors = {name: type(t) for name, t in [*module.named_parameters(), *module.named_buffers()]}
    return str(module), hooks, tensors, [sorted(vars(m)) for m in module.modules()]


@pytest.mark.parametrize("by_layer", [False, True])
def test_a_lazy_module_is_checked_and_stays_lazy(by_layer):
    module = net()
    before = as_it_was_made(module)
    result = gradcheck.check(module, normal(2, 1, 4, 4), by_layer=by_layer, mode="full")
    assert result.verdict is Verdict.PASS, str(result)
    assert {"params['0.weight']", "params['1.bias']", "params['3.weight']"} <= {c.wrt for c in result.comparisons}
    assert [layer.kind for layer in result.layers if layer.verdict] == ["Conv2d", "BatchNorm2d", "Flatten", "Linear"] * by_layer
    assert as_it_was_made(module) == before
    module(torch.ones(3, 2, 5, 5))  # and can be used with other sizes
    assert not any(map(is_lazy, module.parameters()))


def test_a_module_stays_lazy_if_its_forward_raises_or_a_function_calls_it():
    module = nn.Sequential(nn.LazyLinear(2), nn.Linear(3, 1))
    before = as_it_was_made(module)
    result = gradcheck.check(module, normal(4, 3))
    assert result.verdict is Verdict.ERROR
    assert "given input (4, 3) float32" in result.message
    assert as_it_was_made(module) == before
    inner = nn.LazyLinear(2, dtype=torch.float64)
    assert gradcheck.check(lambda x: inner(x), normal(4, 3), framework="torch").verdict is Verdict.PASS
    assert inner.has_uninitialized_params()


def test_each_trial_may_have_another_size_and_classes_are_built_lazy():
    class Locked(nn.LazyLinear):  # a lock cannot be copied
        def __init__(self, width):
            super().__init__(width)
            self.lock = threading.Lock()

    sizes = set()

    class Records(nn.Module):
        def forward(self, x):
            sizes.add(x.shape[-1])
            return x

    module = nn.Sequential(Records(), Locked(2))
    options = {"trials": 3, "dims": {"n": (2, 5)}}
    assert gradcheck.check(module, normal(4, "n"), **options).verdict is Verdict.PASS
    assert len(sizes) > 1
    made = gradcheck.check(nn.LazyLinear, normal(4, "n"), init={"out_features": 2}, **options)
    assert made.verdict is Verdict.PASS
    assert made.trials == 3


def test_a_repeated_check_gives_the_same_result():
    first, again = (gradcheck.check(nn.LazyLinear(2), normal(4, 3), seed=5) for _ in range(2))
    assert [c.claimed for c in first.comparisons] == [c.claimed for c in again.comparisons]
    other = gradcheck.check(nn.LazyLinear(2), normal(4, 3), seed=6)
    assert [c.claimed for c in first.comparisons] != [c.claimed for c in other.comparisons]


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, g):
        return 2 * g


class Scaled(nn.modules.lazy.LazyModuleMixin, nn.Module):
    """A custom lazy module whose scale may be cut off from its gradient."""

    def __init__(self, wrong=False):
        super().__init__()
        self.scale, self.wrong = UninitializedParameter(), wrong

    def initialize_parameters(self, x):
        with torch.no_grad():
            self.scale.materialize(x.shape[-1:])
            self.scale.fill_(0.75)

    def forward(self, x):
        return x * (Doubled.apply(self.scale) if self.wrong else self.scale)


class Late(nn.Module):
    """Parameters and layers that the first forward creates, without PyTorch's lazy modules."""

    def __init__(self, wrong=False):
        super().__init__()
        self.scale = self.linear = None
        self.wrong = wrong

    def forward(self, x):
        if self.scale is None:
            self.scale = nn.Parameter(torch.rand(x.shape[-1], dtype=x.dtype))
        if not hasattr(self, "shift"):
            self.shift = nn.Parameter(torch.rand(x.shape[-1], dtype=x.dtype))
        if self.linear is None:
            self.linear = nn.Linear(x.shape[-1], 2, dtype=x.dtype)
        return self.linear(x * (Doubled.apply(self.scale) if self.wrong else self.scale) + self.shift)


@pytest.mark.parametrize("make", [Scaled, Late])
def test_custom_lazy_modules_work_and_wrong_gradients_are_caught(make):
    module = make()
    before = as_it_was_made(module)
    result = gradcheck.check(module, normal(4, 3))
    assert result.verdict is Verdict.PASS, str(result)
    assert "params['scale']" in {c.wrt for c in result.comparisons}
    assert make is Scaled or {"params['shift']", "params['linear.weight']"} <= {c.wrt for c in result.comparisons}
    assert as_it_was_made(module) == before
    wrong = gradcheck.check(make(wrong=True), normal(4, 3))
    assert {c.wrt for c in wrong.comparisons if c.verdict is Verdict.FAIL} == {"params['scale']"}


def test_parameters_that_the_call_does_not_reach_are_named():
    module = nn.ModuleDict({"used": nn.LazyLinear(2), "unused": nn.LazyLinear(2)})
    module.forward = lambda x: module["used"](x)
    result = gradcheck.check(module, normal(4, 3))
    assert result.verdict is Verdict.PASS
    assert any("they have no shape yet: params['unused.weight'], params['unused.bias']" in note for note in result.notes)

import functools

import numpy as np
import torch
from torch import nn

import gradcheck
from gradcheck import Verdict


class Remembers(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3, dtype=torch.float64))
        self.seen, self.count, self.cache = [], {"calls": 0}, torch.zeros(2)

    def forward(self, x):
        self.seen.append(1)
        self.count["calls"] += 1
        self.cache.add_(1)
        self.late = x
        return x * self.weight


def test_containers_that_forward_fills_are_restored_and_stay_the_same_objects():
    net = Remembers()
    seen, count, cache = net.seen, net.count, net.cache
    assert gradcheck.check(net, torch.ones(2, 3, dtype=torch.float64)).verdict is Verdict.PASS
    assert (net.seen, net.count) == ([], {"calls": 0})
    assert torch.equal(net.cache, torch.zeros(2))
    assert net.seen is seen
    assert net.count is count
    assert net.cache is cache
    assert not hasattr(net, "late")


def assert_untouched(norm, function):
    assert gradcheck.check(function, torch.randn(6, 3, dtype=torch.float64)).verdict is Verdict.PASS
    assert norm.num_batches_tracked == 0
    assert torch.equal(norm.running_mean, torch.zeros(3, dtype=torch.float64))
    assert norm.training


def test_a_module_in_a_closure_keeps_its_running_statistics():
    norm = nn.BatchNorm1d(3).double()
    assert_untouched(norm, lambda x: norm(x) ** 2)


def test_a_module_in_a_partial_or_behind_a_method_keeps_its_running_statistics():
    norm = nn.BatchNorm1d(3).double()
    assert_untouched(norm, functools.partial(lambda net, x: net(x) ** 2, norm))
    assert_untouched(norm, norm.forward)


class Fills(nn.Module):
    """Writes to all its attributes, registers a hook and a buffer, and replaces a parameter."""

    def __init__(self):
        super().__init__()
        self.weight, self.norm = nn.Parameter(torch.ones(3, dtype=torch.float64)), nn.BatchNorm1d(3)
        self.held, self.named = [self.weight, {"seen": [1]}, self.norm], {"array": np.zeros(2), "names": {"a"}}
        self.pair = (torch.zeros(2), [0])

    def forward(self, x):
        self.held[1]["seen"].append(2)
        self.held.append(x)
        self.named["array"] += 1
        self.named["names"].add("b")
        self.pair[0].add_(1)
        self.pair[1][0] = 5
        self.named["new"] = x
        self.register_forward_hook(lambda *_: None)
        self.register_buffer("late", torch.zeros(1))
        return x * self.held[0]


def test_attributes_of_a_module_are_restored_and_stay_the_same_objects():
    net = Fills()
    weight, norm, array, inner = net.weight, net.norm, net.named["array"], net.held[1]
    assert gradcheck.check(net, torch.ones(2, 3, dtype=torch.float64)).verdict is Verdict.PASS
    assert [type(x) for x in net.held] == [nn.Parameter, dict, nn.BatchNorm1d]
    assert net.held[0] is net.weight is weight
    assert net.held[1] is inner
    assert net.held[2] is net.norm is norm
    assert inner == {"seen": [1]}
    assert net.named["array"] is array
    assert (array.tolist(), net.named["names"], list(net.named)) == ([0, 0], {"a"}, ["array", "names"])
    assert (net.pair[0].tolist(), net.pair[1]) == ([0, 0], [0])
    assert not net._forward_hooks
    assert list(net._buffers) == []

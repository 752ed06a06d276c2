import functools

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


def test_containers_that_forward_fills_are_as_before_and_the_same_objects():
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


def test_so_does_one_in_a_partial_and_one_that_is_a_methods_owner():
    norm = nn.BatchNorm1d(3).double()
    assert_untouched(norm, functools.partial(lambda net, x: net(x) ** 2, norm))
    assert_untouched(norm, norm.forward)


def test_a_sparse_input_is_one_clear_error():
    import pytest

    with pytest.raises(gradcheck.InputError, match="x is sparse: expected dense"):
        gradcheck.check(lambda x: x.sum(), torch.eye(3).to_sparse())

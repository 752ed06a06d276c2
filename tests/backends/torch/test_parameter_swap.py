import elementwise
import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import gradcheck
from gradcheck import Verdict, normal
from gradcheck.backends.torch.parameter_swap import swap_in, swap_scope


class Checkpointed(nn.Module):
    """Two layers around a Function, recomputed in the backward."""

    def __init__(self, function, *, tied=False):
        super().__init__()
        self.first, self.second, self.norm, self.function = nn.Linear(4, 4), nn.Linear(4, 4), nn.LayerNorm(4), function
        if tied:
            self.second.weight = self.first.weight

    def inside(self, x):
        return self.second(self.function.apply(torch.tanh(self.first(x))))

    def forward(self, x):
        return self.norm(checkpoint(self.inside, x, use_reentrant=False))


@pytest.mark.parametrize(
    ("dtype", "more"),
    [(torch.float32, {}), (torch.float64, {"order": 2}), (torch.float64, {"by_layer": True})],
    ids=["first", "second", "by-layer"],
)
def test_a_module_that_checkpoints_its_layers_passes_and_gets_its_parameters_back(dtype, more):
    torch.manual_seed(0)
    module = Checkpointed(elementwise.layer(name="cube")).to(dtype)
    before = dict(module.named_parameters())
    assert gradcheck.check(module, normal(2, 4), **more).verdict is Verdict.PASS
    assert all(parameter is before[name] for name, parameter in module.named_parameters())


@pytest.mark.parametrize("tied", [False, True])
def test_a_wrong_backward_inside_is_caught(tied):
    torch.manual_seed(0)
    module = Checkpointed(elementwise.layer(lambda g: 1.02 * g, "cube"), tied=tied).double()
    result = gradcheck.check(module, normal(2, 4))
    assert (result.verdict, result.reason) == (Verdict.FAIL, gradcheck.Reason.DISAGREES)


def test_tied_tensors_are_replaced_everywhere_and_only_inside_the_context():
    module = Checkpointed(None, tied=True)
    weight, other = module.first.weight, torch.zeros(4, 4)
    swap_in(module, {"first.weight": other})
    assert module.first.weight is weight
    with swap_scope():
        swap_in(module, {"first.weight": other})
        assert module.first.weight is other
        assert module.second.weight is other
    assert module.first.weight is module.second.weight is weight

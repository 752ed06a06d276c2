import copy
import gc
import weakref

import numpy as np
import pytest
import torch

import gradcheck
from gradcheck import Verdict, normal
from gradcheck.backends.torch import bind
from gradcheck.results import Reason
from gradcheck.targets.case import Case
from gradcheck.targets.signature import Inputs


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(3, 2)
        self.norm = torch.nn.BatchNorm1d(2)
        self.calls = 0
        self.cache = None

    def forward(self, x):
        self.calls += 1
        self.cache = x
        return torch.nn.functional.dropout(self.norm(self.linear(x)), 0.3, self.training)


def fingerprint(net):
    return {k: v.clone() for k, v in net.state_dict().items()}, net.calls, net.cache, net.training, net.norm.training


def test_the_users_tensors_and_state_are_unchanged():
    torch.manual_seed(3)
    net, x = Net().train(), torch.randn(6, 3, requires_grad=True)
    net.norm.eval()
    net.linear.weight.grad = torch.full((2, 3), 7.0)
    before, state, kept = copy.deepcopy(fingerprint(net)), torch.get_rng_state(), x.detach().clone()
    parameters = {name: id(p) for name, p in net.named_parameters()}

    assert gradcheck.check(net, x).verdict is Verdict.PASS

    after = fingerprint(net)
    assert all(torch.equal(before[0][k], after[0][k]) for k in before[0])
    assert before[1:] == after[1:]
    assert parameters == {name: id(p) for name, p in net.named_parameters()}
    assert torch.equal(net.linear.weight.grad, torch.full((2, 3), 7.0))
    assert net.linear.bias.grad is None
    assert x.grad is None
    assert torch.equal(x, kept)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_default_dtype() is torch.float32
    assert torch.is_grad_enabled()


def test_parameters_are_leaves_by_name_and_frozen_ones_are_left_out():
    net = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Tanh())
    net[0].bias.requires_grad_(False)
    assert {c.wrt for c in gradcheck.check(net, normal(4, 3)).comparisons} == {"input", "params['0.weight']"}


def test_requires_grad_among_the_inputs_chooses_what_to_differentiate():
    a, b = torch.randn(3, dtype=torch.float64, requires_grad=True), torch.randn(3, dtype=torch.float64)
    assert {c.wrt for c in gradcheck.check(torch.mul, a, b).comparisons} == {"arg0"}
    assert {c.wrt for c in gradcheck.check(torch.mul, a.detach(), b).comparisons} == {"arg0", "arg1"}


def test_float32_is_claimed_in_float32_and_measured_in_float64():
    result = gradcheck.check(torch.sin, torch.linspace(0.1, 1, 5))
    found = next(c for c in result.comparisons if c.against == "numeric")
    assert found.dtype == "float32"
    assert found.rtol == 1e-4
    assert found.bound < 1e-5


def test_a_twin_that_is_another_function_is_not_used():
    def by_dtype(x):
        return x * 2 if x.dtype == torch.float32 else x * 3

    result = gradcheck.check(by_dtype, torch.linspace(0.1, 1, 5))
    assert result.verdict is Verdict.PASS
    assert any("another value" in note for note in result.notes)


def test_outputs_that_carry_no_gradient_are_named_and_not_compared():
    def two(x):
        return x**2, (x > 0).to(x.dtype), x.detach() * 3

    result = gradcheck.check(two, normal(4), framework="torch")
    assert result.verdict is Verdict.PASS
    assert {n for n in result.notes if "carries no gradient" in n} == {
        "output[1] carries no gradient: not compared",
        "output[2] carries no gradient: not compared",
    }


def lose_gradient(x):
    return x.detach() * 2


@pytest.mark.parametrize("function", [lose_gradient, torch.no_grad()(torch.exp), lambda x: float(x.detach().sum())])
def test_a_function_that_loses_its_whole_gradient_fails(function):
    result = gradcheck.check(function, torch.ones(3), framework="torch")
    assert (result.verdict, result.reason) == (Verdict.FAIL, Reason.DETACHED)


@pytest.mark.parametrize("function", [lambda x: (x > 0.5).double(), lambda x: torch.ones(2), lambda x: x.argsort().double()])
def test_a_function_without_gradient_passes_where_its_derivative_is_zero(function):
    result = gradcheck.check(function, torch.linspace(0.1, 2, 4))
    assert result.ok
    assert [row.reason for row in result.comparisons] == [Reason.BOTH_ZERO]


def test_a_lost_gradient_can_be_declared():
    assert gradcheck.check(lose_gradient, torch.ones(3), tolerates={"detached": "a target network"}).ok
    assert gradcheck.check(lose_gradient, torch.ones(3), expect="fail", because="a target network").ok


@pytest.mark.parametrize(("factor", "verdict"), [(2, Verdict.PASS), (3, Verdict.FAIL)])
def test_a_hand_written_gradient_stands_in_for_one_that_is_lost(factor, verdict):
    result = gradcheck.check(lambda x: x.detach().sum() * 2, torch.ones(3), gradient=lambda x: torch.full_like(x, factor))
    assert result.verdict is verdict
    assert {row.method for row in result.comparisons} == {"analytic"}


@pytest.mark.parametrize("option", ["padding_idx", "scale_grad_by_freq"])
@pytest.mark.parametrize(("rows", "changed"), [([0, 2, 2, 1], True), ([0, 1, 3], False)])
def test_an_embedding_that_changes_its_gradient_on_purpose_is_recognised(option, rows, changed):
    module = torch.nn.Embedding(5, 3, **{option: 2 if option == "padding_idx" else True}).double()
    result = gradcheck.check(module, torch.tensor(rows))
    assert result.ok is not changed
    assert any(option in note for note in result.notes) is changed


def test_a_hand_written_gradient_is_checked_along_with_autodiff():
    x = torch.linspace(0.1, 1, 5, dtype=torch.float64)
    result = gradcheck.check(lambda x: (x**3).sum(), x, gradient=lambda x: 3 * x**2)
    assert result.ok
    assert {c.method for c in result.comparisons} == {"analytic", "reverse", "forward"}
    wrong = gradcheck.check(lambda x: (x**3).sum(), x, gradient=lambda x: 2 * x**2)
    assert {c.method for c in wrong.comparisons if c.verdict is Verdict.FAIL and c.against == "numeric"} == {"analytic"}


def test_a_hand_written_gradient_of_a_module_is_given_its_parameters():
    net = torch.nn.Linear(3, 1, bias=False).double()

    def vjp(v, input, params):
        return {"input": v @ params["weight"], "params": {"weight": v.T @ input}}

    assert gradcheck.check(net, normal(4, 3), vjp=vjp).ok


def test_a_backward_that_raises_is_an_error_with_the_users_frames_alone():
    class Raises(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 1

        @staticmethod
        def backward(ctx, g):
            raise ValueError("no backward today")

    result = gradcheck.check(Raises, normal(3))
    assert (result.verdict, result.reason) == (Verdict.ERROR, Reason.DERIVATIVE_RAISED)
    assert "the backward pass raised ValueError: no backward today" in result.message
    assert "test_bind.py" in result.traceback
    assert "gradcheck/backends" not in result.traceback


def test_shapes_that_do_not_fit_are_an_error_that_lists_them():
    result = gradcheck.check(torch.nn.Linear(5, 2), torch.ones(4, 3))
    assert result.verdict is Verdict.ERROR
    assert "input (4, 3) float32" in result.message
    assert "params['weight'] (2, 5)" in result.message


def test_a_function_that_differentiates_inside_is_checked():
    def force(x):
        x = x.requires_grad_() if not x.requires_grad else x
        (g,) = torch.autograd.grad((x**3).sum(), x, create_graph=True)
        return g

    assert gradcheck.check(force, torch.linspace(0.5, 1, 4, dtype=torch.float64)).verdict is Verdict.PASS


@pytest.mark.parametrize(("shape", "strides"), [((3, 2), (1, 1)), ((2, 2), (3, 3)), ((2, 3), (1, 0))])
def test_entries_that_share_memory_move_one_by_one(shape, strides):
    x = torch.arange(1.0, 8.0, dtype=torch.float64).as_strided(shape, strides)
    assert gradcheck.check(torch.sin, x).verdict is Verdict.PASS


@pytest.mark.parametrize("layout", ["transposed", "strided", "expanded"])
def test_layouts_reach_the_target(layout):
    seen = set()

    def records(x):
        seen.add(x.stride())
        return (x**2).sum()

    assert gradcheck.check(records, normal(4, 3, layout=layout), framework="torch").verdict is Verdict.PASS
    assert {"transposed": (1, 4), "strided": (6, 2), "expanded": (0, 1)}[layout] in seen


def test_a_module_class_is_built_from_the_seed_in_the_requested_dtype():
    seen = []

    class Layer(torch.nn.Linear):
        def forward(self, x):
            seen.append((self.weight.dtype, self.weight.detach().clone()))
            return super().forward(x)

    for _ in range(2):
        assert gradcheck.check(Layer, normal(2, 3), init={"in_features": 3, "out_features": 1}, trials=2, dtype="float32").ok
    native = [w for dtype, w in seen if dtype is torch.float32]
    distinct = {tuple(np.round(w.flatten().tolist(), 6)) for w in native}
    assert len(distinct) == 2


def test_a_factory_makes_the_target():
    result = gradcheck.check(lambda width: torch.nn.Linear(3, width), normal(2, 3), init={"width": 2}, framework="torch")
    assert result.verdict is Verdict.PASS


@pytest.mark.parametrize("mode", ["full", "probe"])
def test_complex_numbers_after_an_odd_number_of_real_ones(mode):
    x, z = torch.linspace(-1, 1, 3, dtype=torch.float64), torch.linspace(1, 2, 50, dtype=torch.complex128) * (1 + 0.5j)
    result = gradcheck.check(lambda x, z: (torch.sin(x), z * z), x, z, mode=mode)
    assert result.verdict is Verdict.PASS, str(result)


def test_a_gradient_that_is_a_sparse_tensor_is_read():
    layer = torch.nn.Embedding(9, 3, sparse=True).double()
    result = gradcheck.check(layer, torch.tensor([[0, 4], [4, 2]]))
    assert result.ok, str(result)
    assert "reverse" in {c.method for c in result.comparisons}


def test_a_bound_target_does_not_keep_the_graph_of_its_first_call():
    outputs = []

    def function(x):
        y = torch.sin(x)
        outputs.append(weakref.ref(y))
        return y

    x = torch.ones(3, dtype=torch.float64)
    program = bind.bind(Case(name="sine", fn=function), function, Inputs((x,), {}, ("x",)))
    gc.collect()
    assert outputs[0]() is None
    assert program.capabilities.layer is not None


def test_the_jvp_of_a_module_gets_the_tangents_of_its_parameters_by_name():
    def jvp(tangents, x, params):
        t_x, t = tangents
        return t_x @ params["weight"].T + x @ t["weight"].T + t["bias"]

    layer = torch.nn.Linear(2, 2).double()
    assert gradcheck.check(layer, normal(3, 2), jvp=jvp).verdict is Verdict.PASS
    wrong = gradcheck.check(layer, normal(3, 2), jvp=lambda t, x, params: jvp(t, x, params) + t[1]["bias"])
    assert {c.wrt for c in wrong.comparisons if c.verdict is Verdict.FAIL} == {"params['bias']"}


@pytest.mark.parametrize(("detached", "verdict"), [(False, Verdict.PASS), (True, Verdict.FAIL)])
def test_inference_mode_around_the_check_is_left_meanwhile(detached, verdict):
    layer = torch.nn.Linear(3, 2).double()
    with torch.inference_mode():
        x = torch.ones(2, 3, dtype=torch.float64)
        result = gradcheck.check(lambda x: layer(x.detach() if detached else x).sum() + x.sum(), x)
        assert torch.is_inference_mode_enabled()
    assert result.verdict is verdict
    assert any("torch.inference_mode()" in note for note in result.notes)

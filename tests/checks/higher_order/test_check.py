"""Second derivatives: wrong ones fail although the first are right, right ones pass, and missing ones are explained."""

import numpy as np
import pytest
import torch
from lawful import Function, Once, TwoOutputs
from second_backward import WRONG, detached, nested
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from unruly import other

import gradcheck
from gradcheck import Reason, Verdict, integers, normal, uniform
from gradcheck.errors import UsageError
from gradcheck.results import RunResult

SEVERITY = (Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.FAIL)


def verdicts(result):
    """The worst verdict of the first and of the second derivatives; None if there is none."""
    by_order = [[c.verdict for c in result.comparisons if c.order == order] for order in (1, 2)]
    return tuple(max(verdicts_of_order, key=SEVERITY.index, default=None) for verdicts_of_order in by_order)


def second(result):
    return [c for c in result.comparisons if c.order == 2]


@pytest.mark.parametrize(("size", "dtype"), [((2, 3), "float64"), ((20, 30), "float32")])
@pytest.mark.parametrize("name", WRONG)
def test_wrong_second_derivatives_fail_where_the_first_are_right(name, dtype, size):
    result = gradcheck.check(WRONG[name](), normal(*size), normal(*size), dtype=dtype, order=2, contracts=False)
    assert verdicts(result) == (Verdict.PASS, Verdict.FAIL), str(result)
    assert result.verdict is Verdict.FAIL


@pytest.mark.parametrize(("size", "dtype"), [((2, 3), "float32"), ((20, 30), "float64")])
def test_right_functions_pass(size, dtype):
    for function in (Function, TwoOutputs, nested()):
        result = gradcheck.check(function, normal(*size), normal(*size), dtype=dtype, order=2)
        assert result.verdict is Verdict.PASS, str(result)
        assert verdicts(result) == (Verdict.PASS, Verdict.PASS)
        assert {"symmetric-hessian", "double-adjoint"} <= {c.name for c in result.contracts}
        assert "double-backward" not in {c.name for c in result.contracts}


class Attention(nn.Module):
    def __init__(self, weights=True):
        super().__init__()
        self.attend, self.weights = nn.MultiheadAttention(4, 2, batch_first=True), weights

    def forward(self, x):
        return self.attend(x, x, x, need_weights=self.weights)[0]


class Trained(nn.Module):
    """A network and its loss."""

    def __init__(self, network, loss):
        super().__init__()
        self.network, self.loss = network, loss

    def forward(self, x, y):
        return self.loss(self.network(x), y)


def mlp(activation, width=8):
    return nn.Sequential(nn.Linear(4, width), activation, nn.Linear(width, 3))


LAYERS = {
    "linear": (lambda: nn.Linear(4, 3), normal(2, 4)),
    "tanh": (lambda: mlp(nn.Tanh()), normal(2, 4)),
    "gelu": (lambda: mlp(nn.GELU()), normal(2, 4)),
    "relu": (lambda: mlp(nn.ReLU()), normal(2, 4)),
    "layer norm": (lambda: nn.LayerNorm(5), normal(3, 5)),
    "batch norm behind a bias": (lambda: nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh()), normal(6, 3)),
    "attention": (lambda: Attention(), normal(1, 3, 4)),
    "convolution": (lambda: nn.Conv2d(1, 2, 3), normal(1, 1, 4, 4)),
    "max pool": (lambda: nn.MaxPool2d(2), normal(1, 2, 4, 4)),
    "lstm": (lambda: nn.LSTM(2, 3), normal(3, 1, 2)),
    "embedding": (lambda: nn.Sequential(nn.Embedding(5, 2, sparse=True), nn.Tanh()), integers(0, 5, 4)),
    "dropout": (lambda: nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.4), nn.Tanh()), normal(3, 4)),
    "mean squared error": (lambda: Trained(mlp(nn.ReLU()), nn.MSELoss()), normal(2, 4), normal(2, 3)),
    "cross entropy": (lambda: Trained(mlp(nn.SiLU()), nn.CrossEntropyLoss()), normal(2, 4), integers(0, 3, 2)),
    "binary cross entropy": (lambda: nn.BCEWithLogitsLoss(), normal(5), uniform(0, 1, 5)),
    "huber": (lambda: nn.HuberLoss(), normal(5), normal(5)),
}


WAYS = [("float64", "full"), ("float32", "probe"), ("float64", "probe"), ("float32", "full")]


@pytest.mark.parametrize(("name", "dtype", "mode"), [(name, *WAYS[k % len(WAYS)]) for k, name in enumerate(LAYERS)])
def test_pytorch_s_own_layers_pass(name, dtype, mode):
    make, *inputs = LAYERS[name]
    result = gradcheck.check(make, *inputs, init={}, framework="torch", dtype=dtype, mode=mode, order=2)
    assert result.verdict is Verdict.PASS, str(result)
    assert second(result)


@pytest.mark.parametrize(("mode", "seed"), [("full", 0), ("probe", 1)])
def test_a_gradient_that_is_constant_between_kinks_passes(mode, seed):
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 3)).double()
    result = gradcheck.check(network, normal(2, 10), wrt="input", mode=mode, seed=seed, order=2)
    assert verdicts(result) == (Verdict.PASS, Verdict.PASS), str(result)


@pytest.mark.parametrize("mode", ["full", "probe"])
def test_wrong_second_derivatives_of_a_network_with_kinks_fail(mode):
    torch.manual_seed(0)
    weights = nn.Linear(10, 40).double()
    wrong = other(backward=detached)
    result = gradcheck.check(
        lambda x, w: wrong.apply(torch.relu(weights(x)), w), normal(2, 10), normal(2, 40), mode=mode, order=2, framework="torch"
    )
    assert verdicts(result) == (Verdict.PASS, Verdict.FAIL), str(result)


def test_forward_mode_is_compared_with_the_same_differences():
    result = gradcheck.check(lambda x: torch.sin(x).prod(), normal(4), framework="torch", order=2, every_entry=True)
    assert {(c.method, c.against) for c in second(result)} == {
        ("reverse", "numeric"),
        ("forward", "numeric"),
        ("reverse", "forward"),
    }


def test_contracts_of_reverse_mode_are_left_out_without_it():
    result = gradcheck.check(torch.sin, normal(3), order=2, methods=("forward", "numeric"))
    assert verdicts(result) == (Verdict.PASS, Verdict.PASS), str(result)
    assert not {"symmetric-hessian", "double-adjoint"} & {contract.name for contract in result.contracts}


def test_the_derivatives_of_a_single_output_are_those_of_the_hessian():
    x = torch.tensor([0.3, 0.7], dtype=torch.float64)
    result = gradcheck.check(lambda x: x[0] ** 2 * x[1], x, order=2, every_entry=True)
    partials = {(p.output, p.output_entry, p.entry): p.values["reverse"] for p in result.partials if p.output == "∂output/∂x"}
    hessian = np.array([[2 * 0.7, 2 * 0.3], [2 * 0.3, 0.0]])
    assert {(i, j): partials["∂output/∂x", (i,), (j,)] for i in range(2) for j in range(2)} == pytest.approx(
        {(i, j): hessian[i, j] for i in range(2) for j in range(2)}
    )


def test_complex_inputs_are_checked_too():
    z = torch.tensor([0.3 + 1j, 0.7 - 0.2j], dtype=torch.complex128)
    assert verdicts(gradcheck.check(lambda z: (z**3).abs().sum(), z, order=2)) == (Verdict.PASS, Verdict.PASS)


# --- no faults


@pytest.mark.parametrize("layer", [Once, "fused attention"])
def test_what_cannot_be_differentiated_twice_and_says_so_is_inconclusive(layer):
    target, inputs = (Attention(weights=False), (normal(1, 3, 4),)) if isinstance(layer, str) else (layer, (normal(3),))
    result = gradcheck.check(target, *inputs, order=2)
    assert (result.verdict, result.reason) == (Verdict.INCONCLUSIVE, Reason.ONCE_DIFFERENTIABLE)
    assert verdicts(result) == (Verdict.PASS, None)
    assert ("@once_differentiable" if layer is Once else "is not implemented") in result.message
    assert result.message in " ".join(str(result).split())
    if layer is not Once:
        with sdpa_kernel(SDPBackend.MATH):
            assert gradcheck.check(target, *inputs, order=2).verdict is Verdict.PASS


def test_if_the_second_backward_raises_the_user_s_own_lines_are_shown():
    result = gradcheck.check(nested(lambda gx, gw, gg: (gx[0], gw, gg)), normal(2, 3), normal(2, 3), order=2)
    assert result.reason is Reason.ONCE_DIFFERENTIABLE
    broken = gradcheck.check(nested(lambda gx, gw, gg: 1 / 0), normal(2, 3), normal(2, 3), order=2)
    assert (broken.verdict, broken.reason) == (Verdict.INCONCLUSIVE, Reason.ONCE_DIFFERENTIABLE)
    assert "ZeroDivisionError" in broken.message
    assert "1 / 0" in broken.message


def test_wrong_first_derivatives_leave_the_second_out():
    result = gradcheck.check(other(backward=lambda ctx, g: (g, g)), normal(3), normal(3), order=2)
    assert verdicts(result) == (Verdict.FAIL, None)
    assert any("second derivatives not checked" in note for note in result.notes)


def test_at_a_kink_of_the_gradient_nothing_is_decided():
    result = gradcheck.check(
        lambda x: (torch.relu(x) ** 2).sum() / 2, torch.tensor([0.0, 1.0, -2.0], dtype=torch.float64), order=2
    )
    assert result.verdict is Verdict.PASS, str(result)  # between the slopes of the gradient
    result = gradcheck.check(lambda x: torch.relu(x).sum(), torch.tensor([0.0, 1.0, -2.0], dtype=torch.float64), order=2)
    assert result.verdict is not Verdict.FAIL, str(result)


# --- contracts


class Turning(torch.autograd.Function):
    """|x|²/2, with a backward that is right at one point and the gradient of nothing."""

    matrix = torch.tensor([[1.0, 1.0], [-1.0, 1.0]], dtype=torch.float64)
    point = torch.tensor([0.5, 2.0], dtype=torch.float64)

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return (x**2).sum() / 2

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * (Turning.point + Turning.matrix @ (x - Turning.point))


def test_a_backward_that_is_the_gradient_of_nothing_is_not_symmetric():
    elsewhere = ("one-element",)  # which meets another point, where the first derivative is wrong too
    result = gradcheck.check(Turning, Turning.point, order=2, no_contract=elsewhere)
    assert verdicts(result) == (Verdict.PASS, Verdict.PASS)
    (broken,) = [c for c in result.contracts if c.verdict is Verdict.FAIL]
    assert (result.verdict, result.reason, broken.name) == (Verdict.FAIL, Reason.CONTRACT_BROKEN, "symmetric-hessian")
    assert (
        gradcheck.check(Turning, Turning.point, order=2, no_contract=("symmetric-hessian", *elsewhere)).verdict is Verdict.PASS
    )


class Folded(torch.autograd.Function):
    """|x| y, with another subgradient at 0 for x than for y: there the second derivative is not symmetric."""

    @staticmethod
    def forward(ctx, x, y):
        ctx.save_for_backward(x, y)
        return x.abs() * y

    @staticmethod
    def backward(ctx, g):
        x, y = ctx.saved_tensors
        return g * torch.where(x == 0, 0.3, torch.sign(x)) * y, g * x.abs()


def test_at_a_kink_it_need_not_be_symmetric():
    x, y = torch.tensor([0.0, 1.0], dtype=torch.float64), torch.tensor([2.0, 3.0], dtype=torch.float64)
    result = gradcheck.check(Folded, x, y, order=2)
    assert not [c for c in result.contracts if c.verdict is Verdict.FAIL], str(result)
    assert result.verdict is not Verdict.FAIL


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_second_backward_that_is_wrong_in_its_cotangent_breaks_a_contract(dtype):
    for fault in (lambda gx, gw, gg: (gx, gw, None), lambda gx, gw, gg: (gx, gw, 1.01 * gg)):
        result = gradcheck.check(nested(fault), normal(2, 3), normal(2, 3), order=2, dtype=dtype)
        assert verdicts(result) == (Verdict.PASS, Verdict.PASS)
        assert [c.name for c in result.contracts if c.verdict is Verdict.FAIL] == ["double-adjoint"], str(result)


# --- NumPy


POINT = np.array([0.5, -1.5, 2.0])


def test_a_hand_written_gradient_is_compared_with_the_hessian_of_the_traced_code():
    def cubes(x):
        return np.sum(x**3)

    right = gradcheck.check(cubes, POINT, gradient=lambda x: 3 * x**2, order=2)
    assert verdicts(right) == (Verdict.PASS, Verdict.PASS), str(right)
    there = gradcheck.check(cubes, POINT, gradient=lambda x: 3 * POINT**2 + (x - POINT), order=2)
    assert verdicts(there) == (Verdict.PASS, Verdict.FAIL), str(there)


def test_numpy_code_that_cannot_be_traced_has_no_second_derivatives():
    result = gradcheck.check(lambda x: float(np.sum(x**3)), POINT, gradient=lambda x: 3 * x**2, order=2)
    assert (result.verdict, result.reason) == (Verdict.INCONCLUSIVE, Reason.ONCE_DIFFERENTIABLE)
    assert verdicts(result) == (Verdict.PASS, None)


# --- the rest


def test_orders_are_distinguished():
    result = gradcheck.check(nested(lambda gx, gw, gg: (gx, -gw, gg)), normal(3), normal(3), order=2, trials=2)
    assert [c.order for c in result.comparisons] == sorted(c.order for c in result.comparisons)
    assert len(result.comparisons) == len({(c.order, c.wrt, c.method, c.against) for c in result.comparisons})
    assert {c.output.partition("[")[0] for c in second(result)} <= {"∂output/∂x", "∂output/∂w"}
    text = str(result)
    first, after = text.split("second derivatives, of ∂output/∂x", 1)
    assert "FAIL ∂" not in first
    assert "FAIL ∂(∂output/∂" in after
    run = RunResult("", {}, 0, {}, (result,))
    assert RunResult.from_dict(run.to_dict()).to_dict() == run.to_dict()


def test_layers_are_checked_to_the_second_order():
    class Layer(nn.Module):
        def __init__(self, function):
            super().__init__()
            self.function = function

        def forward(self, x):
            return self.function.apply(x, x.flip(-1))

    model = nn.Sequential(nn.Linear(3, 3), Layer(nested()), Layer(other(backward=detached))).double()
    result = gradcheck.check(model, normal(2, 3), by_layer=True, order=2)
    assert [layer.path for layer in result.layers if layer.verdict is Verdict.FAIL] == ["2.Layer"]
    assert "∂(∂output/∂" in str(result)


@pytest.mark.parametrize("order", [0, 4, True, "2", 2.0])
def test_another_order_is_refused(order):
    with pytest.raises(UsageError, match="order="):
        gradcheck.check(torch.sin, normal(3), order=order, framework="torch")


def test_nothing_of_the_user_s_is_changed():
    module = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Dropout(0.5)).double()
    before = {name: t.clone() for name, t in module.state_dict().items()}
    x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    state, kept = torch.get_rng_state(), x.detach().clone()
    gradcheck.check(module, x, order=2)
    assert all(torch.equal(t, before[name]) for name, t in module.state_dict().items())
    assert torch.equal(x, kept)
    assert x.grad is None
    assert all(p.grad is None for p in module.parameters())
    assert torch.equal(torch.get_rng_state(), state)


class Cubed(torch.autograd.Function):
    """x^3 with right first and second derivatives; the third is right unless `cut`."""

    cut = False

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, g):
        return CubedDerivative.apply(*ctx.saved_tensors, g)


class CubedDerivative(torch.autograd.Function):
    """3 x^2 g."""

    @staticmethod
    def forward(ctx, x, g):
        ctx.save_for_backward(x, g)
        return 3 * x * x * g

    @staticmethod
    def backward(ctx, v):
        x, g = ctx.saved_tensors
        return 6 * (x.detach() if Cubed.cut else x) * g * v, 3 * x * x * v


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("size", [4, 2000])
def test_a_wrong_third_derivative_fails_where_the_lower_ones_are_right(monkeypatch, size, dtype):
    orders = {"order": 3, "dtype": dtype, "contracts": False}
    right = gradcheck.check(Cubed, normal(size), **orders)
    assert {(c.order, c.verdict) for c in right.comparisons} == {(k, Verdict.PASS) for k in (1, 2, 3)}, str(right)
    assert "third derivatives: the derivative of a random combination of the second" in str(right)
    monkeypatch.setattr(Cubed, "cut", True)
    result = gradcheck.check(Cubed, normal(size), **orders)
    assert {c.order for c in result.comparisons if c.verdict is Verdict.FAIL} == {3}, str(result)
    assert gradcheck.check(Cubed, normal(size), **{**orders, "order": 2}).verdict is Verdict.PASS


def test_third_derivatives_are_not_checked_if_the_second_are_wrong():
    name = next(iter(WRONG))
    result = gradcheck.check(WRONG[name](), normal(2, 3), normal(2, 3), order=3, contracts=False)
    assert result.verdict is Verdict.FAIL
    assert {c.order for c in result.comparisons} == {1, 2}
    assert "third derivatives not checked: the second derivatives are wrong" in result.notes


def test_third_derivatives_of_several_outputs_and_a_zero_second_one():
    def function(x, y):
        return torch.stack([(x**3 * y).sum(), torch.exp(x).prod(), y.sum()])

    result = gradcheck.check(function, normal(3), normal(3), order=3, framework="torch")
    assert result.verdict is Verdict.PASS, str(result)


def test_third_derivatives_of_numpy_code_are_refused():
    with pytest.raises(UsageError, match="order=3: third derivatives are for torch and jax targets; use order=2"):
        gradcheck.check(lambda x: np.sum(x**3), normal(2), gradient=lambda x: 3 * x**2, order=3)


def test_third_derivatives_of_layer_norm_are_right_if_it_is_written_out_and_wrong_as_pytorch_has_it():
    def written_out(x):
        centred = x - x.mean(-1, keepdim=True)
        return centred / torch.sqrt((centred**2).mean(-1, keepdim=True) + 1e-5)

    assert gradcheck.check(written_out, normal(2, 4), order=3, framework="torch").verdict is Verdict.PASS
    result = gradcheck.check(lambda x: nn.functional.layer_norm(x, (4,)), normal(2, 4), order=3, framework="torch")
    assert {c.order for c in result.comparisons if c.verdict is Verdict.FAIL} == {3}, str(result)

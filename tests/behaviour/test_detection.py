"""Planted wrong gradients that must be caught, beside right ones that must pass, at the sizes and dtypes people use."""

import numpy as np
import pytest
import torch

import gradcheck
from gradcheck import Reason, Verdict, normal, positive, spd

SIZES = [1, 7, 140, 5_000]
DTYPES = ["float64", "float32"]


class Tanh(torch.autograd.Function):
    """tanh with a right backward; the wrong ones derive from it."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.tanh(x)

    @staticmethod
    def right(ctx, g):
        (x,) = ctx.saved_tensors
        return g * (1 - torch.tanh(x) ** 2)

    @staticmethod
    def backward(ctx, g):
        return Tanh.right(ctx, g)


def wrong(spoil):
    """A Function whose backward is the right one, spoilt."""

    class Wrong(Tanh):
        @staticmethod
        def backward(ctx, g):
            return spoil(Tanh.right(ctx, g))

    return Wrong


def one_entry(factor):
    def spoil(g):
        g = g.clone()
        g[len(g) // 3] *= factor
        return g

    return spoil


FAULTS = {
    "zero": torch.zeros_like,
    "sign": torch.neg,
    "a factor 2": lambda g: 2 * g,
    "a part in a thousand": lambda g: g * 1.001,
    "one entry off by 1 %": one_entry(1.01),
    "one entry zero": one_entry(0.0),
    "one entry NaN": one_entry(float("nan")),
}
ORDER_FAULTS = {
    "flipped": lambda g: g.flip(0),
    "rolled": lambda g: g.roll(1),
    "shuffled": lambda g: g[torch.arange(len(g)) ^ 1],
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES)
def test_a_right_backward_passes(size, dtype):
    result = gradcheck.check(Tanh, normal(size), dtype=dtype)
    assert result.verdict is Verdict.PASS, str(result)


@pytest.mark.parametrize(
    ("fault", "size", "dtype"),
    [(fault, size, DTYPES[(i + j) % 2]) for i, fault in enumerate(FAULTS) for j, size in enumerate(SIZES)],
)
def test_a_wrong_backward_fails(fault, size, dtype):
    result = gradcheck.check(wrong(FAULTS[fault]), normal(size), dtype=dtype, contracts=False)
    assert result.verdict is Verdict.FAIL, str(result)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [8, 140, 5_000])
@pytest.mark.parametrize("fault", ORDER_FAULTS)
def test_a_backward_in_the_wrong_order_fails(fault, size, dtype):
    result = gradcheck.check(wrong(ORDER_FAULTS[fault]), normal(size), dtype=dtype, contracts=False)
    assert result.verdict is Verdict.FAIL, str(result)


@pytest.mark.parametrize("size", [200, 5_000])
def test_the_one_wrong_entry_is_named(size):
    result = gradcheck.check(wrong(one_entry(1.01)), normal(size))
    found = next(c for c in result.comparisons if c.verdict is Verdict.FAIL)
    assert found.worst_entry == (size // 3,)
    assert found.rel_err == pytest.approx(0.01, rel=0.02)


@pytest.mark.parametrize("size", [100, 5_000])
def test_a_zero_gradient_of_a_small_mean_fails(size):
    def mean(x):
        return np.mean(1e-3 * x)

    assert gradcheck.check(mean, normal(size), gradient=np.zeros_like).verdict is Verdict.FAIL
    assert gradcheck.check(mean, normal(size), gradient=lambda x: np.full(x.shape, 1e-3 / x.size)).verdict is Verdict.PASS


def test_a_float64_backward_computed_in_float32_passes_with_a_remark_and_fails_if_more_is_asked_for():
    in_float32 = wrong(lambda g: g.float().double())
    result = gradcheck.check(in_float32, normal(50))
    assert result.verdict is Verdict.PASS
    assert Reason.SMALL_DIFFERENCE in {c.reason for c in result.comparisons}
    assert gradcheck.check(in_float32, normal(50), rtol=1e-9).verdict is Verdict.FAIL


EPS = 1e-5


def layer_norm(x, gain, bias):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + EPS) * gain + bias


def layer_norm_vjp(dy, x, gain, bias, eps=EPS):
    centred = x - x.mean(-1, keepdims=True)
    deviation = np.sqrt((centred**2).mean(-1, keepdims=True) + eps)
    hat, dhat = centred / deviation, dy * gain
    dx = (dhat - dhat.mean(-1, keepdims=True) - hat * (dhat * hat).mean(-1, keepdims=True)) / deviation
    return dx, (dy * hat).sum(0), dy.sum(0)


LAYER_NORM_INPUTS = (normal(4, 8), normal(8), normal(8))


def test_a_layer_norm_that_forgets_eps_fails():
    result = gradcheck.check(layer_norm, *LAYER_NORM_INPUTS, vjp=lambda *a: layer_norm_vjp(*a, eps=0.0))
    assert result.verdict is Verdict.FAIL
    assert {c.wrt for c in result.comparisons if c.verdict is Verdict.FAIL} == {"x", "gain"}


def test_a_right_layer_norm_passes_every_trial():
    assert gradcheck.check(layer_norm, *LAYER_NORM_INPUTS, vjp=layer_norm_vjp, trials=20).verdict is Verdict.PASS


def test_an_entry_off_by_1e_5_is_found_and_named():
    from scipy.optimize import rosen, rosen_der

    def off(x):
        g = rosen_der(x)
        g[2] *= 1 + 1e-5
        return g

    assert gradcheck.check(rosen, normal(5), gradient=rosen_der).verdict is Verdict.PASS
    result = gradcheck.check(rosen, normal(5), gradient=off)
    assert result.verdict is Verdict.FAIL
    assert result.comparisons[0].worst_entry == (2,)
    assert result.comparisons[0].rel_err == pytest.approx(1e-5, rel=1e-3)


def test_a_gradient_that_counts_a_tie_twice_fails_although_each_entry_is_a_subgradient():
    x = np.array([2.0, 2.0, 1.0])
    assert gradcheck.check(np.max, x, gradient=lambda x: (x == x.max()).astype(float)).verdict is Verdict.FAIL
    shared = gradcheck.check(np.max, x, gradient=lambda x: (x == x.max()) / np.sum(x == x.max()))
    assert shared.verdict is Verdict.PASS
    assert shared.reason is gradcheck.Reason.KINK_SUBGRADIENT


@pytest.mark.parametrize("claim", [0.0, 0.3, 1.0])
def test_every_subgradient_of_relu_passes_at_its_kink(claim):
    def relu_vjp(dy, x):
        return np.where(x == 0, claim, x > 0) * dy

    relu = gradcheck.check(lambda x: np.maximum(x, 0.0), np.array([0.0, 1.0, -1.0]), vjp=relu_vjp)
    assert relu.verdict is Verdict.PASS


@pytest.mark.parametrize("claim", [-0.1, 1.1])
def test_what_is_no_subgradient_of_relu_fails_at_its_kink(claim):
    def relu_vjp(dy, x):
        return np.where(x == 0, claim, x > 0) * dy

    relu = gradcheck.check(lambda x: np.maximum(x, 0.0), np.array([0.0, 1.0, -1.0]), vjp=relu_vjp)
    assert relu.verdict is Verdict.FAIL


RIGHT = {
    "gelu": (torch.nn.functional.gelu, (normal(4, 3),)),
    "softmax": (lambda x: torch.softmax(x, -1), (normal(3, 5),)),
    "logsumexp": (lambda x: torch.logsumexp(x, -1), (normal(3, 5),)),
    "cross entropy": (torch.nn.functional.cross_entropy, (normal(4, 5), gradcheck.integers(0, 5, 4))),
    "norm": (torch.linalg.vector_norm, (normal(50),)),
    "log": (torch.log, (positive(20),)),
    "inverse": (torch.linalg.inv, (spd(4),)),
    "logdet": (torch.logdet, (spd(4),)),
    "cumulative product": (lambda x: torch.cumprod(x, 0), (normal(6),)),
    "dropout": (lambda x: torch.nn.functional.dropout(x, 0.5), (normal(6),)),
    "max away from ties": (lambda x: torch.amax(x, -1), (normal(4, 5),)),
    "complex determinant": (torch.linalg.det, (normal(3, 3, dtype="complex128"),)),
    "complex to real": (lambda z: (z * z.conj()).real.sum(), (normal(5, dtype="complex128"),)),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", RIGHT)
def test_pytorchs_own_gradients_pass(name, dtype):
    function, inputs = RIGHT[name]
    result = gradcheck.check(function, *inputs, framework="torch", name=name, dtype=dtype, trials=3)
    assert result.verdict is Verdict.PASS, str(result)


MODULES = {
    "Linear": (torch.nn.Linear, {"in_features": 5, "out_features": 1}, (normal(30, 5),)),
    "LSTM": (torch.nn.LSTM, {"input_size": 3, "hidden_size": 4}, (normal(4, 2, 3),)),
    "MultiheadAttention": (torch.nn.MultiheadAttention, {"embed_dim": 4, "num_heads": 2}, (normal(3, 2, 4),) * 3),
    "Conv2d": (torch.nn.Conv2d, {"in_channels": 2, "out_channels": 3, "kernel_size": 3}, (normal(2, 2, 5, 5),)),
    "BatchNorm1d": (torch.nn.BatchNorm1d, {"num_features": 3}, (normal(8, 3),)),
    "Embedding": (torch.nn.Embedding, {"num_embeddings": 5, "embedding_dim": 3}, (gradcheck.integers(0, 5, 4),)),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", MODULES)
def test_pytorchs_modules_pass(name, dtype):
    module, init, inputs = MODULES[name]
    result = gradcheck.check(module, *inputs, init=init, dtype=dtype)
    assert result.verdict is Verdict.PASS, str(result)


def test_a_bias_whose_true_gradient_is_zero_passes_before_batch_norm():
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4)).double()
    assert gradcheck.check(net, normal(8, 3)).verdict is Verdict.PASS


def test_a_leaf_dropped_by_the_backward_is_named():
    class Product(torch.autograd.Function):
        @staticmethod
        def forward(ctx, a, b):
            ctx.save_for_backward(a, b)
            return a * b

        @staticmethod
        def backward(ctx, g):
            _, b = ctx.saved_tensors
            return g * b, None

    result = gradcheck.check(Product, normal(6), normal(6))
    assert {c.wrt for c in result.comparisons if c.verdict is Verdict.FAIL} == {"b"}


def test_a_function_bound_to_float32_is_judged_with_a_bound_that_knows_it():
    class Bound(Tanh):
        @staticmethod
        def forward(ctx, x):
            assert x.dtype == torch.float32
            return Tanh.forward(ctx, x)

    class Doubled(Bound):
        @staticmethod
        def backward(ctx, g):
            return 2 * Tanh.right(ctx, g)

    right = gradcheck.check(Bound, normal(20), dtype="float32")
    assert right.verdict is Verdict.PASS
    assert any("float64" in note for note in right.notes)
    assert gradcheck.check(Doubled, normal(20), dtype="float32").verdict is Verdict.FAIL


def test_a_wrong_jvp_fails_beside_a_right_backward():
    class Square(torch.autograd.Function):
        @staticmethod
        def forward(x):
            return x**2

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.save_for_backward(*inputs)
            ctx.save_for_forward(*inputs)

        @staticmethod
        def backward(ctx, g):
            return 2 * g * ctx.saved_tensors[0]

        @staticmethod
        def jvp(ctx, t):
            return t * ctx.saved_tensors[0]

    wrong_ones = {c.method for c in gradcheck.check(Square, normal(4)).comparisons if c.verdict is Verdict.FAIL}
    assert wrong_ones == {"forward", "reverse"}  # reverse only where it is held against forward
    numeric = {c.method: c.verdict for c in gradcheck.check(Square, normal(4)).comparisons if c.against == "numeric"}
    assert numeric == {"reverse": Verdict.PASS, "forward": Verdict.FAIL}


@pytest.mark.parametrize("mode", ["full", "probe"])
def test_both_modes_agree_on_a_function_of_many_outputs(mode):
    matrix = np.random.default_rng(0).standard_normal((300, 40))
    assert gradcheck.check(lambda x: matrix @ x, normal(40), vjp=lambda v, x: v @ matrix, mode=mode).verdict is Verdict.PASS
    wrong = matrix.copy()
    wrong[17, 5] *= 1.1
    found = gradcheck.check(lambda x: matrix @ x, normal(40), vjp=lambda v, x: v @ wrong, mode=mode)
    assert found.verdict is Verdict.FAIL
    assert found.comparisons[0].worst_entry == (5,)


def test_the_same_seed_gives_the_same_result():
    once, again = (gradcheck.check(Tanh, normal(5_000), seed=3).comparisons for _ in range(2))
    assert once == again
    assert once != gradcheck.check(Tanh, normal(5_000), seed=4).comparisons

"""A wrong derivative is traced to its place: a method of a Function inside the target, a missing term, a factor."""

import numpy as np
import pytest
import torch

import gradcheck
from gradcheck import Verdict

X = torch.from_numpy(np.random.default_rng(3).standard_normal((3, 4)))
W = torch.from_numpy(np.random.default_rng(4).standard_normal(4))


def check(function, *args, **options):
    return gradcheck.check(function, *args, contracts=False, methods=("reverse", "numeric"), **options)


def diagnoses(result):
    return {row.diagnosis for row in result.comparisons if row.verdict is Verdict.FAIL and row.diagnosis}


class LayerNorm(torch.autograd.Function):
    through_mean, through_scale = 1.0, 1.0

    @staticmethod
    def forward(ctx, x, w):
        mean = x.mean(-1, keepdim=True)
        rstd = torch.rsqrt(((x - mean) ** 2).mean(-1, keepdim=True) + 1e-5)
        xhat = (x - mean) * rstd
        ctx.save_for_backward(xhat, rstd, w)
        return xhat * w

    @classmethod
    def pull(cls, ctx, g):
        xhat, rstd, w = ctx.saved_tensors
        gw = g * w
        mean, scale = gw.mean(-1, keepdim=True), xhat * (gw * xhat).mean(-1, keepdim=True)
        return (gw - cls.through_mean * mean - cls.through_scale * scale) * rstd, (g * xhat).sum(0)

    @staticmethod
    def backward(ctx, g):
        return LayerNorm.pull(ctx, g)


class WithoutMean(LayerNorm):
    through_mean = 0.0

    @staticmethod
    def backward(ctx, g):
        return WithoutMean.pull(ctx, g)


class WithoutScale(LayerNorm):
    through_scale = 0.0

    @staticmethod
    def backward(ctx, g):
        return WithoutScale.pull(ctx, g)


class TwiceTheScale(LayerNorm):
    through_scale = 2.0

    @staticmethod
    def backward(ctx, g):
        return TwiceTheScale.pull(ctx, g)


def make_function(name, forward, backward):
    def save(ctx, x):
        ctx.save_for_backward(x)
        return forward(x)

    methods = {"forward": staticmethod(save), "backward": staticmethod(lambda ctx, g: backward(g, *ctx.saved_tensors))}
    return type(name, (torch.autograd.Function,), methods)


Sine = make_function("Sine", torch.sin, lambda g, x: g * torch.cos(x))
Square = make_function("Square", torch.square, lambda g, x: 2 * g * x)
HalfSquare = make_function("HalfSquare", torch.square, lambda g, x: g * x)
MeanSquare = make_function("MeanSquare", lambda x: (x**2).mean(-1), lambda g, x: g[:, None] * 2 * x)
InputTanh = make_function("InputTanh", torch.tanh, lambda g, x: g * (1 - x**2))
Unweighted = make_function("Unweighted", torch.exp, lambda g, x: torch.exp(x))


class Cube(torch.autograd.Function):
    @staticmethod
    def forward(x):
        return x**3

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 3 * g * x**2

    @staticmethod
    def jvp(ctx, t):
        (x,) = ctx.saved_tensors
        return 2 * t * x**2


@pytest.mark.parametrize("mode", ["full", "probe"])
@pytest.mark.parametrize(
    ("function", "words"),
    [
        (WithoutMean, "the claim lacks the derivative through `mean` in test_blame.py:"),
        (WithoutScale, "the claim lacks the derivative through `rsqrt` in test_blame.py:"),
        (TwiceTheScale, "the claim has 2 times the derivative through `rsqrt` in test_blame.py:"),
    ],
)
def test_a_wrong_term_is_named_by_the_operation_of_the_forward(function, words, mode):
    (diagnosis,) = diagnoses(check(function, X, W, mode=mode))
    assert diagnosis.startswith(f"missing-term: {words}")


def test_an_input_in_the_place_of_the_output_is_named():
    (diagnosis,) = diagnoses(check(InputTanh, X))
    assert diagnosis.startswith("formula: the claim has the factor 1 - x**2 where the derivative has 1 - y**2")


def test_a_cotangent_that_is_ignored_is_named():
    (diagnosis,) = diagnoses(check(Unweighted, X))
    assert diagnosis.startswith("cotangent: the claim does not depend on its cotangent")


def test_the_wrong_function_in_a_chain_of_five_is_named_with_its_values():
    def chain(x):
        return Square.apply(torch.tanh(HalfSquare.apply(Sine.apply(2 * x)))).sum()

    (diagnosis,) = diagnoses(check(chain, X))
    assert diagnosis.startswith("function: HalfSquare.backward at test_blame.py:")
    assert "its gradient for x is" in diagnosis
    assert "(factor: the claim is 0.5 times the derivative on all 12 entries" in diagnosis
    assert "also wrong" not in diagnosis


def test_a_sum_for_a_mean_in_a_function_inside_is_named():
    (diagnosis,) = diagnoses(check(lambda x: torch.tanh(MeanSquare.apply(x)), X))
    assert "function: MeanSquare.backward" in diagnosis
    assert "4 times the derivative" in diagnosis


def test_each_input_is_blamed_on_the_function_that_it_goes_through():
    result = check(lambda a, b: (HalfSquare.apply(a) * 2 + MeanSquare.apply(b)[:, None]).sum(), X, X + 1)
    blamed = {row.wrt: row.diagnosis.split()[1] for row in result.comparisons if row.diagnosis}
    assert blamed == {"a": "HalfSquare.backward", "b": "MeanSquare.backward"}


def test_several_wrong_functions_are_all_named_the_last_applied_first():
    (diagnosis,) = diagnoses(check(lambda x: MeanSquare.apply(HalfSquare.apply(x)), X))
    assert diagnosis.startswith("function: MeanSquare.backward")
    assert "HalfSquare.backward at test_blame.py:" in diagnosis
    assert diagnosis.endswith("also wrong; correct these methods, or check each Function alone")


def test_a_wrong_jvp_inside_is_named_where_the_modes_disagree():
    result = gradcheck.check(lambda x: Cube.apply(x.sin()).sum(), X, contracts=False)
    rows = {(row.method, row.against): row for row in result.comparisons}
    assert rows["reverse", "numeric"].verdict is Verdict.PASS
    assert rows["forward", "numeric"].diagnosis.startswith("function: Cube.jvp at test_blame.py:")


def test_a_wrong_function_beside_a_detached_branch_is_not_called_the_cause():
    result = check(lambda x: (HalfSquare.apply(x) * x.detach()).sum(), X)
    assert not any(diagnosis.startswith(("function", "missing-term")) for diagnosis in diagnoses(result))


@pytest.mark.parametrize("function", [LayerNorm, lambda x, w: Sine.apply(LayerNorm.apply(x, w))])
def test_a_right_function_is_not_blamed(function):
    result = check(function, X, W)
    assert result.verdict is Verdict.PASS
    assert diagnoses(result) == set()


def test_an_undecided_derivative_is_not_blamed():
    result = check(lambda x: Sine.apply(x) + (x * 1e12).sum() - (x * 1e12).sum(), X, exact=False)
    assert result.verdict is Verdict.INCONCLUSIVE
    assert diagnoses(result) == set()


def test_the_methods_of_functions_are_as_before_afterwards():
    before = {name: vars(HalfSquare)[name] for name in ("forward", "backward")}
    check(lambda x: HalfSquare.apply(x).sum(), X)
    assert {name: method for name, method in vars(HalfSquare).items() if name in ("forward", "backward", "jvp")} == before

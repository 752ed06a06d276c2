"""A vjp is linear in its cotangent: a backward that is not linear breaks the contract, a right one keeps it."""

import pytest
import torch
from elementwise import make_function as layer
from torch.nn.functional import layer_norm

import gradcheck
from gradcheck import Verdict, normal

NOT_LINEAR = {
    "ignored": lambda g, x: 2 * x,
    "only its sign": lambda g, x: 2 * x * g.sign(),
}


def linear(result):
    return next((c for c in result.contracts if c.name == "linear-vjp"), None)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("size", [1, 6, 2000])
@pytest.mark.parametrize("name", NOT_LINEAR)
def test_a_backward_that_is_not_linear_in_its_cotangent_fails(name, size, dtype):
    result = gradcheck.check(layer(lambda x: (x**2).sum(), NOT_LINEAR[name]), normal(size), dtype=dtype)
    assert result.verdict is Verdict.FAIL, str(result)
    assert linear(result).verdict is Verdict.FAIL
    assert "not linear in its cotangent" in linear(result).message


@pytest.mark.parametrize("share", [1e-2, 1e-4, 1e-6])
@pytest.mark.parametrize("scale", [1.0, 1e-5])
def test_a_cotangent_ignored_in_a_small_part_is_caught_at_the_size_that_cotangents_have_in_practice(share, scale):
    mostly = layer(lambda x: scale * x.mean(), lambda g, x: scale / x.numel() * ((1 - share) * g + share) * torch.ones_like(x))
    result = gradcheck.check(mostly, normal(50))
    assert linear(result).verdict is Verdict.FAIL


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_cotangent_ignored_in_a_part_is_caught_with_outputs_far_larger_than_the_slopes(dtype):
    share = 1e-3
    mostly = layer(lambda x: x.square().mean(), lambda g, x: 2 * x / x.numel() * ((1 - share) * g + share))
    result = gradcheck.check(mostly, normal(20_000), dtype=dtype)
    assert linear(result).verdict is Verdict.FAIL


def test_a_backward_that_uses_the_size_of_each_cotangent_fails_for_many_outputs():
    result = gradcheck.check(layer(lambda x: x**2, lambda g, x: 2 * x * g.abs()), normal(30))
    assert result.verdict is Verdict.FAIL


def test_it_is_not_tried_without_contracts():
    result = gradcheck.check(layer(lambda x: (x**2).sum(), NOT_LINEAR["ignored"]), normal(6), contracts=False)
    assert linear(result) is None


RIGHT = {
    "a square": layer(lambda x: (x**2).sum(), lambda g, x: 2 * x * g),
    "the sum of a layer norm": lambda x: layer_norm(x, (x.shape[-1],)).sum(),
    "the sum of a softmax": lambda x: torch.softmax(x, -1).sum(),
    "logcumsumexp": lambda x: torch.logcumsumexp(x, 0),
    "a cast inside": lambda x: torch.tanh(x.float()),
    "nothing used": lambda x: (x * 0).sum(),
    "relu": torch.relu,
    "norm": torch.linalg.vector_norm,
    "a determinant": lambda x: torch.linalg.det(x[:4].outer(x[:4]) + torch.eye(4, dtype=x.dtype)),
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("size", [6, 2000])
@pytest.mark.parametrize("name", RIGHT)
def test_a_right_backward_keeps_the_contract(name, size, dtype):
    result = gradcheck.check(RIGHT[name], normal(size), framework="torch", name=name, dtype=dtype)
    assert linear(result).verdict is Verdict.PASS
    assert result.verdict is not Verdict.FAIL, str(result)

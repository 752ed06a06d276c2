"""Random numbers that a function draws: its hand-written derivative draws the same ones, from whatever generator."""

import random
from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest
import torch

import gradcheck
from gradcheck import Reason, Verdict
from gradcheck.backends.generators import find_generators

X = np.linspace(0.3, 2.0, 6).reshape(2, 3)
GENERATOR, TORCH_GENERATOR = np.random.default_rng(0), torch.Generator()


class Holder:
    """Holds a generator in an attribute, a list and a class."""

    shared = np.random.RandomState(1)

    def __init__(self):
        self.rng, self.many = np.random.default_rng(2), [random.Random(3)]

    def from_attribute(self, x):
        return self.rng.random(x.shape)

    def from_class(self, x):
        return self.shared.random_sample(x.shape)

    def from_list(self, x):
        return np.array([self.many[0].random() for _ in range(x.size)]).reshape(x.shape)


def draw_with_python(x):
    return np.array([random.random() for _ in range(x.size)]).reshape(x.shape)


HOLDER = Holder()
NUMPY_DRAWS = {
    "numpy": lambda x: np.random.rand(*x.shape),
    "python": draw_with_python,
    "global": lambda x: GENERATOR.random(x.shape),
    "closure": (lambda rng: lambda x: rng.random(x.shape))(np.random.default_rng(4)),
    "partial": partial(lambda rng, x: rng.random(x.shape), np.random.default_rng(5)),
    "attribute": HOLDER.from_attribute,
    "class": HOLDER.from_class,
    "list": HOLDER.from_list,
}
TORCH_DRAWS = {
    "torch": torch.rand_like,
    "generator": lambda x: torch.rand(x.shape, generator=TORCH_GENERATOR),
}


def make_pair(draw, factor):
    """Return a function with a random mask, and its gradient times `factor` / 2."""
    return (lambda x: ((draw(x) >= 0.4) * x**2).sum()), (lambda x: (draw(x) >= 0.4) * factor * x)


@pytest.mark.parametrize(("factor", "verdict"), [(2, Verdict.PASS), (3, Verdict.FAIL)])
@pytest.mark.parametrize("source", NUMPY_DRAWS)
def test_the_gradient_draws_what_the_function_drew(source, factor, verdict):
    function, gradient = make_pair(NUMPY_DRAWS[source], factor)
    assert gradcheck.check(function, X, gradient=gradient, framework="numpy").verdict is verdict


@pytest.mark.parametrize(("factor", "verdict"), [(2, Verdict.PASS), (3, Verdict.FAIL)])
def test_the_gradient_draws_what_the_jax_function_drew(factor, verdict):
    function, gradient = make_pair(NUMPY_DRAWS["global"], factor)
    assert gradcheck.check(function, jnp.asarray(X, "float32"), gradient=gradient).verdict is verdict


@pytest.mark.parametrize(("factor", "verdict"), [(2, Verdict.PASS), (3, Verdict.FAIL)])
@pytest.mark.parametrize("source", TORCH_DRAWS)
def test_the_gradient_draws_what_the_torch_function_drew(source, factor, verdict):
    function, gradient = make_pair(TORCH_DRAWS[source], factor)
    assert gradcheck.check(function, torch.tensor(X), gradient=gradient).verdict is verdict


@pytest.mark.parametrize(("factor", "verdict"), [(2, Verdict.PASS), (3, Verdict.FAIL)])
def test_a_generator_may_be_an_argument(factor, verdict):
    result = gradcheck.check(
        lambda x, rng: ((rng.random(x.shape) >= 0.4) * x**2).sum(),
        X,
        np.random.default_rng(6),
        gradient=lambda x, rng: (rng.random(x.shape) >= 0.4) * factor * x,
    )
    assert result.verdict is verdict


def test_a_reference_draws_what_the_function_drew():
    function, gradient = make_pair(NUMPY_DRAWS["global"], 2)
    result = gradcheck.check(function, X, gradient=gradient, reference=make_pair(NUMPY_DRAWS["python"], 2)[0])
    assert result.reason is Reason.VALUE_DIFFERS
    assert gradcheck.check(function, X, gradient=gradient, reference=make_pair(NUMPY_DRAWS["global"], 2)[0]).ok


def test_generators_are_afterwards_as_they_were():
    before = GENERATOR.bit_generator.state, HOLDER.rng.bit_generator.state, TORCH_GENERATOR.get_state()
    for draw in (NUMPY_DRAWS["global"], NUMPY_DRAWS["attribute"]):
        gradcheck.check(make_pair(draw, 2)[0], X)
    gradcheck.check(make_pair(TORCH_DRAWS["generator"], 2)[0], torch.tensor(X))
    assert (GENERATOR.bit_generator.state, HOLDER.rng.bit_generator.state) == before[:2]
    assert torch.equal(TORCH_GENERATOR.get_state(), before[2])


def test_generators_of_helpers_and_submodules_are_found():
    def helper():
        return GENERATOR.random()

    module = torch.nn.Sequential(torch.nn.Linear(1, 1))
    module[0].rng = TORCH_GENERATOR
    assert find_generators(lambda: helper()) == [GENERATOR]
    assert find_generators(module) == [TORCH_GENERATOR]


def test_libraries_are_not_searched():
    assert find_generators(np.linalg.norm, torch.nn.functional.dropout, draw_with_python) == []

"""Random numbers that a function draws: its hand-written derivative draws the same ones, from whatever generator."""

import random
import types
from collections.abc import Mapping
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


def helper_with_generator():
    return GENERATOR.random()


def test_generators_of_helpers_and_submodules_are_found():
    module = torch.nn.Sequential(torch.nn.Linear(1, 1))
    module[0].rng = TORCH_GENERATOR
    assert find_generators(lambda: helper_with_generator()) == [GENERATOR]
    assert find_generators(module) == [TORCH_GENERATOR]


def test_libraries_are_not_searched():
    primitive = types.FunctionType(helper_with_generator.__code__, {"GENERATOR": GENERATOR, "__name__": "autograd.tracer"})
    assert find_generators(helper_with_generator) == [GENERATOR]
    assert find_generators(np.linalg.norm, torch.nn.functional.dropout, draw_with_python, primitive) == []


class Unruly:
    """A base of classes whose instances break while they are searched."""

    def __init__(self):
        object.__setattr__(self, "rng", GENERATOR)


class NoItems(Mapping, Unruly):
    def __getitem__(self, key):
        raise KeyError(key)

    def __iter__(self):
        return iter("ab")

    def __len__(self):
        return 2


class NoValues(dict, Unruly):
    def values(self):
        raise ValueError("no values")


class NoDict(Unruly):
    __dict__ = property(lambda self: 1 / 0)


class NumberForDict:
    __dict__ = property(lambda self: 3)


class NoClass(Unruly):
    __class__ = property(lambda self: 1 / 0)


class NoAttributes(Unruly):
    def __getattribute__(self, name):
        raise RuntimeError(name)


class NoState(np.random.RandomState):
    def get_state(self, legacy=True):
        raise NotImplementedError


class FixedState(np.random.RandomState):
    def set_state(self, state):
        raise NotImplementedError


@pytest.mark.parametrize("make", [NoItems, NoValues, NoDict, NumberForDict, NoClass, NoAttributes, NoState, FixedState])
def test_a_check_survives_unruly_objects_and_generators(make):
    unruly = make()

    def square_sum(x):
        return (x**2).sum() if unruly is not None else 0.0

    assert gradcheck.check(square_sum, X, gradient=lambda x: 2 * x, framework="numpy").ok
    assert gradcheck.check(square_sum, torch.tensor(X)).ok


@pytest.mark.parametrize("make", [NoItems, NoClass, NoAttributes])
def test_the_generator_of_an_unruly_object_is_collected(make):
    assert find_generators(make()) == [GENERATOR]


def test_every_temporary_object_is_searched():
    class Fresh:
        """Has an attribute that is made anew at each look, as those of bound methods and proxies are."""

        def __init__(self, depth):
            self.depth = depth

        @property
        def __dict__(self):
            return {"next": Fresh(self.depth - 1) if self.depth else GENERATOR}

    assert find_generators(Fresh(50)) == [GENERATOR]

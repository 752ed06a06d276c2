from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import gradcheck
from gradcheck import Verdict, normal
from gradcheck.trees import flatten

X = jnp.array([0.3, -1.2, 0.7], dtype=jnp.float32)


class Scaled(eqx.Module):
    weight: jax.Array
    inner: eqx.nn.Linear
    activation: object
    steps: int = eqx.field(static=True, default=2)

    def __call__(self, x):
        return self.activation(self.weight * self.inner(x)) * self.steps

    def halved(self, x):
        return self(x) / 2


def scaled(activation=jnp.tanh):
    return Scaled(jnp.array([1.5, -0.5]), eqx.nn.Linear(3, 2, key=jax.random.key(0)), activation)


def test_the_arrays_of_an_equinox_module_are_parameters_by_name():
    module = scaled()
    result = gradcheck.check(module, X)
    assert result.verdict is Verdict.PASS
    names = ["x", "params['weight']", "params['inner.weight']", "params['inner.bias']"]
    assert list(dict.fromkeys(c.wrt for c in result.comparisons)) == names
    assert gradcheck.check(module, normal(3), wrt=("params['weight']",)).verdict is Verdict.PASS


def test_a_wrong_rule_inside_a_module_fails():
    doubled = jax.custom_vjp(jnp.tanh)
    doubled.defvjp(lambda x: (jnp.tanh(x), x), lambda x, g: (2 * g * (1 - jnp.tanh(x) ** 2),))
    result = gradcheck.check(scaled(doubled), X)
    assert {c.wrt for c in result.comparisons if c.verdict is Verdict.FAIL} >= {"x", "params['inner.bias']"}


def test_a_module_as_an_input_and_a_bound_method_as_a_target():
    module = scaled()
    result = gradcheck.check(lambda model, x: jnp.sum(model(x)), module, X)
    assert {c.wrt for c in result.comparisons} == {"model.weight", "model.inner.weight", "model.inner.bias", "x"}
    assert {c.wrt for c in gradcheck.check(module.halved, X).comparisons} >= {"x", "params['inner.weight']"}
    method = gradcheck.check(module.inner.__call__, X)
    assert {c.wrt for c in method.comparisons} == {"x", "params['weight']", "params['bias']"}


def test_the_gradient_of_a_module_by_hand_takes_its_parameters():
    def loss(x, params):
        own = {"linear.weight": jnp.zeros((2, 3)), "linear.bias": jnp.ones(2)}
        return {"x": params["linear.weight"].sum(0), "params": own}

    result = gradcheck.check(Summed(eqx.nn.Linear(3, 2, key=jax.random.key(1))), X, gradient=loss)
    bad = {c.wrt for c in result.comparisons if c.method == "analytic" and c.verdict is Verdict.FAIL}
    assert bad == {"params['linear.weight']"}


class Summed(eqx.Module):
    linear: eqx.nn.Linear

    def __call__(self, x):
        return jnp.sum(self.linear(x))


class Point(NamedTuple):
    a: jax.Array
    rest: dict


@jax.tree_util.register_pytree_node_class
class Pair:
    def __init__(self, a, name):
        self.a, self.name = a, name

    def tree_flatten(self):
        return (self.a,), self.name

    @classmethod
    def tree_unflatten(cls, name, children):
        return cls(*children, name)

    def __call__(self, x):
        assert self.name == "pair"
        return self.a * x


def test_pytrees_of_inputs_and_outputs():
    def function(p):
        return {"y": p.a * p.rest["b"][0], "z": (jnp.sum(p.rest["b"][0]),)}

    result = gradcheck.check(function, Point(X, {"b": [X + 1, 3]}))
    assert {c.wrt for c in result.comparisons} == {"p.a", "p.rest['b'][0]"}


def test_classes_registered_with_jax_are_trees_as_jax_has_them():
    assert flatten(Pair(X, "pair"), "p").paths == ("p[0]",)
    assert flatten(scaled(), "m").paths[:3] == ("m.weight", "m.inner.weight", "m.inner.bias")
    made = flatten(scaled()).rebuild(flatten(scaled()).leaves)
    assert made.steps == 2
    assert np.array_equal(made.weight, scaled().weight)
    assert gradcheck.check(Pair(X, "pair"), X).verdict is Verdict.PASS
    assert gradcheck.check(lambda p, x: p.a * x, Pair(X, "other"), X).verdict is Verdict.PASS

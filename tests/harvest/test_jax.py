from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradcheck
from gradcheck import UsageError, Verdict


@jax.custom_vjp
def product(x, y):
    return x * x * y


product.defvjp(lambda x, y: (x * x * y, (x, y)), lambda saved, g: (2 * saved[0] * saved[1] * g, saved[0] ** 2 * g))


@jax.custom_vjp
def wrong(x):
    return jnp.sin(x)


wrong.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (2 * g * jnp.cos(x),))


@jax.custom_jvp
def exponential(x):
    return jnp.exp(x)


exponential.defjvp(lambda primals, tangents: (jnp.exp(primals[0]), jnp.exp(primals[0]) * tangents[0]))


def loss(w, x):
    """Call rules inside of `scan` and `vmap`."""
    total, _ = jax.lax.scan(lambda carry, row: (carry + wrong(row * w).sum(), None), 0.0, x)
    return total + jax.vmap(lambda row: product(row, w).sum())(x).sum()


def train():
    @partial(jax.jit, donate_argnums=0, static_argnames="rate")
    def step(w, x, rate):
        value, gradient = jax.value_and_grad(loss)(w, x)
        return w - rate * gradient, value

    w, x, values = jnp.arange(3.0) / 3, jnp.ones((4, 3)), []
    for _ in range(3):
        w, value = step(w, x, rate=0.01)
        values.append(float(value))
    return values, np.asarray(w).tolist()


def shapes_of(watched):
    return [(record.home[1], [x.shape for x in record.call.args]) for record in watched.harvest.records]


def test_rules_inside_of_compiled_code_are_checked_on_its_numbers_and_the_program_computes_the_same():
    plain = train()
    with gradcheck.watch() as watched:
        assert train() == plain
    run = watched.check()
    assert sorted(shapes_of(watched)) == [("product", [(4, 3), (3,)]), ("wrong", [(3,)])]
    (record,) = (record for record in watched.harvest.records if record.home[1] == "wrong")
    np.testing.assert_allclose(record.call.args[0], np.arange(3) / 3, rtol=1e-6)
    assert {result.target.partition(":")[2]: result.outcome for result in run.results} == {
        "product": Verdict.PASS,
        "wrong": Verdict.FAIL,
    }
    assert watched.check().counts == run.counts


def test_rules_in_eager_code_and_in_compiled_code_that_is_differentiated():
    with gradcheck.watch() as watched:
        jax.grad(lambda x: exponential(x).sum())(jnp.ones(2))
        jax.grad(lambda x: exponential(x).sum())(jnp.ones(2))
        jax.grad(jax.jit(lambda x: exponential(x).sum()))(jnp.ones(5))
    run = watched.check()
    assert shapes_of(watched) == [("exponential", [(2,)]), ("exponential", [(5,)])]
    assert run.verdict is Verdict.PASS


def test_a_rule_without_numbers_is_said():
    with gradcheck.watch() as watched:
        jax.lax.scan(lambda carry, x: (carry + wrong(x).sum(), None), 0.0, jnp.ones((2, 3)))
    with pytest.raises(UsageError, match=r":wrong: JAX traces its call outside of jit, where it has no numbers$"):
        watched.check()
    ((name, why),) = watched.not_recorded.items()
    assert name.endswith(":wrong")
    assert why == "JAX traces its call outside of jit, where it has no numbers"


def test_a_rule_through_which_no_derivative_passes_is_said():
    with gradcheck.watch() as watched:
        jax.jit(lambda x: wrong(x).sum())(jnp.ones(3))
    with pytest.raises(UsageError, match=r":wrong: no derivative passes through it$"):
        watched.check()
    assert list(watched.not_recorded.values()) == ["no derivative passes through it"]


def test_the_classes_of_jax_are_put_back():
    before = jax.custom_vjp.__call__, jax.custom_jvp.__call__
    with pytest.raises(ZeroDivisionError), gradcheck.watch():
        1 / 0  # noqa: B018 - the error is under test
    assert (jax.custom_vjp.__call__, jax.custom_jvp.__call__) == before


def test_a_case_of_a_rule_under_vmap_says_what_to_change():
    with gradcheck.watch() as watched:
        train()
    assert "  # called under vmap: leave out the first axis of each input that is mapped" in watched.draft()

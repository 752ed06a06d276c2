"""A JAX function rule by rule: the custom rule that is wrong is named, wherever the function applies it."""

from functools import partial

import equinox
import jax
import jax.numpy as jnp
import pytest
from jax import lax

import gradcheck
from gradcheck import Verdict
from gradcheck.errors import UsageError

X = jnp.array([0.3, -0.7, 1.2])


def make_swish(factor=1.0):
    @jax.custom_vjp
    def swish(x):
        return x * jax.nn.sigmoid(x)

    def backward(x, g):
        s = jax.nn.sigmoid(x)
        return (factor * g * (s + x * s * (1 - s)),)

    swish.defvjp(lambda x: (swish(x), x), backward)
    return swish


right, wrong = make_swish(), make_swish(2.0)
LINE_OF_BACKWARD = make_swish.__code__.co_firstlineno + 5


@jax.custom_jvp
def softplus(x):
    return jnp.log1p(jnp.exp(x))


softplus.defjvp(lambda primals, tangents: (softplus(*primals), tangents[0] * jax.nn.sigmoid(*primals)))


@jax.custom_vjp
def mask(x, keep):
    """Its rule has no derivative with respect to `keep`, which is a constant wherever it is used rightly."""
    return x * keep


mask.defvjp(lambda x, keep: (x * keep, keep), lambda keep, g: (g * keep, None))


def composite(swish):
    return lambda x: jax.nn.relu(mask(softplus(swish(jnp.sin(x))), jnp.array([1.0, 0.0, 0.5])))


def checked(function, *inputs, **options):
    return gradcheck.check(function, *(inputs or (X,)), by_layer=True, contracts=False, **options)


def verdicts(result):
    return {layer.path: layer.verdict for layer in result.layers if layer.path}


def test_every_rule_of_a_right_function_passes_and_those_of_jax_are_left_out():
    result = checked(composite(right))
    assert (result.verdict, result.culprit) == (Verdict.PASS, "")
    assert verdicts(result) == {"swish": Verdict.PASS, "softplus": Verdict.PASS, "mask": Verdict.PASS}
    assert [layer.kind for layer in result.layers[1:]] == ["custom_vjp", "custom_jvp", "custom_vjp"]
    assert {layer.calls for layer in result.layers} == {1}


def test_the_wrong_rule_is_named_with_the_place_of_its_backward():
    result = checked(composite(wrong))
    assert result.verdict is Verdict.FAIL
    assert result.culprit == "swish is wrong; every other rule that was checked is right given its inputs"
    assert (result.claim_file, result.claim_line) == (__file__, LINE_OF_BACKWARD)
    assert f"swish  custom_vjp  test_recorded_rules.py:{LINE_OF_BACKWARD}" in str(result)
    assert "the claim is 2 times the derivative" in str(result)


def scan(body):
    return lambda x: lax.scan(lambda carry, y: (body(carry) + y, carry), x, jnp.linspace(0, 1, 18).reshape(6, 3))


WAYS = {
    "jit": lambda f: jax.jit(lambda x: 2 * f(x)),
    "scan in jit": lambda f: jax.jit(scan(f)),
    "cond": lambda f: lambda x: lax.cond(x[0] > 0, f, lambda y: y, x),
    "vmap": lambda f: jax.vmap(lambda y: f(y) + 1),
    "vmap of vmap": lambda f: lambda x: jax.vmap(lambda y: jax.vmap(lambda z: f(y * z))(x))(x),
    "vmap of scan": lambda f: lambda x: jax.vmap(scan(f), in_axes=1)(jnp.outer(x, x)),
    "grad": lambda f: jax.grad(lambda x: jnp.sum(jnp.sin(f(x)))),
    "checkpoint": lambda f: jax.checkpoint(lambda x: jnp.sin(f(x))),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_wrong_rule_is_named_inside_of_transformations(way):
    assert checked(WAYS[way](wrong)).culprit.startswith("swish is wrong")


@pytest.mark.parametrize("way", ["vmap of vmap", "grad"])
def test_a_right_rule_passes_inside_of_transformations(way):
    result = checked(WAYS[way](right))
    assert (result.verdict, verdicts(result)) == (Verdict.PASS, {"swish": Verdict.PASS})


@pytest.mark.parametrize("transform", [jax.jit, jax.vmap])
def test_the_backward_of_a_rule_that_is_transformed_is_located(transform):
    result = gradcheck.check(transform(wrong), X, contracts=False)
    assert (result.verdict, result.claim_line) == (Verdict.FAIL, LINE_OF_BACKWARD)


def test_a_function_that_was_compiled_before_is_looked_into():
    function = jax.jit(lambda x: wrong(x))
    function(X)
    for _ in range(2):
        assert checked(function).culprit == "swish is wrong"
    assert jnp.array_equal(function(X), wrong(X))
    assert jax.custom_vjp.__call__.__module__.startswith("jax.")


def test_of_many_calls_the_first_four_are_checked():
    result = checked(scan(right))
    assert result.layers[1].calls == 6
    assert "swish  custom_vjp ×6  PASS  the first 4 calls were checked" in str(result)


def test_a_whole_batch_is_checked():
    @jax.custom_vjp
    def late(x):
        return jnp.sin(x)

    late.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (g * jnp.cos(x) * (1 + (x > 5)),))
    result = checked(jax.vmap(lambda x, y: late(x) * y, in_axes=(0, None)), jnp.arange(7.0), jnp.array(2.0))
    assert result.culprit == "late is wrong"
    (failure,) = [row for row in result.layers[1].comparisons if row.verdict is Verdict.FAIL]
    assert failure.shape == (7,)


def test_rules_of_one_name_are_numbered():
    assert checked(lambda x: right(x) + wrong(x)).culprit.startswith("swish#2 is wrong")


def test_a_fault_without_a_rule_is_between_the_rules():
    result = checked(lambda x: softplus(x) * lax.stop_gradient(x))
    assert result.culprit == "every rule is right given its inputs: look at what the function does between its rules"


def test_rules_without_a_derivative_here_say_why():
    result = checked(lambda x: lax.cond(x[0] > 0, softplus, wrong, x) + right(jnp.ones(3)))
    messages = {layer.path: layer.message for layer in result.layers if layer.verdict is None and layer.path}
    assert messages == {
        "swish": "not checked: not called at these inputs",
        "swish#2": "not checked: no derivative passes through it",
    }
    assert result.verdict is Verdict.PASS


def test_a_rule_that_cannot_be_called_alone_says_so():
    def function(x):
        def scale_by(factor, y):
            @jax.custom_jvp
            def scale(z):
                return z * factor

            scale.defjvp(lambda primals, tangents: (scale(*primals), tangents[0] * factor))
            return scale(jnp.sin(y))

        return jax.vmap(scale_by)(jnp.arange(3.0), x)

    (layer,) = checked(function).layers[1:]
    assert layer.verdict is None
    assert layer.message.startswith("not checked: it cannot be called alone (")


def test_arguments_that_a_rule_does_not_differentiate_and_other_values_are_handled():
    @partial(jax.custom_vjp, nondiff_argnums=(0, 2))
    def scaled(factor, x, function):
        return {"value": factor * function(x["array"]), "number": x["integers"]}

    scaled.defvjp(
        lambda factor, x, function: (scaled(factor, x, function), x["array"]),
        lambda factor, function, x, g: ({"array": 2 * factor * g["value"] * jnp.cos(x), "integers": None},),
    )
    result = checked(lambda x: scaled(3.0, {"array": x, "integers": jnp.arange(3)}, function=jnp.sin)["value"])
    assert result.culprit == "scaled is wrong"
    assert {row.wrt for row in result.layers[1].comparisons} == {"x['array']"}


def test_a_random_key_is_passed_on():
    @jax.custom_vjp
    def drop(key, x):
        return x * jax.random.bernoulli(key, 0.5, x.shape)

    drop.defvjp(lambda key, x: (drop(key, x), key), lambda key, g: (None, g * jax.random.bernoulli(key, 0.5, g.shape)))
    assert verdicts(checked(lambda x: drop(jax.random.key(1), x))) == {"drop": Verdict.PASS}


def test_rules_of_custom_gradient_and_of_equinox_are_those_of_the_user():
    @jax.custom_gradient
    def sine(x):
        return jnp.sin(x), lambda g: 2 * g * jnp.cos(x)

    @equinox.filter_custom_vjp
    def cosine(x, flag):
        return jnp.cos(x)

    cosine.def_fwd(lambda _, x, flag: (jnp.cos(x), x))
    cosine.def_bwd(lambda x, g, *_: -3 * g * jnp.sin(x))
    assert checked(lambda x: sine(x) * cosine(x, True)).culprit == "sine and cosine are wrong"


def test_the_rules_of_an_equinox_module_are_checked():
    class Block(equinox.Module):
        linear: equinox.nn.Linear

        def __call__(self, x):
            return wrong(self.linear(x)) + softplus(x)

    result = checked(Block(equinox.nn.Linear(3, 3, key=jax.random.key(0))))
    assert result.culprit == "swish is wrong; every other rule that was checked is right given its inputs"


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit])
def test_a_rule_that_raises_is_broken(transform):
    @jax.custom_vjp
    def raising(x):
        return 2 * x

    def forward(x):
        raise ValueError("no kernel for this shape")

    raising.defvjp(forward, lambda _, g: (g,))
    result = checked(transform(lambda x: raising(softplus(x))))
    assert (result.verdict, verdicts(result)["softplus"]) == (Verdict.ERROR, Verdict.PASS)
    assert result.culprit.startswith("raising is broken")
    assert "no kernel for this shape" in str(result)


def test_a_function_that_branches_in_python_is_looked_into():
    assert checked(lambda x: wrong(x) if x[0] > 0 else right(x)).culprit == "swish is wrong"


def test_a_loop_without_reverse_mode_is_looked_into():
    def function(x):
        return lax.while_loop(lambda y: jnp.sum(y) < 9, lambda y: softplus(y) + 1, x)

    assert verdicts(checked(function)) == {"softplus": Verdict.PASS}


def test_a_function_without_rules_is_refused():
    with pytest.raises(UsageError, match=r"by_layer: .* calls no jax\.custom_vjp or jax\.custom_jvp of yours"):
        checked(lambda x: jax.nn.relu(x) + jax.nn.logsumexp(x))


def test_a_function_that_raises_is_an_error():
    result = checked(lambda x: right(x) @ jnp.ones(5))
    assert result.verdict is Verdict.ERROR
    assert "dot_general requires" in result.message

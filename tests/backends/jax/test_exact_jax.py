"""Proofs and refutations of JAX targets: jaxprs of functions, custom rules, loops and branches."""

import math

import numpy as np
import pytest

jax = pytest.importorskip("jax")

import jax.numpy as jnp  # noqa: E402
from jax import lax  # noqa: E402

import gradcheck  # noqa: E402
from gradcheck import Reason, Verdict  # noqa: E402
from gradcheck.backends.jax.arrays import use_x64  # noqa: E402


def draw(*shape, seed=0):
    return np.random.default_rng(seed + len(shape)).normal(size=shape).astype(np.float32)


def check(fn, *args, methods=("reverse", "numeric"), **options):
    return gradcheck.check(fn, *args, framework="jax", exact=True, contracts=False, methods=methods, **options)


def exact_rows(result):
    return [row for row in result.comparisons if row.against == "exact"]


def assert_proved(result):
    assert result.verdict is Verdict.PASS, str(result)
    claims = {(row.wrt, row.method) for row in result.comparisons if row.against == "numeric"}
    assert {(row.wrt, row.method): row.reason for row in exact_rows(result)} == dict.fromkeys(claims, Reason.IDENTITY_PROVED)


def make_rule(forward, backward):
    """Make a custom_vjp: (cotangent, *inputs) -> gradients."""
    rule = jax.custom_vjp(forward)
    rule.defvjp(lambda *inputs: (forward(*inputs), inputs), lambda inputs, g: backward(g, *inputs))
    return rule


def normalise(x, w, b):
    centred = x - x.mean(-1, keepdims=True)
    return centred / jnp.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * w + b


@jax.jit
def loop_and_guard(x):
    x = lax.fori_loop(0, 2, lambda i, y: y * x + i, x)
    return jnp.where(x > 0.5, jnp.log(jnp.where(x > 0.5, x, 1.0)), 0.0) * (x < 3).astype(jnp.float32)


def scan_rnn(w, x):
    def step(h, a):
        h = jnp.tanh(w @ h + a)
        return h, h.sum()

    last, sums = lax.scan(step, jnp.zeros(3, w.dtype), x)
    return last, sums


def gelu_gradient(g, x):
    t = jnp.tanh(ROOT * (x + 0.044715 * x**3))
    return (g * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * ROOT * (1 + 0.134145 * x * x)),)


def softmax_gradient(g, x, axis=-1, factor=1.0):
    y = softmax(x)
    return (y * (g - factor * (g * y).sum(axis, keepdims=True)),)


def rms(x):
    return x / jnp.sqrt((x * x).mean(-1, keepdims=True) + 1e-6)


def rms_gradient(g, x, scale=1.0):
    r = 1 / jnp.sqrt((x * x).mean(-1, keepdims=True) + 1e-6)
    return (r * (g - scale * x * r * r * (g * x).mean(-1, keepdims=True)),)


ROOT = math.sqrt(2 / math.pi)


def softmax(x):
    return jax.nn.softmax(x, axis=-1)


def gelu(x):
    return jax.nn.gelu(x)


logsumexp = jax.custom_jvp(lambda x: jax.nn.logsumexp(x, axis=-1))
logsumexp.defjvp(lambda x, t: (logsumexp(x[0]), (softmax(x[0]) * t[0]).sum(-1)))
MASK = np.random.default_rng(0).random((3, 4)) < 0.5
SQUARE = draw(3, 3) + 4 * np.eye(3, dtype=np.float32)

RIGHT = {
    "softmax by hand": (make_rule(softmax, softmax_gradient), draw(3, 4)),
    "gelu by hand": (make_rule(gelu, gelu_gradient), draw(3, 4)),
    "rms norm by hand": (make_rule(rms, rms_gradient), draw(3, 4)),
    "layer norm": (jax.checkpoint(normalise), draw(30, 4), draw(4), draw(4, seed=1)),
    "recurrent network": (scan_rnn, draw(3, 3), draw(4, 3)),
    "guarded where after a loop": (loop_and_guard, draw(3, 4)),
    "pooled convolution": (
        lambda x, w: lax.reduce_window(
            lax.conv(x, w, (1, 1), "SAME"), -jnp.inf, lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID"
        ),
        draw(1, 2, 4, 4),
        draw(2, 2, 3, 3, seed=1),
    ),
    "indices and products": (lambda x: lax.cumprod(x.at[jnp.array([0, 0])].add(x[1] ** 2)[jnp.array([2, 0])], 0), draw(3, 4)),
    "dropout and drawn noise": (lambda x: jnp.where(MASK, x / 0.5, 0) * jax.random.normal(jax.random.key(0), (4,)), draw(3, 4)),
    "solve": (jnp.linalg.solve, SQUARE, draw(3)),
}  # fmt: skip
WRONG = {
    "axis": (make_rule(softmax, lambda g, x: softmax_gradient(g, x, axis=0)), draw(4, 4), Verdict.FAIL),
    "missing term": (make_rule(rms, lambda g, x: rms_gradient(g, x, 0.0)), draw(3, 4), Verdict.FAIL),
    "1e-12": (make_rule(rms, lambda g, x: rms_gradient(g, x, 1 + 1e-12)), draw(3, 4), Verdict.PASS),
}


@jax.custom_vjp
def call_back(x):
    return jax.pure_callback(np.square, jax.ShapeDtypeStruct(x.shape, x.dtype), x, vmap_method="expand_dims")


call_back.defvjp(lambda x: (call_back(x), x), lambda x, g: (2 * g * x,))
NOT_AVAILABLE = {
    "complex numbers": (lambda x: jnp.abs(jnp.fft.fft(x)), draw(4)),
    "no rule for the primitive eigh": (lambda x: jnp.linalg.eigvalsh(x + x.T), draw(3, 3)),
    "the code rounds to float32": (lambda x: (x.astype(jnp.float32) ** 2).astype(x.dtype), draw(3)),
    "the code calls Python code by `pure_callback`": (call_back, draw(3)),
    "a branch depends on numbers that are equal at these inputs only": (jnp.max, np.ones(3, np.float32)),
}


@pytest.mark.parametrize("name", RIGHT)
def test_right_derivatives_are_proved(name):
    assert_proved(check(*RIGHT[name]))


def test_forward_mode_of_a_custom_rule_is_proved():
    assert_proved(check(logsumexp, draw(3, 4), methods=("reverse", "forward", "numeric")))


def test_second_derivative_of_a_custom_rule_is_proved():
    result = check(RIGHT["softmax by hand"][0], draw(3), order=2)
    assert result.verdict is Verdict.PASS
    assert {(row.order, row.reason) for row in exact_rows(result)} == {(1, Reason.IDENTITY_PROVED), (2, Reason.IDENTITY_PROVED)}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_rules_are_refuted(name):
    function, x, verdict = WRONG[name]
    with use_x64(True):
        result = check(function, x.astype(np.float64))
    (row,) = exact_rows(result)
    assert row.reason in (Reason.IDENTITY_REFUTED, Reason.SMALL_DIFFERENCE)
    assert row.verdict is verdict
    assert row.rel_err > 0


@pytest.mark.parametrize("reason", NOT_AVAILABLE)
def test_what_cannot_be_decided_says_why(reason):
    result = check(*NOT_AVAILABLE[reason])
    assert not exact_rows(result)
    assert f"exact not available: {reason}" in " ".join(result.notes)


def test_branches_that_the_inputs_chose_are_named():
    notes = " ".join(check(lambda x: lax.cond(x[0] > 0, jnp.sin, jnp.cos, jax.nn.relu(x)), draw(3)).notes)
    assert "on the branch taken at these inputs (comparisons, cond, maximum, where)" in notes
    notes = " ".join(check(lambda x: x * (4 * x).astype(int), draw(3)).notes)
    assert "on the branch taken at these inputs (a conversion to integers)" in notes


def tanh_vjp(g, x, w, power=2):
    d = g * (1 - jnp.tanh(w @ x) ** power)
    return w.T @ d, jnp.outer(d, x)


def multiply_neighbours(x):
    return x[1:] * x[:-1]


WRITTEN = {
    "gradient": (lambda x: jnp.sum(x**2), (draw(4),), {"gradient": lambda x: 2 * x}),
    "vjp": (lambda x, w: jnp.tanh(w @ x), (draw(4), draw(3, 4)), {"vjp": tanh_vjp}),
    "jvp": (jnp.sin, (draw(4),), {"jvp": lambda t, x: t * jnp.cos(x)}),
    "jacobian": (multiply_neighbours, (draw(3),), {"jacobian": lambda x: jnp.array([[x[1], x[0], 0], [0, x[2], x[1]]])}),
    "a pytree": (
        lambda p: jnp.sum(p["a"] ** 2) * p["b"],
        ({"a": draw(4), "b": np.float32(2)},),
        {"gradient": lambda p: {"a": 2 * p["a"] * p["b"], "b": jnp.sum(p["a"] ** 2)}},
    ),
    "returned": (lambda x: (jnp.sum(x**2), 2 * x), (draw(4),), {"gradient": "returned"}),
}
WRONG_WRITTEN = {
    "gradient": (jnp.sum, (draw(4),), {"gradient": lambda x: 2 * jnp.ones_like(x) * x}),
    "vjp": (lambda x, w: jnp.tanh(w @ x), (draw(4), draw(3, 4)), {"vjp": lambda g, x, w: tanh_vjp(g, x, w, 1)}),
    "jvp": (jnp.sin, (draw(4),), {"jvp": lambda t, x: -t * jnp.cos(x)}),
    "branch": (lambda x: jnp.sum(jax.nn.relu(x)), (draw(4),), {"gradient": lambda x: (x > -9).astype(x.dtype)}),
}


def check_written(fn, args, derivative):
    return check(fn, *args, **derivative, methods=("analytic", "numeric"))


@pytest.mark.parametrize("form", WRITTEN)
def test_derivatives_that_are_given_beside_the_function_are_proved(form):
    assert_proved(check_written(*WRITTEN[form]))


@pytest.mark.parametrize("form", WRONG_WRITTEN)
def test_wrong_derivatives_that_are_given_beside_the_function_are_refuted(form):
    result = check_written(*WRONG_WRITTEN[form])
    assert result.verdict is Verdict.FAIL
    assert {row.reason for row in exact_rows(result)} == {Reason.IDENTITY_REFUTED}


def test_a_derivative_beside_the_function_that_uses_numpy_says_what_to_do():
    result = check(
        lambda x: jnp.sum(jnp.sin(x)), draw(4), gradient=lambda x: np.cos(x), methods=("analytic", "reverse", "numeric")
    )
    assert {row.method: row.reason for row in exact_rows(result)} == {"reverse": Reason.IDENTITY_PROVED}
    (note,) = [note for note in result.notes if note.startswith("exact not available")]
    assert note.startswith("exact not available for gradient=: the code makes NumPy arrays of JAX arrays")

import inspect
import logging
import warnings
from functools import partial

import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
import pytest
from jax._src import public_test_util

from gradcheck.backends.jax.arrays import use_x64
from gradcheck.compat import InconclusiveWarning, policy
from gradcheck.compat import jax as compat
from gradcheck.errors import UsageError

X = np.array([0.3, -1.2, 0.7])


@pytest.fixture(autouse=True)
def bits(request):
    """Switch to float32, as JAX does, unless a test asks for both with `IN_BOTH`."""
    bits = getattr(request, "param", 32)
    with use_x64(bits == 64):
        yield bits


IN_BOTH = pytest.mark.parametrize("bits", [32, 64], ids=["x32", "x64"], indirect=True)


def make_vjp_rule(factor=2.0):
    """The square with a rule for its vjp."""
    square = jax.custom_vjp(lambda x: x**2)
    square.defvjp(lambda x: (x**2, x), lambda x, g: (factor * x * g,))
    return square


def make_jvp_rule(factor=2.0):
    """The square with a rule for its jvp."""
    square = jax.custom_jvp(lambda x: x**2)
    square.defjvp(lambda primals, tangents: (primals[0] ** 2, factor * primals[0] * tangents[0]))
    return square


def make_wrong_second_derivative():
    """A sine whose rule is right, and whose second derivative lacks its sign."""
    cosine = jax.custom_jvp(jnp.cos)
    cosine.defjvp(lambda primals, tangents: (jnp.cos(*primals), jnp.sin(*primals) * tangents[0]))
    sine = jax.custom_jvp(jnp.sin)
    sine.defjvp(lambda primals, tangents: (jnp.sin(*primals), cosine(*primals) * tangents[0]))
    return sine


@pytest.mark.parametrize("name", ["check_grads", "check_jvp", "check_vjp"])
def test_signatures_are_those_of_jax(name):
    ours, theirs = (inspect.signature(getattr(module, name)).parameters.values() for module in (compat, public_test_util))
    assert [(p.name, p.kind, p.default) for p in ours] == [(p.name, p.kind, p.default) for p in theirs]
    assert getattr(jax.test_util, name) is getattr(public_test_util, name)


@pytest.mark.parametrize(("f", "args", "order", "modes"), [
    (lambda x: jnp.sin(x) * x, (X,), 2, ("fwd", "rev")),
    (lambda x: jnp.sin(x) * x, [X], 2, ["lin"]),
    (lambda x: jnp.sin(x) * x, (X,), 2, "fwd"),
    (lambda x: x**2.5, (3.0,), 4, ("rev",)),
    (lambda x, y, z: x**2 + y * z, X, 1, ("fwd", "rev")),
    (lambda x, n, flags: jnp.where(flags, x * n, x), (X, 3, np.array([True, False, True])), 2, ("fwd", "rev", "lin")),
    (lambda key, x, nothing: x * jax.random.normal(key, (3,)), (jax.random.key(0), X, None), 1, ("fwd", "rev")),
    (lambda x: {"square": x**2, "sign": jnp.sign(x).astype(int), "nothing": None}, (X,), 2, ("fwd",)),
    (lambda params, x: [params["w"] @ x, params["w"].T * params["b"]], ({"w": np.ones((2, 3)), "b": 0.5}, X), 2, ("rev",)),
    (jax.jit(lambda x, w: jnp.tanh(w @ x)), (X, np.ones((2, 3))), 1, ("fwd", "rev", "lin")),
])  # fmt: skip
def test_right_derivatives_pass(f, args, order, modes):
    compat.check_grads(f, args, order, modes)


@IN_BOTH
def test_a_rule_is_checked_in_both_precisions(bits):
    for rule, modes in ((make_vjp_rule, ("rev",)), (make_jvp_rule, ("fwd", "rev"))):
        compat.check_grads(rule(), (X,), 2, modes)
        with pytest.raises(AssertionError, match=r"factor: the claim is 0\.999 times the derivative"):
            compat.check_grads(rule(1.998), (X,), 2, modes)
    compat.check_grads(lambda z: jnp.exp(1j * z) * jnp.conj(z), (X + 0.3j,), 1, ("fwd", "rev"))
    with pytest.raises(AssertionError, match="FAIL"):
        compat.check_grads(make_wrong_second_derivative(), (X,), 2, ("rev",))


@pytest.mark.parametrize(("f", "args", "order", "modes", "said"), [
    (make_vjp_rule(1.998), (X,), 1, ("rev",), "factor: the claim is 0.999 times the derivative"),
    (make_jvp_rule(1.998), (X,), 1, ("fwd",), r"forward \S+, numeric .*factor: the claim is 0.999 times"),
    (make_jvp_rule(1.998), (X,), 1, ("lin",), r"analytic \S+, numeric .*factor: the claim is 0.999 times"),
    (make_wrong_second_derivative(), (X,), 2, ("fwd", "rev"), "FAIL"),
    (make_wrong_second_derivative(), (X,), 2, ("fwd",), "FAIL"),
    (make_wrong_second_derivative(), (X,), 2, ("lin",), "FAIL"),
    (lambda x: jax.lax.stop_gradient(x) * x, (X,), 1, ("rev",), "FAIL"),
])  # fmt: skip
def test_wrong_derivatives_fail(f, args, order, modes, said):
    with pytest.raises(AssertionError, match=said):
        compat.check_grads(f, args, order, modes)


def test_a_wrong_fourth_derivative_fails():
    wrong = make_wrong_second_derivative()
    third_is_wrong = jax.custom_jvp(lambda x: -jnp.cos(x))
    third_is_wrong.defjvp(lambda primals, tangents: (-jnp.cos(*primals), wrong(*primals) * tangents[0]))
    second_integral = jax.custom_jvp(lambda x: -jnp.sin(x))
    second_integral.defjvp(lambda primals, tangents: (-jnp.sin(*primals), third_is_wrong(*primals) * tangents[0]))
    compat.check_grads(second_integral, (0.7,), 3, ("rev",))
    with pytest.raises(AssertionError):
        compat.check_grads(second_integral, (0.7,), 4, ("rev",))


def test_jax_passes_what_fails_here():
    """In float32, JAX's tolerances grow with the number of outputs, until a tangent of zero passes."""
    zero, x = make_jvp_rule(0.0), np.linspace(0.5, 2, 500)
    jax.test_util.check_grads(zero, (x,), 1, modes=("fwd",))
    with pytest.raises(AssertionError, match="zero: the claim is 0 on all 500 entries"):
        compat.check_grads(zero, (x,), 1, modes=("fwd",))


def test_a_wrong_value_of_a_rule_fails_whether_contracts_are_checked_or_not():
    shifted = jax.custom_vjp(lambda x: x**2)
    shifted.defvjp(lambda x: (x**2 + 0.1, x), lambda x, g: (2 * x * g,))
    for check_grads in (jax.test_util.check_grads, compat.check_grads):
        with policy(contracts=False), pytest.raises(AssertionError):
            check_grads(shifted, (X,), 1, ("rev",))


def test_a_product_that_is_not_linear_fails_whether_contracts_are_checked_or_not():
    clamped = jax.custom_vjp(lambda x: x**2)
    clamped.defvjp(lambda x: (x**2, x), lambda x, g: (2 * x * jnp.maximum(g, 0),))
    with policy(contracts=False):
        with pytest.raises(AssertionError, match="linear-vjp"):
            compat.check_grads(clamped, (X,), 1, ("rev",))
        with pytest.raises(AssertionError, match="linear-jvp"):
            compat.check_jvp(lambda x: x**2, lambda p, t: (p[0] ** 2, 2 * p[0] * abs(t[0])), (X,))


def test_the_name_of_a_check_says_what_was_differentiated():
    wrong = make_wrong_second_derivative()
    wrong.__name__ = wrong.__qualname__ = "wrong"
    with pytest.raises(AssertionError, match="\njvp of wrong "):
        compat.check_grads(wrong, (X,), 2, ("fwd",))


def test_a_mode_that_jax_lacks_raises_as_in_jax():
    for check_grads in (jax.test_util.check_grads, compat.check_grads):
        with pytest.raises(TypeError, match="can't apply forward-mode"):
            check_grads(make_vjp_rule(), (X,), 1)


def test_a_missing_second_derivative_is_an_error():
    square = jax.custom_vjp(lambda x: x**2)

    def backward(x, g):
        return (jax.pure_callback(lambda x, g: 2 * x * g, x, x, g),)

    square.defvjp(lambda x: (x**2, x), backward)
    compat.check_grads(square, (X,), 1, ("rev",))
    with pytest.raises(AssertionError, match="once-differentiable"):
        compat.check_grads(square, (X,), 2, ("rev",))


def test_an_exception_of_the_function_reaches_the_caller():
    def refuses(x):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        compat.check_grads(refuses, (X,), 1)
    with pytest.raises(KeyError, match="mine"):
        compat.check_vjp(refuses, partial(jax.vjp, refuses), (X,))


def test_inputs_without_a_derivative_are_refused():
    with pytest.raises(UsageError, match="no differentiable input: n is int"):
        compat.check_grads(lambda n: 2.0 * n, (3,), 1)


def test_an_unknown_mode_is_refused():
    jax.test_util.check_grads(make_jvp_rule(0.0), (X,), 1, modes=("reverse",))  # JAX checks nothing
    with pytest.raises(ValueError, match=r"modes=\('reverse',\): expected a sequence of 'fwd', 'rev', 'lin'"):
        compat.check_grads(make_jvp_rule(), (X,), 1, modes=("reverse",))


@IN_BOTH
@pytest.mark.parametrize(("factor", "tolerances", "passes"), [
    (1.99, {}, False),
    (1.99, {"rtol": 1e-2}, True),
    (1.99, {"rtol": {np.float32: 1e-2, np.float64: 1e-2}}, True),
    (1.99, {"rtol": {np.float16: 1e-2}}, False),
    (1.99, {"atol": 1e-3}, False),
    (1.999, {"rtol": 2e-3}, True),
    (0.0, {"rtol": 2.0, "atol": 100.0}, False),
])  # fmt: skip
def test_tolerances_that_a_call_chooses_count(bits, factor, tolerances, passes):
    check = partial(compat.check_grads, make_vjp_rule(factor), (X,), 1, ("rev",), **tolerances)
    if tolerances == {"rtol": 2e-3} and bits == 32:
        passes = False  # JAX's default in float32, which nobody chose
    if passes:
        check()
    else:
        with pytest.raises(AssertionError):
            check()
    with policy(tolerances="gradcheck"), pytest.raises(AssertionError):
        check()


@pytest.mark.parametrize("modes", [("rev",), ("fwd",), ("lin",)])
def test_second_derivatives_are_checked_where_the_first_is_tolerated(modes):
    def make_cube(second):
        slope = jax.custom_jvp(lambda x: 3.003 * x * x)
        slope.defjvp(lambda p, t: (slope(*p), second * p[0] * t[0]))
        cube = jax.custom_jvp(lambda x: x**3)
        cube.defjvp(lambda p, t: (cube(*p), slope(*p) * t[0]))
        return cube

    compat.check_grads(make_cube(6.006), (X,), 2, modes, rtol=1e-2)
    with pytest.raises(AssertionError):
        compat.check_grads(make_cube(0), (X,), 2, modes, rtol=1e-2)


def test_a_tolerance_counts_where_no_entry_would_be_compared_without_it():
    def fn(x):
        return jnp.sum(make_vjp_rule(1.99)(x).reshape(3, 500), 0)

    compat.check_grads(fn, (np.linspace(0.5, 2, 1500),), 1, ("rev",), rtol=1e-2)
    with pytest.raises(AssertionError):
        compat.check_grads(fn, (np.linspace(0.5, 2, 1500),), 1, ("rev",))


@pytest.mark.parametrize("mode", ["rev", "fwd", "lin"])
def test_a_value_of_a_rule_within_the_tolerance_of_a_call_passes(mode):
    def make_square(factor):
        square = jax.custom_jvp(lambda x: x**2)
        square.defjvp(lambda p, t: (factor * p[0] ** 2, 2 * p[0] * t[0]))
        return square

    for check_grads in (jax.test_util.check_grads, compat.check_grads):
        check_grads(make_square(1.0001), (X,), 1, (mode,), atol=1e-2, rtol=1e-2)
        with pytest.raises(AssertionError, match=r"(?i)not equal|primal"):
            check_grads(make_square(1.5), (X,), 1, (mode,), atol=1e-2, rtol=1e-2)


def test_gradients_that_are_no_tuple_raise_as_in_jax():
    for check_vjp in (jax.test_util.check_vjp, compat.check_vjp):
        with pytest.raises(ValueError, match="tuple"):
            check_vjp(lambda x: x**2, lambda x: (x**2, lambda g: 2 * x * g), (X,))


def test_a_step_size_is_ignored_and_logged_once(caplog):
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            compat.check_grads(jnp.sin, (X,), 1, eps=1e-3 + 1e-9 * jax.config.jax_enable_x64)
        compat.check_grads(jnp.sin, (X,), 1, eps=1e-4)
    (record,) = caplog.records
    assert "has no meaning: gradcheck fits its step sizes to the function" in record.getMessage()


def test_an_inconclusive_check_warns_at_the_call():
    with pytest.warns(InconclusiveWarning) as caught:
        compat.check_grads(jnp.round, (np.full(2, 0.5),), 1, ("rev",))
    assert caught[0].filename == __file__
    with policy(inconclusive="fail"), pytest.raises(AssertionError):
        compat.check_grads(jnp.round, (np.full(2, 0.5),), 1, ("rev",))


def cubes(x, n):
    return x**3 * n, x.sum(), n, jnp.round(x)


def numpy_square(x):
    return np.asarray(x) ** 2


@pytest.mark.parametrize(("f", "f_jvp", "args"), [
    (cubes, partial(jax.jvp, cubes), (X, 3)),
    (numpy_square, lambda primals, tangents: (numpy_square(*primals), 2 * primals[0] * tangents[0]), (X,)),
    (jnp.conj, lambda primals, tangents: (jnp.conj(*primals), jnp.conj(*tangents)), (X + 1j,)),
    (lambda p: p["w"] * p["b"], partial(jax.jvp, lambda p: p["w"] * p["b"]), ({"w": X, "b": 2.0},)),
])  # fmt: skip
def test_a_right_jvp_passes(f, f_jvp, args):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InconclusiveWarning)  # the rounding jumps
        compat.check_jvp(f, f_jvp, args)


@pytest.mark.parametrize(("f", "f_vjp", "args"), [
    (cubes, partial(jax.vjp, cubes), (X, 3)),
    (numpy_square, lambda x: (numpy_square(x), lambda g: (2 * x * g,)), (X,)),
    (lambda z: jnp.exp(1j * z), lambda z: (jnp.exp(1j * z), lambda g: (1j * jnp.exp(1j * z) * g,)), (X + 1j,)),
    (lambda p: p["w"] * p["b"], partial(jax.vjp, lambda p: p["w"] * p["b"]), ({"w": X, "b": 2.0},)),
])  # fmt: skip
def test_a_right_vjp_passes(f, f_vjp, args):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InconclusiveWarning)  # the rounding jumps
        compat.check_vjp(f, f_vjp, args)


def test_wrong_products_fail_with_the_message_of_the_call():
    f, (x,) = jnp.square, (X,)
    with pytest.raises(AssertionError, match=r"^of mine\nFAIL .*factor: the claim is 0.5 times"):
        compat.check_jvp(f, lambda primals, tangents: (f(*primals), primals[0] * tangents[0]), (x,), err_msg="of mine")
    with pytest.raises(AssertionError, match=r"^FAIL .*factor: the claim is 0.5 times"):
        compat.check_vjp(f, lambda x: (f(x), lambda g: (x * g,)), (x,))


def test_a_conjugate_that_is_not_in_the_convention_of_jax_fails():
    def conjugating(z):
        return jnp.exp(1j * z), lambda g: (jnp.conj(1j * jnp.exp(1j * z)) * g,)

    with pytest.raises(AssertionError, match="FAIL"):
        compat.check_vjp(lambda z: jnp.exp(1j * z), conjugating, (X + 1j,))


def test_other_outputs_than_those_of_the_function_fail_as_in_jax():
    for module in (jax.test_util, compat):
        with pytest.raises(AssertionError, match="of mine primal"):
            module.check_vjp(jnp.square, lambda x: (x**3, lambda g: (2 * x * g,)), (X,), err_msg="of mine")
        with pytest.raises(AssertionError, match="primal"):
            module.check_jvp(jnp.square, lambda primals, tangents: (primals[0] ** 3, 2 * primals[0] * tangents[0]), (X,))


CALLS = {
    "check_grads": ((jnp.sin, (X,), 2), {}),
    "check_jvp": ((jnp.sin, partial(jax.jvp, jnp.sin), (X,)), {"rtol": 1e-2}),
    "check_vjp": ((jnp.sin, partial(jax.vjp, jnp.sin), (X,), {np.float32: 1e-1}), {"err_msg": "mine"}),
}


@IN_BOTH
@pytest.mark.parametrize("checker", compat.CHECKERS, ids=lambda checker: checker.attribute)
def test_checkers_describe_the_originals(bits, checker):
    original, arguments = getattr(public_test_util, checker.attribute), CALLS[checker.attribute]
    assert checker.module == public_test_util.__name__
    assert checker.has_passed(original(*arguments[0], **arguments[1]))
    args, kwargs = checker.with_zero_gradient(arguments)
    with pytest.raises(AssertionError):
        original(*args, **kwargs)
    args, kwargs = checker.scale_tolerances(arguments, 1e6)
    original(*args, **kwargs)
    args, kwargs = checker.scale_tolerances(arguments, 1e-12)
    with pytest.raises(AssertionError):
        original(*args, **kwargs)
    defaults = (2e-3, 1e-5)[bits == 64]
    expected = {"atol": defaults, "rtol": defaults}
    expected |= {"check_jvp": {"rtol": 1e-2}, "check_vjp": {"atol": 1e-1} if bits == 32 else {}}.get(checker.attribute, {})
    assert checker.read_tolerances(arguments) == expected
    scaled = {name: pytest.approx(1e-12 * tolerance) for name, tolerance in expected.items()}
    assert checker.read_tolerances((args, kwargs)) == scaled
    with pytest.raises(TypeError):
        checker.translate(((), {"fun": jnp.sin}))

import inspect
import warnings
from collections import namedtuple

import autograd.numpy as anp
import numpy as np
import pytest
from autograd import test_util
from autograd.core import make_vjp
from autograd.extend import defjvp, defvjp, primitive, vspace

from gradcheck.compat import InconclusiveWarning, policy
from gradcheck.compat import autograd as compat
from gradcheck.errors import UsageError

X = np.array([0.3, -1.2, 0.7])
Pair = namedtuple("Pair", "w b")


def make_square(reverse=2.0, forward=2.0, conjugates=False):
    """The square as a primitive of its own, right by default."""
    square = primitive(lambda x: x * x)
    defvjp(square, lambda ans, x: lambda g: g * reverse * (anp.conj(x) if conjugates else x))
    defjvp(square, lambda g, ans, x: g * forward * x)
    return square


def make_wrong_second_derivative():
    """A sine whose derivatives are right, and whose second derivative lacks its sign."""
    cosine, sine = primitive(np.cos), primitive(np.sin)
    defvjp(cosine, lambda ans, x: lambda g: g * anp.sin(x))
    defjvp(cosine, lambda g, ans, x: g * anp.sin(x))
    defvjp(sine, lambda ans, x: lambda g: g * cosine(x))
    defjvp(sine, lambda g, ans, x: g * cosine(x))
    return sine


def unwrap(checker):
    """The innermost function, which a takeover replaces."""
    function = getattr(test_util, checker.attribute)
    for cell in function.__closure__ or ():
        if checker.attribute in getattr(cell.cell_contents, "__name__", ""):
            function = cell.cell_contents
    return function


@pytest.mark.parametrize("name", ["check_grads", "check_jvp", "check_vjp", "combo_check"])
def test_signatures_are_those_of_autograd(name):
    ours, theirs = (inspect.signature(getattr(module, name)).parameters.values() for module in (compat, test_util))
    assert [(p.name, p.kind, p.default) for p in ours] == [(p.name, p.kind, p.default) for p in theirs]


@pytest.mark.parametrize(("f", "args", "options"), [
    (lambda x: anp.sin(x) * x, (X,), {}),
    (make_square(), (X,), {"order": 3}),
    (lambda x: x**3, (2.5,), {}),
    (lambda x: x, (2.5,), {"modes": ["fwd"]}),
    (lambda x, y: anp.dot(x, y), (np.ones((2, 3)), X), {"argnum": (0, 1), "modes": ["rev"]}),
    (lambda n, x: x**n, (3, X), {"argnum": 1, "order": 1}),
    (lambda z: anp.exp(1j * z) * anp.conj(z), (X + 0.2j,), {}),
    (lambda z: anp.real(z) ** 2 + anp.abs(z), (1.0 + 0.2j,), {}),
    (lambda p: p["w"] * p["b"][0] + p["b"][1], ({"w": X, "b": [2.0, np.ones(3)]},), {"modes": ["rev"]}),
    (lambda p: (p[0] * p[1], p[1]), (Pair(X, 2.0),), {"order": 1, "modes": ["rev"]}),
])  # fmt: skip
def test_right_derivatives_pass(f, args, options):
    if not isinstance(args[0], Pair):  # which autograd itself cannot trace
        test_util.check_grads(f, **options)(*args)
        compat.check_grads(f, **options)(*args)


@pytest.mark.parametrize("change", [lambda g: 1 + 0 * g, lambda g: g**2, anp.abs], ids=["ignores", "square", "absolute value"])
@pytest.mark.parametrize("mode", ["fwd", "rev"])
def test_a_product_that_is_not_linear_fails(mode, change):
    square = make_square()
    if mode == "rev":
        defvjp(square, lambda ans, x: lambda g: 2 * x * change(g))
    else:
        defjvp(square, lambda g, ans, x: 2 * x * change(g))
    with pytest.raises(AssertionError, match="linear-"):
        compat.check_grads(square, modes=[mode], order=1)(X)


def test_a_function_that_returns_nan_fails():
    for checker in (test_util, compat):
        with pytest.raises(AssertionError), np.errstate(all="ignore"):
            checker.check_grads(lambda x: anp.nan * x, modes=["rev"], order=1)(X)


@pytest.mark.parametrize(("f", "args", "options", "said"), [
    (make_square(reverse=2 + 1e-6), (X,), {"order": 1}, "analytic .*, numeric .*"),
    (make_square(forward=2 + 1e-6), (X,), {"order": 1}, r"\(JVP\) check of .* failed\nFAIL .* forward .*, numeric .*"),
    (make_square(reverse=0.0), (X,), {"modes": ["rev"]}, "zero: the claim is 0 on all 3 entries"),
    (make_square(conjugates=True), (X + 0.2j,), {"modes": ["rev"]}, "FAIL"),
    (make_wrong_second_derivative(), (X,), {"modes": ["rev"]}, "FAIL"),
    (make_wrong_second_derivative(), (X,), {"modes": ["fwd"]}, "FAIL"),
    (lambda x, y: make_square(reverse=1.0)(y) * x, (2.0, X), {"argnum": 1}, r"∂x\[0\]"),
    (lambda x, y: make_square(reverse=1.0)(y) * x, (2.0, X), {"argnum": (0, 1)}, r"\nFAIL ∂output.* / ∂x\[1\]\[.\]"),
])  # fmt: skip
def test_wrong_derivatives_fail(f, args, options, said):
    with pytest.raises(AssertionError, match=said):
        compat.check_grads(f, **options)(*args)


def test_float32_needs_no_looser_tolerance():
    x = X.astype(np.float32)
    with pytest.raises(AssertionError):
        test_util.check_grads(anp.sin, modes=["rev"])(x)
    compat.check_grads(anp.sin, modes=["rev"])(x)
    with pytest.raises(AssertionError, match=r"factor: the claim is 1\.001 times"):
        compat.check_grads(make_square(reverse=2.002), modes=["rev"])(x)


def test_messages_start_as_those_of_autograd_do():
    wrong = make_wrong_second_derivative()
    wrong.__name__ = "sine"
    for f, said in ((make_square(reverse=2.002), "<lambda>"), (wrong, "vjp_sine")):
        for module in (test_util, compat):
            with pytest.raises(AssertionError, match=rf"^Derivative \(VJP\) check of {said} failed"):
                module.check_grads(f, modes=["rev"])(X)


def test_only_what_a_call_asks_for_is_checked():
    compat.check_grads(make_wrong_second_derivative(), order=1)(X)
    compat.check_grads(make_square(forward=1.0), modes=["rev"])(X)
    compat.check_grads(lambda x, y: x * make_square(reverse=1.0)(y), 0)(2.0, X)
    compat.check_vjp(make_square(forward=1.0), X)
    compat.check_jvp(make_square(reverse=1.0), X)
    with pytest.raises(AssertionError, match="FAIL"):
        compat.check_vjp(make_square(reverse=1.0), X)
    with pytest.raises(AssertionError, match="FAIL"):
        compat.check_jvp(make_square(forward=1.0), X)


def test_all_combinations_of_arguments_are_checked():
    seen = []

    def power(x, y, n=1):
        seen.append((np.shape(x), n))
        return x * y**n

    compat.combo_check(power, (0, 1), order=1, modes=["rev"])([2.0, X], [3.0, X], n=[1, 2])
    assert set(seen) == {((), 1), ((), 2), ((3,), 1), ((3,), 2)}
    with pytest.raises(AssertionError, match="FAIL"):
        compat.combo_check(lambda x, f: f(x), order=1)([1.0, X], [make_square(), make_square(reverse=1.0)])


def test_a_gradient_in_another_space_is_an_error():
    real = primitive(lambda x: x * x)
    defvjp(real, lambda ans, x: lambda g: 2j * g * x)
    for module in (test_util, compat):
        with pytest.raises(AssertionError):
            module.check_vjp(real, X)


def test_what_autograd_cannot_differentiate_raises_as_it_does():
    plain = primitive(lambda x: x * x)
    for module in (test_util, compat):
        with pytest.raises(NotImplementedError, match=r"VJP of .* not defined"):
            module.check_grads(plain, modes=["rev"])(X)
        with pytest.raises(AssertionError):
            module.check_grads(plain, modes=["reverse"])(X)
        with pytest.raises(ZeroDivisionError):
            module.check_grads(lambda x: x / 0)(2.0) if module is test_util else module.check_grads(lambda x: 1 // 0)(2.0)


def test_random_numbers_of_the_caller_stay():
    np.random.seed(3)
    compat.check_grads(lambda x: anp.sin(x))(X)
    assert np.random.randint(1000) == np.random.RandomState(3).randint(1000)


def test_inputs_without_a_derivative_are_refused():
    with pytest.raises((UsageError, TypeError)):
        compat.check_grads(lambda n: 2.0 * n)(3)


def test_an_inconclusive_check_warns_at_the_call():
    def jumps(x):
        return x * np.floor(x._value if hasattr(x, "_value") else x)

    for check in (lambda: compat.check_vjp(jumps, np.ones(2)), lambda: compat.check_grads(jumps, order=1)(np.ones(2))):
        with pytest.warns(InconclusiveWarning) as caught:
            check()
        assert caught[0].filename == __file__
        with policy(inconclusive="fail"), pytest.raises(AssertionError):
            check()


@pytest.mark.parametrize("checker", compat.CHECKERS, ids=lambda checker: checker.attribute)
def test_checkers_describe_the_originals(checker):
    original, f = unwrap(checker), make_square()
    assert list(inspect.signature(original).parameters)[:2] == ["f", "x"]
    assert checker.module == test_util.__name__
    for arguments in (((f, X), {}), ((f,), {"x": (2.0, X)[1]}), ((), {"f": f, "x": X})):
        assert checker.has_passed(original(*arguments[0], **arguments[1]))
        args, kwargs = checker.with_zero_gradient(arguments)
        with pytest.raises(AssertionError):
            original(*args, **kwargs)
        assert checker.translate(arguments).checks
    with pytest.raises(TypeError):
        checker.translate(((f,), {"y": X}))


def test_a_function_without_a_derivative_keeps_its_value():
    (checker, *_) = compat.CHECKERS
    (zero, x), _ = checker.with_zero_gradient(((lambda pair: pair[0] * pair[1], (X, 2.0)), {}))
    pull_back, value = make_vjp(zero, x)
    assert np.array_equal(value, 2 * X)
    assert vspace(x).inner_prod(pull_back(np.ones(3)), x) == 0


def test_both_claims_of_two_orders_are_checked():
    (checker, *_) = compat.CHECKERS
    checks = checker.translate(((make_square(), X), {"order": 2})).checks
    assert [sorted({"vjp", "jvp"} & set(check.arguments)) for check in checks] == [["jvp", "vjp"]]
    names = [part.arguments["name"] for check in checks for part in check.parts]
    assert names == [f"(JVP, VJP) check of {name}" for name in ("<lambda>", "jvp_<lambda>", "vjp_<lambda>")]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        checker.translate(((make_square(), X), {}))

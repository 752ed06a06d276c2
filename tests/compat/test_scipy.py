import inspect
import warnings

import numpy as np
import pytest
from scipy.optimize import _numdiff, _optimize
from scipy.sparse import csr_array

from gradcheck import GradientError, compat
from gradcheck.compat import answer
from gradcheck.compat import scipy as drop_in

X0 = np.array([0.5, -1.0, 2.0])


def square(x, scale=1.0):
    return scale * np.sum(x**2)


def twice(x, scale=1.0):
    return 2 * scale * x


def powers(x):
    return np.array([x[0] * np.sin(x[1]), x[0] ** 2])


def powers_jacobian(x):
    return np.array([[np.sin(x[1]), x[0] * np.cos(x[1])], [2 * x[0], 0]])


def without_annotations(function):
    signature = inspect.signature(function)
    parameters = [p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()]
    return signature.replace(parameters=parameters, return_annotation=inspect.Signature.empty)


@pytest.mark.parametrize(
    ("here", "there"),
    [(drop_in.check_grad, _optimize.check_grad), (drop_in.check_derivative, _numdiff.check_derivative)],
)
def test_the_signatures_are_those_of_the_installed_scipy(here, there):
    assert without_annotations(here) == inspect.signature(there)


def test_checkers_name_what_scipy_has():
    assert [checker.name for checker in drop_in.CHECKERS] == [
        "scipy.optimize.check_grad",
        "scipy.optimize._numdiff.check_derivative",
    ]
    modules = {"scipy.optimize._optimize": _optimize, "scipy.optimize._numdiff": _numdiff}
    assert all(callable(getattr(modules[checker.module], checker.attribute)) for checker in drop_in.CHECKERS)
    assert drop_in.CHECK_GRAD.has_passed(1e-9) is None


@pytest.mark.parametrize(
    ("func", "grad", "x0", "args"),
    [
        (square, twice, X0, ()),
        (square, twice, [0.5, 1.0], (3.0,)),
        (square, twice, [1, 2, 3], ()),
        (square, twice, 2.0, ()),
        (lambda x: np.float64(square(x)), lambda x: list(twice(x)), X0, ()),
        (lambda x: [square(x)], twice, X0, ()),  # a loss of one element
        (lambda x: np.array([square(x)]), lambda x: twice(x)[None], X0, ()),
        (np.sum, lambda x: 1.0, X0, ()),  # SciPy broadcasts
        (lambda x: np.float32(square(x)), twice, X0, ()),
        (powers, powers_jacobian, X0[:2], ()),
        (square, twice, [], ()),
        (lambda x: 3, np.zeros_like, X0, ()),  # a Python integer
    ],
)
def test_a_right_gradient_gives_zero(func, grad, x0, args):
    number = drop_in.check_grad(func, grad, x0, *args)
    assert isinstance(number, np.float64)
    assert number == 0


@pytest.mark.parametrize(
    ("func", "grad", "x0"),
    [
        (square, lambda x: 3 * x, X0),
        (lambda x: [square(x)], lambda x: 3 * x, X0),
        (powers, lambda x: 2 * powers_jacobian(x), X0[:2]),
        (square, lambda x: 2.0, X0),
        (square, lambda x: twice(x) * np.array([1, 1, 0]), X0),
    ],
)
def test_a_wrong_gradient_gives_the_norm_that_scipy_gives(func, grad, x0):
    with pytest.warns(drop_in.GradientWarning, match=r"FAIL ∂output.* analytic"):
        number = drop_in.check_grad(func, grad, x0)
    assert number == pytest.approx(_optimize.check_grad(func, grad, x0), rel=1e-4)


def test_a_wrong_gradient_of_a_tiny_function_is_not_hidden_by_its_size():
    def wrong(x):
        return 3e-12 * x

    assert _optimize.check_grad(square, twice, X0, 1e-12) < 1e-6
    assert _optimize.check_grad(square, lambda x, scale: wrong(x), X0, 1e-12) < 1e-6
    with pytest.warns(drop_in.GradientWarning, match="factor"):
        assert drop_in.check_grad(square, lambda x, scale: wrong(x), X0, 1e-12) == pytest.approx(1 / 3)


def test_a_wrong_gradient_of_a_large_input_gives_at_least_the_largest_difference():
    x = np.arange(1.0, 101.0)
    with pytest.warns(drop_in.GradientWarning):
        assert drop_in.check_grad(square, lambda x: 3 * x, x) >= 100


@pytest.mark.parametrize("grad", [lambda x: np.nan * x, lambda x: twice(x)[:, None]], ids=["not a number", "a column of three"])
def test_a_gradient_without_a_norm_gives_infinity(grad):
    with pytest.warns(drop_in.GradientWarning):
        assert drop_in.check_grad(square, grad, X0) == np.inf


def test_complex_points_and_seeds_that_are_none_are_refused():
    with pytest.raises(TypeError, match="expected real numbers"):
        drop_in.check_grad(square, twice, np.ones(2) + 1j)
    with pytest.raises(TypeError):
        drop_in.check_grad(square, twice, np.ones(2), direction="random", rng="abc")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_function_that_returns_no_number_gives_none(value):
    with pytest.warns(drop_in.InconclusiveWarning):
        assert np.isnan(drop_in.check_grad(lambda x: value, twice, [0.5, 1.0]))


@pytest.mark.parametrize("keywords", [{}, {"seed": 3}, {"rng": 3}, {"rng": np.random.default_rng(3)}])
def test_along_random_directions(keywords):
    assert drop_in.check_grad(square, twice, np.ones(100), direction="random", **keywords) == 0

    def wrong_in_one(x):
        gradient = twice(x)
        gradient[70] = 0
        return gradient

    with pytest.warns(drop_in.GradientWarning, match=r"∂x\[70\]"):
        assert drop_in.check_grad(square, wrong_in_one, np.ones(100), direction="random", **keywords) == pytest.approx(2)


@pytest.mark.parametrize(
    ("func", "grad", "x0", "keywords"),
    [
        (square, twice, np.ones((2, 2)), {}),
        (square, lambda x: twice(x)[:2], X0, {}),
        (lambda x: np.array([[square(x)]]), twice, X0, {}),
        (square, twice, X0, {"direction": "sideways"}),
        (powers, powers_jacobian, X0[:2], {"direction": "random"}),
        (square, twice, X0, {"rng": 1, "seed": 1}),
        (lambda x: 1 / 0, twice, X0, {}),
        (square, lambda x: {}["gradient"], X0, {}),
        (lambda x: (square(x), twice(x)), twice, X0, {}),
    ],
)
def test_exceptions_are_those_of_scipy(func, grad, x0, keywords):
    def raised_by(check_grad):
        try:
            return check_grad(func, grad, x0, **keywords)
        except (TypeError, ValueError, KeyError, ZeroDivisionError) as error:
            return type(error), str(error)

    ours = raised_by(drop_in.check_grad)
    assert isinstance(ours, tuple)
    assert ours == raised_by(_optimize.check_grad)


def test_policies():
    def noisy(x):
        return square(x) + np.random.default_rng().standard_normal()

    with pytest.warns(compat.InconclusiveWarning):
        assert drop_in.check_grad(noisy, twice, X0) == 0
    with compat.policy(inconclusive="fail"), pytest.warns(drop_in.GradientWarning, match="INCONCLUSIVE"):
        assert drop_in.check_grad(noisy, twice, X0) == np.inf
    with compat.policy(tolerances="gradcheck"), pytest.raises(GradientError, match="FAIL ∂output") as error:
        drop_in.check_grad(square, lambda x: 3 * x, X0)
    assert error.value.result.reason.code == "disagrees"


def test_a_step_is_ignored_and_said_so_once(caplog, monkeypatch):
    monkeypatch.setattr(answer, "_SAID", set())
    for epsilon in (drop_in.EPSILON, 1e-3, np.full(3, 1e-5)):
        assert drop_in.check_grad(square, twice, X0, epsilon=epsilon) == 0
    assert [record.getMessage() for record in caplog.records] == [f"gradcheck.compat: {drop_in.NO_STEP}"]


def test_a_loss_that_writes_to_its_input_is_checked_as_scipy_checks_it():
    def writes(x):
        x *= 2
        return square(x)

    assert drop_in.check_grad(writes, lambda x: 8 * x, X0) == 0


def test_the_loss_and_gradient_of_a_regression_with_further_arguments():
    rng = np.random.default_rng(0)
    features, targets, weights = rng.standard_normal((20, 3)), rng.standard_normal(20), rng.uniform(1, 2, 20)

    def huber(w, X, y, epsilon, alpha, sample_weight):
        residual = y - X @ w
        is_outlier = abs(residual) > epsilon
        values = np.where(is_outlier, epsilon * abs(residual) - epsilon**2 / 2, residual**2 / 2)
        slopes = np.where(is_outlier, epsilon * np.sign(residual), residual)
        return sample_weight @ values + alpha * w @ w, -X.T @ (sample_weight * slopes) + 2 * alpha * w

    data = (features, targets, 0.5, 0.1, weights)
    number = drop_in.check_grad(lambda *a: huber(*a)[0], lambda *a: huber(*a)[1], rng.standard_normal(3), *data)
    np.testing.assert_almost_equal(number, 1e-6, 4)
    with pytest.warns(drop_in.GradientWarning):
        assert drop_in.check_grad(lambda *a: huber(*a)[0], lambda *a: -huber(*a)[1], np.ones(3), *data) > 1


def test_a_matrix_of_parameters_that_is_flattened():
    data = np.random.default_rng(0).standard_normal((5, 3))

    def loss(flat):
        return np.sum((data @ flat.reshape(3, 2)) ** 2)

    assert drop_in.check_grad(loss, lambda flat: (2 * data.T @ data @ flat.reshape(3, 2)).ravel(), np.ones(6)) == 0
    with pytest.warns(drop_in.GradientWarning):
        assert drop_in.check_grad(loss, lambda flat: (2 * data.T @ data @ flat.reshape(3, 2)).T.ravel(), np.arange(6.0)) > 1


@pytest.mark.parametrize(
    ("fun", "jac", "x0", "keywords"),
    [
        (powers, powers_jacobian, X0[:2], {}),
        (powers, lambda x: csr_array(powers_jacobian(x)), X0[:2], {}),
        (square, twice, 2.0, {}),
        (square, twice, X0, {"args": (3.0,)}),
        (square, twice, X0, {"kwargs": {"scale": 3.0}}),
        (lambda x: square(np.sqrt(x)), np.ones_like, [0.0, 1.0], {"bounds": (0, np.inf)}),
    ],
)
def test_check_derivative_gives_zero_or_the_error(fun, jac, x0, keywords):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the function is evaluated within the bounds only
        assert drop_in.check_derivative(fun, jac, x0, **keywords) == 0

    def wrong(*args, **kwargs):
        return jac(*args, **kwargs) * 1.5

    with pytest.warns(drop_in.GradientWarning):
        number = drop_in.check_derivative(fun, wrong, x0, **keywords)
    theirs = _numdiff.check_derivative(fun, wrong, x0, **keywords)
    assert number == pytest.approx(max(theirs, 1 / 3), rel=1e-4)


@pytest.mark.parametrize("keywords", [{"bounds": (1, 2)}, {"bounds": ([0, 0], 3)}])
def test_bounds_are_validated_as_scipy_does(keywords):
    with pytest.raises(ValueError, match="bound") as theirs:
        _numdiff.check_derivative(square, twice, X0, **keywords)
    with pytest.raises(ValueError, match="bound") as ours:
        drop_in.check_derivative(square, twice, X0, **keywords)
    assert str(ours.value) == str(theirs.value)


@pytest.mark.parametrize("checker", drop_in.CHECKERS, ids=lambda checker: checker.attribute)
@pytest.mark.parametrize("jac", [powers_jacobian, lambda x: csr_array(powers_jacobian(x))])
def test_a_zero_derivative_is_made_for_a_takeover(checker, jac):
    name = {"check_grad": ("func", "grad"), "check_derivative": ("fun", "jac")}[checker.attribute]
    calls = [((powers, jac, X0[:2]), {}), ((powers,), {name[1]: jac, "x0": X0[:2]})]
    for call in calls:
        arguments = checker.with_zero_gradient(call)
        given = answer.ask(checker.translate(arguments))
        assert given.results[0].reason.code == "disagrees"
        with pytest.warns(drop_in.GradientWarning, match="zero"):
            assert checker.conclude(given, arguments) >= 1

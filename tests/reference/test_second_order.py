from itertools import pairwise

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse
import torch
from planted import check_with_derivative, draw_inputs

from gradcheck import Verdict
from gradcheck.reference import second_order

MODELS = ["rosenbrock", "rosenbrock_gradient", "logistic_loss", "logistic_gradient", "sparse_least_squares"]


def valley(x, last=True, inner=True, shift=0):
    """The valley's gradient with parts left out: the last entry's share, what runs through x_i², the right neighbour."""
    g = np.zeros_like(x)
    r = x[1:] - x[:-1] ** 2
    g[:-1] += -400 * np.roll(x, -shift)[:-1] * r * inner - 2 * (1 - x[:-1])
    g[1:] += 200 * r
    if not last:
        g[-1] = 0
    return g


def hessian_product(v, w, X, y, strength, curvature=True, ridge=1.0, rows=1.0):
    s = 1 / (1 + np.exp(-X @ w))
    return rows * X.T @ ((s * (1 - s) if curvature else 1) * (X @ v)) / len(y) + ridge * strength * v


def logistic(w, X, y, strength, ridge=1.0, rows=1.0):
    return rows * X.T @ (1 / (1 + np.exp(-X @ w)) - y) / len(y) + ridge * strength * w


def repeated_columns_overwrite(w, columns, values, y):
    r = np.sum(values * w[columns], axis=1) - y
    g = np.zeros_like(w)
    g[columns] += 2 / len(y) * r[:, None] * values
    return g


def one_column_of_each_row(w, columns, values, y):
    r = np.sum(values * w[columns], axis=1) - y
    return np.bincount(columns[:, 0], 2 / len(y) * r * values[:, 0], len(w))


def values_forgotten(w, columns, values, y):
    r = np.sum(values * w[columns], axis=1) - y
    return np.bincount(columns.ravel(), np.repeat(2 / len(y) * r, columns.shape[1]), len(w))


SPARSE = second_order.sparse_least_squares_gradient

FAULTS = [
    ("rosenbrock", "factor 2", lambda x: 2 * second_order.rosenbrock_gradient(x)),
    ("rosenbrock", "sign", lambda x: -second_order.rosenbrock_gradient(x)),
    ("rosenbrock", "last entry forgotten", lambda x: valley(x, last=False)),
    ("rosenbrock", "inner derivative forgotten", lambda x: valley(x, inner=False)),
    ("rosenbrock", "neighbour's x", lambda x: valley(x, shift=1)),
    ("rosenbrock", "off by one", lambda x: np.roll(second_order.rosenbrock_gradient(x), 1)),
    ("rosenbrock_gradient", "off-diagonal sign", lambda x: np.abs(second_order.rosenbrock_hessian(x))),
    ("rosenbrock_gradient", "diagonal alone", lambda x: np.diag(np.diag(second_order.rosenbrock_hessian(x)))),
    ("rosenbrock_gradient", "upper triangle alone", lambda x: np.triu(second_order.rosenbrock_hessian(x))),
    ("rosenbrock_gradient", "half the diagonal", lambda x: second_order.rosenbrock_hessian(x) * (1 - np.eye(len(x)) / 2)),
    ("logistic_loss", "factor 2", lambda *i: 2 * second_order.logistic_gradient(*i)),
    ("logistic_loss", "sign", lambda *i: -second_order.logistic_gradient(*i)),
    ("logistic_loss", "missing 1/N", lambda *i: logistic(*i, rows=len(i[2]))),
    ("logistic_loss", "ridge forgotten", lambda *i: logistic(*i, ridge=0.0)),
    ("logistic_loss", "ridge twice", lambda *i: logistic(*i, ridge=2.0)),
    ("logistic_gradient", "factor 2", lambda *i: 2 * second_order.logistic_hessian_product(*i)),
    ("logistic_gradient", "sign", lambda *i: -second_order.logistic_hessian_product(*i)),
    ("logistic_gradient", "without s (1 - s)", lambda *i: hessian_product(*i, curvature=False)),
    ("logistic_gradient", "ridge forgotten", lambda *i: hessian_product(*i, ridge=0.0)),
    ("logistic_gradient", "missing 1/N", lambda *i: hessian_product(*i, rows=len(i[3]))),
    ("logistic_gradient", "only the first row", lambda v, w, X, y, c: hessian_product(v, w, X[:1], y, c)),
    ("sparse_least_squares", "factor 2", lambda *i: 2 * SPARSE(*i)),
    ("sparse_least_squares", "sign", lambda *i: -SPARSE(*i)),
    ("sparse_least_squares", "missing 1/N", lambda *i: len(i[3]) * SPARSE(*i)),
    ("sparse_least_squares", "repeated columns overwrite", repeated_columns_overwrite),
    ("sparse_least_squares", "one column of each row", one_column_of_each_row),
    ("sparse_least_squares", "values forgotten", values_forgotten),
    ("sparse_least_squares", "columns off by one", lambda *i: np.roll(SPARSE(*i), 1)),
]


@pytest.mark.parametrize(("model", "fault", "wrong"), FAULTS, ids=[f"{model}: {fault}" for model, fault, _ in FAULTS])
def test_a_planted_fault_is_caught(model, fault, wrong):
    assert check_with_derivative(getattr(second_order, model), wrong).verdict is Verdict.FAIL


@pytest.mark.parametrize("model", MODELS)
def test_the_twin_computes_the_same_value(model):
    for seed in range(3):
        i = draw_inputs(getattr(second_order, model), seed)
        value = getattr(second_order, f"torch_{model}")(**{name: torch.from_numpy(np.asarray(x)) for name, x in i.items()})
        np.testing.assert_allclose(value.numpy(), getattr(second_order, model)(**i), rtol=1e-12, atol=1e-13)


# Rosenbrock's function


@pytest.mark.parametrize("n", [2, 3, 7])
def test_rosenbrock_its_gradient_and_its_hessian_are_scipy_s(n):
    x = np.random.default_rng(n).standard_normal(n)
    assert second_order.rosenbrock(x) == pytest.approx(scipy.optimize.rosen(x), rel=1e-14)
    np.testing.assert_allclose(second_order.rosenbrock_gradient(x), scipy.optimize.rosen_der(x), rtol=1e-12)
    np.testing.assert_allclose(second_order.rosenbrock_hessian(x), scipy.optimize.rosen_hess(x), rtol=1e-12)


def test_a_quasi_newton_method_finds_the_minimum_at_ones():
    found = scipy.optimize.minimize(second_order.rosenbrock, np.full(5, -0.5), jac=second_order.rosenbrock_gradient)
    np.testing.assert_allclose(found.x, np.ones(5), atol=1e-5)


# Logistic regression


def test_the_hessian_product_is_the_product_with_the_hessian():
    i, v = draw_inputs(second_order.logistic_loss), np.array([0.3, -1.0, 2.0])
    w, X, y, strength = i.values()
    s = 1 / (1 + np.exp(-X @ w))
    H = X.T @ np.diag(s * (1 - s)) @ X / len(y) + strength * np.eye(3)
    np.testing.assert_allclose(second_order.logistic_hessian_product(v, *i.values()), H @ v, rtol=1e-12)


def test_conjugate_gradients_solve_a_system_in_as_many_steps_as_unknowns():
    rng = np.random.default_rng(0)
    A = rng.standard_normal((6, 6))
    H, b = A @ A.T + np.eye(6), rng.standard_normal(6)
    np.testing.assert_allclose(second_order.conjugate_gradients(lambda v: H @ v, b, 6), np.linalg.solve(H, b), rtol=1e-8)


def test_conjugate_gradients_stop_where_nothing_is_left_to_solve():
    assert np.array_equal(second_order.conjugate_gradients(lambda v: v, np.zeros(3), 3), np.zeros(3))


@pytest.mark.parametrize("seed", range(5))
def test_newton_s_method_converges_quadratically(seed):
    w, X, y, strength = draw_inputs(second_order.logistic_loss, seed).values()
    sizes = []
    for _ in range(7):
        sizes.append(np.linalg.norm(second_order.logistic_gradient(w, X, y, strength)))
        w = second_order.newton_step(w, X, y, strength)
    assert sizes[-1] < 1e-14
    squares = [after / before**2 for before, after in pairwise(sizes) if after > 1e-13 and before < 1]
    assert squares
    assert max(squares) < 5


def test_newton_s_method_finds_the_minimum_that_scipy_finds():
    w, X, y, strength = draw_inputs(second_order.logistic_loss).values()
    expected = scipy.optimize.minimize(second_order.logistic_loss, w, (X, y, strength), tol=1e-10).x
    for _ in range(7):
        w = second_order.newton_step(w, X, y, strength)
    np.testing.assert_allclose(w, expected, atol=1e-6)


# The sparse model


def test_the_sparse_model_and_its_gradient_are_those_of_the_sparse_matrix():
    w, columns, values, y = draw_inputs(second_order.sparse_least_squares).values()
    rows = np.repeat(np.arange(len(y)), columns.shape[1])
    A = scipy.sparse.coo_array((values.ravel(), (rows, columns.ravel())), (len(y), len(w))).tocsr()
    assert second_order.sparse_least_squares(w, columns, values, y) == pytest.approx(np.mean((A @ w - y) ** 2), rel=1e-12)
    expected = 2 / len(y) * A.T @ (A @ w - y)
    np.testing.assert_allclose(SPARSE(w, columns, values, y), expected, rtol=1e-10, atol=1e-15)


def test_the_sparse_model_is_large_enough_for_probes_and_has_columns_that_repeat():
    i = draw_inputs(second_order.sparse_least_squares)
    assert len(i["w"]) > 1024
    assert len(np.unique(i["columns"])) < i["columns"].size


def test_a_feature_in_no_row_has_a_gradient_of_exactly_zero():
    i = draw_inputs(second_order.sparse_least_squares)
    unused = np.setdiff1d(np.arange(len(i["w"])), i["columns"])
    assert len(unused) > 0
    assert np.all(SPARSE(**i)[unused] == 0)

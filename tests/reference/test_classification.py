from dataclasses import replace

import numpy as np
import pytest
import scipy.special
import torch
from planted import draw_inputs

import gradcheck
from gradcheck import Verdict
from gradcheck.reference import classification as c
from gradcheck.reference.regression import half_mse_gradient
from gradcheck.results import Reason
from gradcheck.targets.case import get_declared_cases
from gradcheck.targets.specs.spec import array, draw_array

MODELS = [c.logistic, c.softmax_cross_entropy, c.softmax_regression, c.hinge]


# Of a random draw all margins may be below 1, or as many of either label, and a fault make no difference: these are 0.9, 1.1,
# 1.7, 0.7 and -0.7.
OFF_THE_KINK = {**c.AT_MARGIN, "w": array([0.4, -1.6])}


def smooth(model):
    case = get_declared_cases(model)[0]
    return replace(case, kwargs=OFF_THE_KINK, options={}) if model is c.hinge else case


def at_the_kink(model):
    return get_declared_cases(model)[1]


def right(model):
    """The hand-written gradient, by leaf."""
    written, leaves = smooth(model).claims["gradient"], smooth(model).wrt

    def gradient(*inputs):
        found = written(*inputs)
        return found if isinstance(found, dict) else {leaves[0]: found}

    return gradient


def check(case, wrong):
    return gradcheck.check(case.fn, kwargs=case.kwargs, gradient=wrong, wrt=case.wrt, methods=("analytic",), **case.options)


def scale_leaf(model, **factors):
    return lambda *inputs: {leaf: factors.get(leaf, 1) * g for leaf, g in right(model)(*inputs).items()}


def without_one_over_n(model):
    return lambda X, *inputs: {leaf: len(X) * g for leaf, g in right(model)(X, *inputs).items()}


def first_sample_only(model):
    def wrong(X, w, b, y):
        return {leaf: g / len(X) for leaf, g in right(model)(X[:1], w, b, y[:1]).items()}

    return wrong


def linear(X, r):
    return {"w": X.T @ r / len(X), "b": np.sum(r) / len(X)}


def with_the_derivative_of_the_sigmoid(X, w, b, y):
    s = c.sigmoid(X @ w + b)
    return linear(X, (s - y) * s * (1 - s))


def softmax_over_the_samples(Z, y):
    return (c.softmax(Z.T).T - c.one_hot(y, Z.shape[1])) / len(y)


def one_hot_alone(Z, y):
    return -c.one_hot(y, Z.shape[1]) / len(y)


def first_row_only(Z, y):
    gradient = c.softmax_cross_entropy_gradient(Z, y)
    return np.vstack([gradient[:1], 0 * gradient[1:]])


def transposed(X, W, b, y):
    gradient = c.softmax_regression_gradient(X, W, b, y)
    return {**gradient, "W": gradient["W"].T}


def without_one_hot(X, W, b, y):
    P = c.softmax(X @ W + b)
    return {"W": X.T @ P / len(y), "b": np.sum(P, axis=0) / len(y)}


def hinge_counting(active):
    """The gradient of the hinge loss where a margin m counts if active(m)."""

    def gradient(X, w, b, y):
        t = 2 * y - 1
        return linear(X, -t * active(t * (X @ w + b)))

    return gradient


FAULTS = [
    (c.logistic, "sigmoid forgotten", half_mse_gradient),
    (c.logistic, "σ' of the squared error", with_the_derivative_of_the_sigmoid),
    (c.logistic, "labels forgotten", lambda X, w, b, y: c.logistic_gradient(X, w, b, 0 * y)),
    (c.logistic, "labels -1 and 1", lambda X, w, b, y: c.logistic_gradient(X, w, b, 2 * y - 1)),
    (c.logistic, "intercept forgotten in z", lambda X, w, b, y: c.logistic_gradient(X, w, 0, y)),
    (c.softmax_cross_entropy, "one-hot not subtracted", lambda Z, y: c.softmax(Z) / len(y)),
    (c.softmax_cross_entropy, "one-hot alone", one_hot_alone),
    (c.softmax_cross_entropy, "softmax over the samples", softmax_over_the_samples),
    (c.softmax_cross_entropy, "classes off by one", lambda Z, y: c.softmax_cross_entropy_gradient(Z, (y + 1) % 3)),
    (c.softmax_cross_entropy, "softmax twice", lambda Z, y: c.softmax_cross_entropy_gradient(c.softmax(Z), y)),
    (c.softmax_cross_entropy, "the first row alone", first_row_only),
    (c.softmax_regression, "transposed", transposed),
    (c.softmax_regression, "W transposed in Z", lambda X, W, b, y: c.softmax_regression_gradient(X, W.T, b, y)),
    (c.softmax_regression, "one-hot not subtracted", without_one_hot),
    (c.softmax_regression, "intercept forgotten in Z", lambda X, W, b, y: c.softmax_regression_gradient(X, W, 0 * b, y)),
    (c.hinge, "every sample counted", hinge_counting(lambda m: m == m)),
    (c.hinge, "samples beyond the margin counted", hinge_counting(lambda m: m > 1)),
    (c.hinge, "margin 0, as the perceptron's", hinge_counting(lambda m: m < 0)),
    (c.hinge, "labels 0 and 1", lambda X, w, b, y: linear(X, -y * (y * (X @ w + b) < 1))),
]
FAULTS += [(m, "1/N missing", without_one_over_n(m)) for m in MODELS]
FAULTS += [(m, "not summed over the batch", first_sample_only(m)) for m in (c.logistic, c.softmax_regression, c.hinge)]
FAULTS += [(m, "factor 2", scale_leaf(m, **dict.fromkeys(smooth(m).wrt, 2))) for m in MODELS]


@pytest.mark.parametrize(("model", "fault", "wrong"), FAULTS, ids=[f"{m.__name__}: {fault}" for m, fault, _ in FAULTS])
def test_a_wrong_gradient_is_caught(model, fault, wrong):
    assert check(smooth(model), wrong).verdict is Verdict.FAIL


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.__name__)
def test_a_sign_flipped_on_one_leaf_is_blamed_on_that_leaf(model):
    leaf = smooth(model).wrt[-1]
    result = check(smooth(model), scale_leaf(model, **{leaf: -1}))
    assert {row.wrt for row in result.comparisons if row.verdict is Verdict.FAIL} == {leaf}


@pytest.mark.parametrize("weight", [0, 0.5, 1])
def test_at_the_kink_of_the_hinge_every_subgradient_passes_and_is_named(weight):
    result = check(at_the_kink(c.hinge), hinge_counting(lambda m: (m < 1) + weight * (m == 1)))
    assert result.verdict is Verdict.PASS
    assert result.reason is Reason.KINK_SUBGRADIENT


@pytest.mark.parametrize("fault", ["factor 2", "every sample counted"])
def test_at_the_kink_of_the_hinge_a_fault_away_from_it_is_caught(fault):
    wrong = {"factor 2": scale_leaf(c.hinge, w=2, b=2), "every sample counted": hinge_counting(lambda m: m == m)}[fault]
    assert check(at_the_kink(c.hinge), wrong).verdict is Verdict.FAIL


@pytest.mark.parametrize("weight", [-0.5, 1.5, 20])
def test_at_the_kink_of_the_hinge_what_is_no_subgradient_fails(weight):
    result = check(at_the_kink(c.hinge), hinge_counting(lambda m: (m < 1) + weight * (m == 1)))
    assert result.verdict is Verdict.FAIL
    assert result.reason is Reason.OUTSIDE_KINK


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.__name__)
def test_the_twin_computes_the_same_value(model):
    inputs = draw_inputs(model, 1)
    value = getattr(c, f"torch_{model.__name__}")(**{name: torch.from_numpy(x) for name, x in inputs.items()})
    np.testing.assert_allclose(value.numpy(), model(**inputs), rtol=1e-13)


@pytest.mark.parametrize("dtype", ["bool", "int64", "float64"])
def test_the_logistic_loss_is_the_negative_log_likelihood_for_labels_of_any_type(dtype):
    X, w, b, y = draw_inputs(c.logistic, 2).values()
    expected = -np.mean(scipy.special.log_expit(np.where(y, 1, -1) * (X @ w + b)))
    assert c.logistic(X, w, b, y.astype(dtype)) == pytest.approx(expected, rel=1e-13)


def test_the_logistic_loss_neither_overflows_nor_loses_what_is_small():
    X, w, b = np.eye(2), np.array([1000.0, -50.0]), 0.0
    assert c.logistic(X, w, b, np.array([False, False])) == pytest.approx((1000 + np.exp(-50)) / 2, rel=1e-14)
    assert c.logistic(X[1:], w, b, np.array([False])) == pytest.approx(np.exp(-50), rel=1e-14)


def test_softmax_cross_entropy_is_the_negative_log_softmax_of_the_right_class():
    Z, y = draw_inputs(c.softmax_cross_entropy, 3).values()
    expected = -np.mean([scipy.special.log_softmax(row)[k] for row, k in zip(Z, y, strict=True)])
    assert c.softmax_cross_entropy(Z, y) == pytest.approx(expected, rel=1e-13)


def test_softmax_regression_with_two_classes_is_logistic_regression():
    X, w, b, y = draw_inputs(c.logistic, 4).values()
    W, B = np.column_stack([0 * w, w]), np.array([0.0, b])
    assert c.softmax_regression(X, W, B, y.astype(int)) == pytest.approx(c.logistic(X, w, b, y), rel=1e-13)
    two, one = c.softmax_regression_gradient(X, W, B, y.astype(int)), c.logistic_gradient(X, w, b, y)
    np.testing.assert_allclose(two["W"][:, 1], one["w"], rtol=1e-12)
    np.testing.assert_allclose(two["b"][1], one["b"], rtol=1e-12)


def test_the_hinge_loss_at_margins_1_1_2_a_half_and_minus_1():
    inputs = {
        name: draw_array(spec, np.random.default_rng(), {}, "float64") for name, spec in at_the_kink(c.hinge).kwargs.items()
    }
    assert c.hinge(**inputs) == (0.5 + 2) / 5

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from planted import draw_inputs

import gradcheck
from gradcheck import Verdict
from gradcheck.reference import regression as r
from gradcheck.results import Reason
from gradcheck.targets.case import get_declared_cases

MODELS = [r.mse, r.half_mse, r.several_outputs, r.ridge, r.lasso, r.elastic_net, r.huber, r.poisson]
KINKED = [r.lasso, r.elastic_net]


def smooth(model):
    return get_declared_cases(model)[0]


def at_the_kink(model):
    return get_declared_cases(model)[1]


def right(model):
    return smooth(model).claims["gradient"]


def check(case, wrong):
    return gradcheck.check(case.fn, kwargs=case.kwargs, gradient=wrong, wrt=case.wrt, methods=("analytic",), **case.options)


def scale_leaf(model, **factors):
    return lambda *inputs: {leaf: factors.get(leaf, 1) * g for leaf, g in right(model)(*inputs).items()}


def without_one_over_n(model):
    return lambda X, *inputs: {leaf: len(X) * g for leaf, g in right(model)(X, *inputs).items()}


def first_sample_only(model):
    def wrong(X, w, b, y, *penalty):
        return {leaf: g / len(X) for leaf, g in right(model)(X[:1], w, b, y[:1], *penalty).items()}

    return wrong


def transposed(X, W, b, Y):
    gradient = r.several_outputs_gradient(X, W, b, Y)
    return {**gradient, "W": gradient["W"].T}


def intercept_penalised(X, w, b, y, lam):
    gradient = r.ridge_gradient(X, w, b, y, lam)
    return {**gradient, "b": gradient["b"] + 2 * lam * b}


def outliers_dropped(X, w, b, y, delta):
    inside = np.abs(X @ w + b - y) <= delta
    return r.half_mse_gradient(X * inside[:, None], w, b * inside, y * inside)


def averaged_over_the_outputs_too(X, W, b, Y):
    return {leaf: g / W.shape[1] for leaf, g in r.several_outputs_gradient(X, W, b, Y).items()}


FAULTS = [
    (r.mse, "that of 1/(2m)", r.half_mse_gradient),
    (r.half_mse, "that of 1/N", r.mse_gradient),
    (r.mse, "intercept forgotten in r", lambda X, w, b, y: r.mse_gradient(X, w, 0, y)),
    (r.mse, "targets forgotten in r", lambda X, w, b, y: r.mse_gradient(X, w, b, 0 * y)),
    (r.several_outputs, "transposed", transposed),
    (r.several_outputs, "W transposed in R", lambda X, W, b, Y: r.several_outputs_gradient(X, W.T, b, Y)),
    (r.several_outputs, "averaged over the outputs too", averaged_over_the_outputs_too),
    (r.ridge, "penalty forgotten", lambda X, w, b, y, lam: r.ridge_gradient(X, w, b, y, 0.0)),
    (r.ridge, "penalty λ w", lambda X, w, b, y, lam: r.ridge_gradient(X, w, b, y, lam / 2)),
    (r.ridge, "penalty subtracted", lambda X, w, b, y, lam: r.ridge_gradient(X, w, b, y, -lam)),
    (r.ridge, "intercept penalised", intercept_penalised),
    (r.lasso, "penalty forgotten", lambda X, w, b, y, lam: r.half_mse_gradient(X, w, b, y)),
    (r.lasso, "that of ridge", r.ridge_gradient),
    (r.lasso, "penalty λ without sign", lambda X, w, b, y, lam: r.lasso_gradient(X, np.abs(w), b, y, lam)),
    (r.elastic_net, "that of the lasso", lambda X, w, b, y, lam, alpha: r.lasso_gradient(X, w, b, y, lam * alpha)),
    (r.elastic_net, "α and 1 - α exchanged", lambda X, w, b, y, lam, alpha: r.elastic_net_gradient(X, w, b, y, lam, 1 - alpha)),
    (r.elastic_net, "penalty forgotten", lambda X, w, b, y, lam, alpha: r.half_mse_gradient(X, w, b, y)),
    (r.huber, "not clipped", lambda X, w, b, y, delta: r.half_mse_gradient(X, w, b, y)),
    (r.huber, "clipped everywhere", lambda X, w, b, y, delta: r.huber_gradient(X, 1e9 * w, 1e9 * b, 1e9 * y, delta)),
    (r.huber, "outliers dropped", outliers_dropped),
    (r.huber, "2 δ for δ", lambda X, w, b, y, delta: r.huber_gradient(X, w, b, y, 2 * delta)),
    (r.poisson, "exponential forgotten", r.half_mse_gradient),
    (r.poisson, "counts forgotten", lambda X, w, b, y: r.poisson_gradient(X, w, b, 0 * y)),
    (r.poisson, "counts off by one", lambda X, w, b, y: r.poisson_gradient(X, w, b, y + 1)),
]
FAULTS += [(m, "1/N missing", without_one_over_n(m)) for m in MODELS]
FAULTS += [(m, "not summed over the batch", first_sample_only(m)) for m in MODELS]
FAULTS += [(m, "factor 2", scale_leaf(m, **dict.fromkeys(smooth(m).wrt, 2))) for m in MODELS]


@pytest.mark.parametrize(("model", "fault", "wrong"), FAULTS, ids=[f"{m.__name__}: {fault}" for m, fault, _ in FAULTS])
def test_a_wrong_gradient_is_caught(model, fault, wrong):
    assert check(smooth(model), wrong).verdict is Verdict.FAIL


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.__name__)
def test_a_sign_flipped_on_one_leaf_is_blamed_on_that_leaf(model):
    leaf = smooth(model).wrt[-1]
    result = check(smooth(model), scale_leaf(model, **{leaf: -1}))
    assert {row.wrt for row in result.comparisons if row.verdict is Verdict.FAIL} == {leaf}


@pytest.mark.parametrize("model", KINKED, ids=lambda m: m.__name__)
def test_at_the_kink_the_chosen_subgradient_passes_and_is_named(model):
    result = check(at_the_kink(model), right(model))
    assert result.verdict is Verdict.PASS
    assert result.reason is Reason.KINK_SUBGRADIENT
    assert {c.wrt for c in result.comparisons if c.reason is Reason.KINK_SUBGRADIENT} == {"w"}


def lasso_with_sign_of_zero(s):
    def gradient(X, w, b, y, lam):
        chosen = r.lasso_gradient(X, w, b, y, lam)
        return {**chosen, "w": chosen["w"] + lam * s * (w == 0)}

    return gradient


@pytest.mark.parametrize("s", [-1, -0.5, 0.5, 1])
def test_at_the_kink_every_subgradient_passes(s):
    assert check(at_the_kink(r.lasso), lasso_with_sign_of_zero(s)).reason is Reason.KINK_SUBGRADIENT


@pytest.mark.parametrize("s", [-1.1, 1.1, 3])
def test_at_the_kink_what_is_no_subgradient_fails(s):
    assert check(at_the_kink(r.lasso), lasso_with_sign_of_zero(s)).reason is Reason.OUTSIDE_KINK


@pytest.mark.parametrize("model", KINKED, ids=lambda m: m.__name__)
def test_at_the_kink_a_forgotten_penalty_is_caught_at_the_entries_that_are_not_zero(model):
    result = check(at_the_kink(model), lambda X, w, b, y, *penalty: r.half_mse_gradient(X, w, b, y))
    (failed, *_) = [c for c in result.comparisons if c.verdict is Verdict.FAIL]
    assert failed.worst_entry == (1,)


def test_at_its_threshold_the_huber_loss_is_smooth_and_a_fault_is_caught():
    assert check(at_the_kink(r.huber), right(r.huber)).reason is Reason.AGREES
    assert check(at_the_kink(r.huber), outliers_dropped).verdict is Verdict.FAIL


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.__name__)
def test_the_twin_computes_the_same_value(model):
    inputs = draw_inputs(model, 1)
    tensors = {name: torch.from_numpy(x) if isinstance(x, np.ndarray) else x for name, x in inputs.items()}
    value = getattr(r, f"torch_{model.__name__}")(**tensors)
    np.testing.assert_allclose(value.numpy(), model(**inputs), rtol=1e-13)


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.__name__)
def test_the_twin_has_every_case_of_its_model(model):
    twin = get_declared_cases(getattr(r, f"torch_{model.__name__}"))
    assert [c.name for c in twin] == [c.name for c in get_declared_cases(model)]


def with_ones(X):
    return np.column_stack([X, np.ones(len(X))])


@pytest.mark.parametrize("model", [r.mse, r.half_mse], ids=lambda m: m.__name__)
def test_the_gradient_is_zero_at_the_least_squares_solution(model):
    inputs = draw_inputs(model, 2)
    *w, b = np.linalg.lstsq(with_ones(inputs["X"]), inputs["y"])[0]
    gradient = right(model)(inputs["X"], np.array(w), b, inputs["y"])
    np.testing.assert_allclose(np.append(gradient["w"], gradient["b"]), 0, atol=1e-14)


def test_the_gradient_for_several_outputs_is_zero_at_the_least_squares_solution():
    inputs = draw_inputs(r.several_outputs, 3)
    *W, b = np.linalg.lstsq(with_ones(inputs["X"]), inputs["Y"])[0]
    gradient = r.several_outputs_gradient(inputs["X"], np.array(W), b, inputs["Y"])
    np.testing.assert_allclose(np.vstack([gradient["W"], gradient["b"]]), 0, atol=1e-14)


def test_the_gradient_of_ridge_is_zero_at_the_closed_form():
    inputs = draw_inputs(r.ridge, 4)
    A, y, lam = with_ones(inputs["X"]), inputs["y"], inputs["lam"]
    *w, b = np.linalg.solve(A.T @ A + len(y) * lam * np.diag([1, 1, 1, 0]), A.T @ y)
    gradient = r.ridge_gradient(inputs["X"], np.array(w), b, y, lam)
    np.testing.assert_allclose(np.append(gradient["w"], gradient["b"]), 0, atol=1e-14)


def test_the_gradient_of_the_elastic_net_is_zero_at_the_soft_threshold_of_orthogonal_features():
    lam, alpha, N = 0.5, 0.3, 8
    Q = np.linalg.qr(np.column_stack([np.ones(N), np.random.default_rng(5).standard_normal((N, 2))]))[0]
    X, y = np.sqrt(N) * Q[:, 1:], 3 * Q[:, 1] * np.sqrt(N) - 2 * Q[:, 2] * np.sqrt(N)
    c = X.T @ y / N
    w = np.sign(c) * (np.abs(c) - lam * alpha) / (1 + lam * (1 - alpha))
    gradient = r.elastic_net_gradient(X, w, np.array(0.0), y, lam, alpha)
    np.testing.assert_allclose(np.append(gradient["w"], gradient["b"]), 0, atol=1e-14)


def test_the_elastic_net_lies_between_lasso_and_ridge():
    inputs = draw_inputs(r.lasso, 6)
    lasso, net = r.lasso(**inputs), [r.elastic_net(**inputs, alpha=alpha) for alpha in (0, 1)]
    assert net[1] == pytest.approx(lasso, rel=1e-14)
    assert 2 * net[0] == pytest.approx(r.ridge(**inputs), rel=1e-14)


def test_the_huber_loss_is_that_of_scipy():
    inputs = draw_inputs(r.huber, 7)
    residuals = inputs["X"] @ inputs["w"] + inputs["b"] - inputs["y"]
    expected = np.mean(scipy.special.huber(inputs["delta"], residuals))
    assert r.huber(**inputs) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("dtype", ["int64", "float64"])
def test_the_poisson_loss_is_the_negative_log_likelihood_for_counts_of_either_type(dtype):
    X, w, b, y = draw_inputs(r.poisson, 8).values()
    likelihood = scipy.stats.poisson.logpmf(y, np.exp(X @ w + b)) + scipy.special.gammaln(y + 1)
    assert r.poisson(X, w, b, y.astype(dtype)) == pytest.approx(-np.mean(likelihood), rel=1e-13)

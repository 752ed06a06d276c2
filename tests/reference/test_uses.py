import numpy as np
import pytest
import torch
from planted import check_with_derivative, draw_inputs

from gradcheck import Verdict
from gradcheck.reference import uses

MODELS = ["network", "class_score", "classifier_loss", "validation_loss"]


def only_first_row(cotangent, X, W, b, v):
    g = np.zeros_like(X)
    g[:1] = uses.network_vjp(cotangent[:1], X[:1], W, b, v)
    return g


def network(cotangent, X, W, b, v, slope=True, outgoing=True):
    h = np.tanh(X @ W + b)
    inner = 1 - h**2 if slope else np.ones_like(h)
    return cotangent[:, None] * inner * (v if outgoing else 1) @ W.T


def flipped_kernel(image, kernels, V, y):
    h = np.tanh(uses.convolution(image, kernels))
    delta = (y @ V)[:, None, None] * (1 - h**2) / h[0].size
    g = np.zeros_like(image)
    for p, q in np.ndindex(3, 2):
        g[:, p : p + h.shape[1], q : q + h.shape[2]] += np.tensordot(kernels[:, :, 2 - p, 1 - q].T, delta, axes=1)
    return g


def one_place_off(image, kernels, V, y):
    return np.roll(uses.class_score_gradient(image, kernels, V, y), 1, axis=2)


def classifier(X, Y, W, b, V, axis=1, labels=1.0, slope=True):
    h = np.tanh(X @ W + b)
    e = np.exp(h @ V)
    delta = (e / np.sum(e, axis=axis, keepdims=True) - labels * Y) / len(X)
    return (delta @ V.T * (1 - h**2 if slope else 1)) @ W.T


def hyper(learning_rate, strength, w, X, y, X_val, y_val, through=True, ridge=1.0, shift=0, first=0, rows=True):
    """The hyper-gradient with parts left out: what runs through earlier steps, the ridge's share, the right time, steps."""
    path = uses.sgd_iterates(learning_rate, strength, w, X, y)
    v = X_val.T @ (X_val @ path[-1] - y_val) / (len(y_val) if rows else 1)
    d_rate = d_strength = 0.0
    for t in reversed(range(len(X))[first:]):
        w_t = path[t + shift]
        d_rate -= v @ (X[t].T @ (X[t] @ w_t - y[t]) / len(y[t]) + ridge * strength * w_t)
        d_strength -= learning_rate * (v @ w_t)
        if through:
            v = v - learning_rate * (X[t].T @ (X[t] @ v) / len(y[t]) + ridge * strength * v)
    return {"learning_rate": d_rate, "strength": d_strength}


def without(leaf):
    def wrong(*i):
        return {**uses.validation_loss_gradient(*i), leaf: np.zeros(())}

    return wrong


FAULTS = [
    ("network", "factor 2", lambda c, *i: 2 * uses.network_vjp(c, *i)),
    ("network", "sign", lambda c, *i: -uses.network_vjp(c, *i)),
    ("network", "cotangent ignored", lambda c, *i: uses.network_vjp(np.ones_like(c), *i)),
    ("network", "only the first row", only_first_row),
    ("network", "slope of tanh forgotten", lambda c, *i: network(c, *i, slope=False)),
    ("network", "outgoing weights forgotten", lambda c, *i: network(c, *i, outgoing=False)),
    ("class_score", "factor 2", lambda *i: 2 * uses.class_score_gradient(*i)),
    ("class_score", "sign", lambda *i: -uses.class_score_gradient(*i)),
    ("class_score", "missing 1/places", lambda *i: 9 * uses.class_score_gradient(*i)),
    ("class_score", "another class", lambda *i: uses.class_score_gradient(*i[:3], np.roll(i[3], 1))),
    ("class_score", "all classes", lambda *i: uses.class_score_gradient(*i[:3], np.ones(4))),
    ("class_score", "kernel not flipped back", flipped_kernel),
    ("class_score", "one place off", one_place_off),
    ("class_score", "channels swapped", lambda *i: uses.class_score_gradient(*i)[::-1]),
    ("classifier_loss", "factor 2", lambda *i: 2 * uses.classifier_loss_gradient(*i)),
    ("classifier_loss", "sign", lambda *i: -uses.classifier_loss_gradient(*i)),
    ("classifier_loss", "missing 1/N", lambda X, *i: len(X) * uses.classifier_loss_gradient(X, *i)),
    ("classifier_loss", "softmax over the batch", lambda *i: classifier(*i, axis=0)),
    ("classifier_loss", "labels forgotten", lambda *i: classifier(*i, labels=0.0)),
    ("classifier_loss", "slope of tanh forgotten", lambda *i: classifier(*i, slope=False)),
    ("validation_loss", "no dependence on the learning rate", without("learning_rate")),
    ("validation_loss", "no dependence on the strength", without("strength")),
    ("validation_loss", "only the last step", lambda *i: hyper(*i, first=-1)),
    ("validation_loss", "first step forgotten", lambda *i: hyper(*i, first=1)),
    ("validation_loss", "Hessians forgotten", lambda *i: hyper(*i, through=False)),
    ("validation_loss", "ridge forgotten", lambda *i: hyper(*i, ridge=0.0)),
    ("validation_loss", "off by one in time", lambda *i: hyper(*i, shift=1)),
    ("validation_loss", "missing 1/M", lambda *i: hyper(*i, rows=False)),
]


@pytest.mark.parametrize(("model", "fault", "wrong"), FAULTS, ids=[f"{model}: {fault}" for model, fault, _ in FAULTS])
def test_a_planted_fault_is_caught(model, fault, wrong):
    assert check_with_derivative(getattr(uses, model), wrong).verdict is Verdict.FAIL


@pytest.mark.parametrize("leaf", ["learning_rate", "strength"])
@pytest.mark.parametrize("factor", [2, -1])
def test_a_fault_of_one_hyper_parameter_is_blamed_on_it_alone(leaf, factor):
    def wrong(*i):
        d = uses.validation_loss_gradient(*i)
        return {**d, leaf: factor * d[leaf]}

    result = check_with_derivative(uses.validation_loss, wrong)
    assert {c.wrt for c in result.comparisons if c.verdict is Verdict.FAIL} == {leaf}


def test_the_hyper_gradient_with_nothing_left_out_is_the_declared_one():
    i = draw_inputs(uses.validation_loss)
    assert hyper(**i) == pytest.approx(uses.validation_loss_gradient(**i), rel=1e-12)


@pytest.mark.parametrize("model", MODELS)
def test_the_twin_computes_the_same_value(model):
    for seed in range(3):
        i = draw_inputs(getattr(uses, model), seed)
        value = getattr(uses, f"torch_{model}")(**{name: torch.from_numpy(np.asarray(x)) for name, x in i.items()})
        np.testing.assert_allclose(value.numpy(), getattr(uses, model)(**i), rtol=1e-12, atol=1e-14)


# Feature importance


def test_importance_is_exactly_zero_for_a_feature_that_is_not_used():
    i = draw_inputs(uses.network)
    i["W"][1] = 0
    importance = uses.feature_importance(**i)
    assert importance[1] == 0
    assert np.all(importance[[0, 2]] > 0)


def test_a_feature_with_weights_three_times_as_large_is_three_times_as_important():
    i = draw_inputs(uses.network)
    i["W"][2] = 3 * i["W"][0]
    importance = uses.feature_importance(**i)
    assert importance[2] == pytest.approx(3 * importance[0], rel=1e-12)


def test_importance_does_not_depend_on_a_feature_s_unit_when_scaled_by_its_deviation():
    i = draw_inputs(uses.network)
    metres = uses.feature_importance(**i, scale=i["X"].std(0))
    i["X"][:, 0] *= 1000
    i["W"][0] /= 1000
    assert uses.feature_importance(**i, scale=i["X"].std(0)) == pytest.approx(metres, rel=1e-9)


def test_the_importance_of_a_nearly_linear_network_is_the_size_of_the_regression_s_weights():
    i = draw_inputs(uses.network)
    i["W"] *= 1e-4
    i["b"] *= 0
    assert uses.feature_importance(**i) == pytest.approx(np.abs(i["W"] @ i["v"]), rel=1e-5)


# Saliency map


def test_the_saliency_map_is_the_largest_size_of_pytorch_s_gradient_over_the_channels():
    i = {name: torch.from_numpy(x) for name, x in draw_inputs(uses.class_score).items()}
    gradient = torch.func.grad(uses.torch_class_score)(*i.values())
    found = uses.saliency_map(**draw_inputs(uses.class_score))
    np.testing.assert_allclose(found, gradient.abs().amax(0).numpy(), rtol=1e-10)
    assert found.shape == draw_inputs(uses.class_score)["image"].shape[1:]


def test_pixels_that_no_kernel_sees_have_no_saliency():
    i = draw_inputs(uses.class_score)
    i["kernels"][:, :, 0, :] = 0
    saliency = uses.saliency_map(**i)
    assert np.all(saliency[0] == 0)
    assert np.all(saliency[1:] > 0)


def test_a_convolution_is_pytorch_s():
    i = draw_inputs(uses.class_score)
    image, kernels = torch.from_numpy(i["image"]), torch.from_numpy(i["kernels"])
    expected = torch.nn.functional.conv2d(image[None], kernels)[0]
    np.testing.assert_allclose(uses.convolution(i["image"], i["kernels"]), expected.numpy(), rtol=1e-12, atol=1e-13)


# Adversarial step


@pytest.mark.parametrize("seed", range(20))
def test_the_loss_rises_along_the_sign_of_the_input_gradient(seed):
    i = draw_inputs(uses.classifier_loss, seed)
    size = 1e-3
    rise = uses.classifier_loss(**{**i, "X": uses.adversarial_step(**i, size=size)}) - uses.classifier_loss(**i)
    assert rise == pytest.approx(size * np.sum(np.abs(uses.classifier_loss_gradient(**i))), rel=0.1)
    assert rise > 0


@pytest.mark.parametrize("seed", range(5))
def test_no_other_step_of_that_size_raises_the_loss_as_much(seed):
    i = draw_inputs(uses.classifier_loss, seed)
    step, rng = 1e-4, np.random.default_rng(seed)
    best = uses.classifier_loss(**{**i, "X": uses.adversarial_step(**i, size=step)})
    for _ in range(50):
        other = i["X"] + step * rng.choice([-1.0, 1.0], i["X"].shape)
        assert uses.classifier_loss(**{**i, "X": other}) <= best


def test_every_entry_of_an_adversarial_step_has_the_size_asked_for():
    i = draw_inputs(uses.classifier_loss)
    np.testing.assert_allclose(np.abs(uses.adversarial_step(**i, size=0.25) - i["X"]), 0.25)


# Hyper-gradient


def long_training():
    """The same batch in each of many steps: training has converged to the ridge solution."""
    i = draw_inputs(uses.validation_loss)
    X, y = i["X"][0], i["y"][0]
    return {**i, "learning_rate": 0.2, "strength": 0.3, "X": np.stack([X] * 1500), "y": np.stack([y] * 1500)}


def test_after_long_training_the_learning_rate_no_longer_matters():
    i = long_training()
    assert abs(uses.validation_loss_gradient(**i)["learning_rate"]) < 1e-12


def test_after_long_training_the_strength_s_gradient_is_that_of_the_ridge_solution():
    i = long_training()
    X, y, X_val, y_val = i["X"][0], i["y"][0], i["X_val"], i["y_val"]
    H = X.T @ X / len(y) + i["strength"] * np.eye(3)
    w = np.linalg.solve(H, X.T @ y / len(y))
    expected = -(X_val.T @ (X_val @ w - y_val) / len(y_val)) @ np.linalg.solve(H, w)
    assert uses.validation_loss_gradient(**i)["strength"] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("seed", range(10))
def test_a_hyper_step_lowers_the_validation_loss_and_keeps_both_positive(seed):
    i = draw_inputs(uses.validation_loss, seed)
    rate, strength = uses.hyper_step(*i.values(), size=0.01)
    assert rate > 0
    assert strength > 0
    assert uses.validation_loss(**{**i, "learning_rate": rate, "strength": strength}) < uses.validation_loss(**i)


def test_the_iterates_are_those_of_pytorch_s_sgd_with_weight_decay():
    i = draw_inputs(uses.validation_loss)
    w = torch.from_numpy(i["w"].copy()).requires_grad_()
    optimizer = torch.optim.SGD([w], lr=float(i["learning_rate"]), weight_decay=float(i["strength"]))
    path = [i["w"]]
    for X, y in zip(i["X"], i["y"], strict=True):
        optimizer.zero_grad()
        (torch.nn.functional.mse_loss(torch.from_numpy(X) @ w, torch.from_numpy(y)) / 2).backward()
        optimizer.step()
        path.append(w.detach().numpy().copy())
    found = uses.sgd_iterates(i["learning_rate"], i["strength"], i["w"], i["X"], i["y"])
    np.testing.assert_allclose(np.stack(found), np.stack(path), rtol=1e-12)

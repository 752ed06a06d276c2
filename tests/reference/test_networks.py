import numpy as np
import pytest
import scipy.signal
import scipy.special
import torch
from planted import draw_inputs, find_failing_leaves, scale_leaf
from torch.nn import functional

from gradcheck.reference import networks

MODELS = ["mlp", "mlp_classifier", "convolution", "rnn", "embedding"]


def without_one_over_n(right, X, **given):
    return {leaf: len(X) * g for leaf, g in right(X, **given).items()}


def mlp_with_transposed_weight(right, X, T, **w):
    g = right(X, T, **w)
    return g | {"W2": g["W2"].T}


def mlp_with_bias_of_first_sample(right, X, T, **w):
    return right(X, T, **w) | {"b1": right(X[:1], T[:1], **w)["b1"] / len(X)}


def classifier_without_target(right, X, T, **w):
    return right(X, 0 * T, **w)


def classifier_without_derivative_of_tanh(right, X, T, W1, b1, W2, b2):
    A = np.tanh(X @ W1.T + b1) @ W2.T + b2
    delta1 = (scipy.special.softmax(A, axis=1) - T) @ W2 / len(X)
    return right(X, T, W1, b1, W2, b2) | {"W1": delta1.T @ X, "b1": delta1.sum(0)}


def convolution_with_unflipped_kernel(right, dY, X, K, b):
    return right(dY, X, K[:, :, ::-1, ::-1], b)


def convolution_with_transposed_kernel(right, dY, X, K, b):
    g = right(dY, X, K, b)
    return g | {"K": g["K"].swapaxes(2, 3)}


def convolution_with_bias_of_first_sample(right, dY, X, K, b):
    return right(dY, X, K, b) | {"b": dY[0].sum((1, 2))}


def convolution_with_bias_of_one_place(right, dY, X, K, b):
    return right(dY, X, K, b) | {"b": dY[:, :, 0, 0].sum(0)}


def rnn_truncated_to_the_last_step(right, X, y, h0, v, **w):
    return right(X[:, -1:], y, networks._states(X, h0, **w)[-2], v=v, **w)


def rnn_without_the_first_step(right, X, y, h0, v, **w):
    return right(X[:, 1:], y, networks._states(X, h0, **w)[1], v=v, **w)


def rnn_with_transposed_recurrence(right, X, y, **w):
    g = right(X, y, **w)
    return g | {"U": g["U"].T}


def embedding_overwritten(right, dY, table, ids):
    dE = np.zeros_like(table)
    dE[ids] = dY
    return {"table": dE}


def embedding_off_by_one(right, dY, table, ids):
    return right(dY, table, ids - 1)


def embedding_of_first_sample(right, dY, table, ids):
    return right(dY[:1], table, ids[:1])


MLP, CLASSIFIER = {"W1", "b1", "W2", "b2", "W3", "b3"}, {"W1", "b1", "W2", "b2"}
FAULTS = [
    ("mlp", "factor 2", scale_leaf("b3", 2), {"b3"}),
    ("mlp", "sign", scale_leaf("b2", -1), {"b2"}),
    ("mlp", "missing 1/N", without_one_over_n, MLP),
    ("mlp", "transposed weight", mlp_with_transposed_weight, {"W2"}),
    ("mlp", "missing sum over the batch", mlp_with_bias_of_first_sample, {"b1"}),
    ("mlp_classifier", "factor 2", scale_leaf("W2", 2), {"W2"}),
    ("mlp_classifier", "sign", scale_leaf("W1", -1), {"W1"}),
    ("mlp_classifier", "missing target", classifier_without_target, CLASSIFIER),
    ("mlp_classifier", "missing derivative of tanh", classifier_without_derivative_of_tanh, {"W1", "b1"}),
    ("convolution", "factor 2", scale_leaf("b", 2), {"b"}),
    ("convolution", "sign", scale_leaf("K", -1), {"K"}),
    ("convolution", "kernel not flipped", convolution_with_unflipped_kernel, {"X"}),
    ("convolution", "kernel transposed", convolution_with_transposed_kernel, {"K"}),
    ("convolution", "missing sum over the batch", convolution_with_bias_of_first_sample, {"b"}),
    ("convolution", "missing sum over the places", convolution_with_bias_of_one_place, {"b"}),
    ("rnn", "factor 2", scale_leaf("b", 2), {"b"}),
    ("rnn", "sign", scale_leaf("v", -1), {"v"}),
    ("rnn", "missing 1/N", without_one_over_n, {"h0", "W", "U", "b", "v"}),
    ("rnn", "truncated to one step", rnn_truncated_to_the_last_step, {"h0", "W", "U", "b"}),
    ("rnn", "off by one in time", rnn_without_the_first_step, {"h0", "W", "U", "b"}),
    ("rnn", "transposed weight", rnn_with_transposed_recurrence, {"U"}),
    ("embedding", "factor 2", scale_leaf("table", 2), {"table"}),
    ("embedding", "sign", scale_leaf("table", -1), {"table"}),
    ("embedding", "repeated ids overwritten", embedding_overwritten, {"table"}),
    ("embedding", "off by one", embedding_off_by_one, {"table"}),
    ("embedding", "missing sum over the batch", embedding_of_first_sample, {"table"}),
]


@pytest.mark.parametrize(("name", "corrupt", "leaves"), [pytest.param(n, s, v, id=f"{n}: {f}") for n, f, s, v in FAULTS])
def test_a_fault_is_caught_where_it_is(name, corrupt, leaves):
    assert find_failing_leaves(getattr(networks, name), corrupt) == leaves


@pytest.mark.parametrize("name", MODELS)
def test_the_twin_computes_the_same_value(name):
    inputs = draw_inputs(getattr(networks, name))
    found = getattr(networks, f"torch_{name}")(**{k: torch.as_tensor(v) for k, v in inputs.items()})
    np.testing.assert_allclose(found.numpy(), getattr(networks, name)(**inputs), rtol=1e-12)


def test_the_classifier_is_scipy_s_log_softmax_at_the_target():
    given = draw_inputs(networks.mlp_classifier)
    A = np.tanh(given["X"] @ given["W1"].T + given["b1"]) @ given["W2"].T + given["b2"]
    expected = -np.mean(np.sum(given["T"] * scipy.special.log_softmax(A, axis=1), axis=1))
    assert networks.mlp_classifier(**given) == pytest.approx(expected, rel=1e-12)


def test_convolution_is_scipy_s_correlation():
    given = draw_inputs(networks.convolution)
    found = networks.convolution(**given)
    for n, o in np.ndindex(found.shape[:2]):
        expected = scipy.signal.correlate(given["X"][n], given["K"][o], mode="valid")[0] + given["b"][o]
        np.testing.assert_allclose(found[n, o], expected, rtol=1e-10)


def test_the_recurrent_cell_is_that_of_pytorch():
    given = {k: torch.as_tensor(v) for k, v in draw_inputs(networks.rnn).items()}
    layer = torch.nn.RNN(2, 3, batch_first=True).double()
    weights = {"weight_ih_l0": given["W"], "weight_hh_l0": given["U"], "bias_ih_l0": given["b"], "bias_hh_l0": torch.zeros(3)}
    layer.load_state_dict(weights)
    hidden, _ = layer(given["X"], given["h0"][None])
    expected = functional.mse_loss(hidden[:, -1] @ given["v"], given["y"])
    assert networks.rnn(**draw_inputs(networks.rnn)) == pytest.approx(expected.item(), rel=1e-12)


def test_the_embedding_s_gradient_is_pytorch_s_sparse_one():
    given = draw_inputs(networks.embedding)
    table = torch.tensor(given["table"], requires_grad=True)
    found = functional.embedding(torch.as_tensor(given["ids"]), table, sparse=True)
    dY = np.random.default_rng(1).standard_normal(found.shape)
    found.backward(torch.as_tensor(dY))
    expected = table.grad.coalesce()
    right = networks.embedding_vjp(dY, **given)["table"]
    np.testing.assert_allclose(right, expected.to_dense().numpy(), rtol=1e-12)
    assert sorted(set(expected.indices()[0].tolist())) == np.flatnonzero(np.any(right, axis=1)).tolist()

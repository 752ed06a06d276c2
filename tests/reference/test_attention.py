import numpy as np
import pytest
import torch
from planted import draw_inputs, find_failing_leaves, scale_leaf
from scipy.special import softmax

from gradcheck.reference import attention

MODELS = ["attention", "causal_attention"]


def without_root(right, Q, **given):
    g, root = right(Q=Q, **given), Q.shape[1] ** 0.5
    return g | {"Q": root * g["Q"], "K": root * g["K"]}


def with_diagonal_of_softmax(right, dY, Q, K, V):
    A = WEIGHTS[right](Q, K)
    dS, root = A * (1 - A) * (dY @ V.T), Q.shape[1] ** 0.5
    return right(dY, Q, K, V) | {"Q": dS @ K / root, "K": dS.T @ Q / root}


def without_softmax(right, dY, Q, K, V):
    dS, root = dY @ V.T, Q.shape[1] ** 0.5
    return right(dY, Q, K, V) | {"Q": dS @ K / root, "K": dS.T @ Q / root}


def with_value_of_first_query(right, dY, Q, K, V):
    return right(dY, Q, K, V) | {"V": right(dY[:1], Q[:1], K, V)["V"]}


def with_transposed_weights(right, dY, Q, K, V):
    return right(dY, Q, K, V) | {"V": attention._causal_weights(Q, K) @ dY}


def with_query_and_key_exchanged(right, **given):
    g = right(**given)
    return g | {"Q": g["K"], "K": g["Q"]}


def without_mask(right, **given):
    return attention.attention_vjp(**given)


WEIGHTS = {attention.attention_vjp: attention._weights, attention.causal_attention_vjp: attention._causal_weights}
FAULTS = [
    ("attention", "factor 2", scale_leaf("Q", 2), {"Q"}),
    ("attention", "sign", scale_leaf("K", -1), {"K"}),
    ("attention", "missing 1/√d", without_root, {"Q", "K"}),
    ("attention", "diagonal of the softmax alone", with_diagonal_of_softmax, {"Q", "K"}),
    ("attention", "missing softmax", without_softmax, {"Q", "K"}),
    ("attention", "missing sum over the queries", with_value_of_first_query, {"V"}),
    ("causal_attention", "factor 2", scale_leaf("V", 2), {"V"}),
    ("causal_attention", "sign", scale_leaf("Q", -1), {"Q"}),
    ("causal_attention", "missing 1/√d", without_root, {"Q", "K"}),
    ("causal_attention", "diagonal of the softmax alone", with_diagonal_of_softmax, {"Q", "K"}),
    ("causal_attention", "transposed weights", with_transposed_weights, {"V"}),
    ("causal_attention", "query and key exchanged", with_query_and_key_exchanged, {"Q", "K"}),
    ("causal_attention", "missing mask", without_mask, {"Q", "K", "V"}),
]


@pytest.mark.parametrize(("name", "corrupt", "leaves"), [pytest.param(n, s, v, id=f"{n}: {f}") for n, f, s, v in FAULTS])
def test_a_fault_is_caught_where_it_is(name, corrupt, leaves):
    assert find_failing_leaves(getattr(attention, name), corrupt) == leaves


@pytest.mark.parametrize("name", MODELS)
def test_the_twin_computes_the_same_value(name):
    inputs = draw_inputs(getattr(attention, name))
    found = getattr(attention, f"torch_{name}")(
        **{k: torch.as_tensor(v) if isinstance(v, np.ndarray) else v for k, v in inputs.items()}
    )
    np.testing.assert_allclose(found.numpy(), getattr(attention, name)(**inputs), rtol=1e-12)


def test_attention_is_scipy_s_softmax_of_the_scaled_scores():
    given = draw_inputs(attention.attention)
    expected = softmax(given["Q"] @ given["K"].T / np.sqrt(3), axis=1) @ given["V"]
    np.testing.assert_allclose(attention.attention(**given), expected, rtol=1e-12)


def test_a_causal_output_does_not_depend_on_later_keys():
    given = draw_inputs(attention.causal_attention)
    for i in range(1, 5):
        seen = attention.attention(given["Q"][:i], given["K"][:i], given["V"][:i])
        np.testing.assert_allclose(attention.causal_attention(**given)[i - 1], seen[-1], rtol=1e-12)

import numpy as np
import pytest
import torch
from planted import draw_inputs, find_failing_leaves, scale_leaf

from gradcheck.reference import normalisation

MODELS = ["layer_norm", "batch_norm"]


def without_eps(right, eps, **given):
    return right(**given, eps=0)


def without_gamma(right, gamma, **given):
    return right(gamma=np.ones_like(gamma), **given)


def with_mean_and_variance_held(right, dY, gamma, **given):
    sigma = normalisation._standardised(given["X"], given["eps"], AXES[right])[1]
    return right(dY, gamma=gamma, **given) | {"X": gamma * dY / sigma}


def with_mean_held(right, dY, gamma, **given):
    sigma = normalisation._standardised(given["X"], given["eps"], AXES[right])[1]
    forgotten = (gamma * dY).mean(AXES[right], keepdims=True) / sigma
    g = right(dY, gamma=gamma, **given)
    return g | {"X": g["X"] + forgotten}


def along_the_other_axis(right, **given):
    return (normalisation.batch_norm_vjp if right is normalisation.layer_norm_vjp else normalisation.layer_norm_vjp)(**given)


def with_beta_of_first_sample(right, dY, **given):
    return right(dY, **given) | {"beta": dY[0]}


def with_gamma_of_inputs(right, dY, X, **given):
    return right(dY, X, **given) | {"gamma": (dY * X).sum(0)}


AXES = {normalisation.layer_norm_vjp: 1, normalisation.batch_norm_vjp: 0}
FAULTS = [
    (name, *fault)
    for name in MODELS
    for fault in [
        ("factor 2", scale_leaf("gamma", 2), {"gamma"}),
        ("sign", scale_leaf("beta", -1), {"beta"}),
        ("missing eps", without_eps, {"X", "gamma"}),
        ("missing gamma", without_gamma, {"X"}),
        ("mean and variance held", with_mean_and_variance_held, {"X"}),
        ("mean held", with_mean_held, {"X"}),
        ("along the other axis", along_the_other_axis, {"X", "gamma"}),
        ("missing sum over the batch", with_beta_of_first_sample, {"beta"}),
        ("inputs not standardised", with_gamma_of_inputs, {"gamma"}),
    ]
]


@pytest.mark.parametrize(("name", "corrupt", "leaves"), [pytest.param(n, s, v, id=f"{n}: {f}") for n, f, s, v in FAULTS])
def test_a_fault_is_caught_where_it_is(name, corrupt, leaves):
    assert find_failing_leaves(getattr(normalisation, name), corrupt) == leaves


@pytest.mark.parametrize("name", MODELS)
def test_the_twin_computes_the_same_value(name):
    inputs = draw_inputs(getattr(normalisation, name))
    found = getattr(normalisation, f"torch_{name}")(
        **{k: torch.as_tensor(v) if isinstance(v, np.ndarray) else v for k, v in inputs.items()}
    )
    np.testing.assert_allclose(found.numpy(), getattr(normalisation, name)(**inputs), rtol=1e-12)


def test_a_layer_s_output_has_mean_beta_and_deviation_gamma_over_the_axis():
    given = draw_inputs(normalisation.layer_norm) | {"gamma": np.full(4, 3.0), "beta": np.full(4, 2.0), "eps": 0.0}
    for name, axis in (("layer_norm", 1), ("batch_norm", 0)):
        found = getattr(normalisation, name)(**given)
        np.testing.assert_allclose(found.mean(axis), 2, rtol=1e-12)
        np.testing.assert_allclose(found.std(axis), 3, rtol=1e-12)


def test_eps_has_pytorch_s_default():
    given = {k: v for k, v in draw_inputs(normalisation.layer_norm).items() if k != "eps"}
    X, gamma, beta = (torch.as_tensor(given[k]) for k in ("X", "gamma", "beta"))
    layer = torch.nn.functional.layer_norm(X, (4,), gamma, beta).numpy()
    batch = torch.nn.functional.batch_norm(X, None, None, gamma, beta, training=True).numpy()
    np.testing.assert_allclose(normalisation.layer_norm(**given), layer, rtol=1e-12)
    np.testing.assert_allclose(normalisation.batch_norm(**given), batch, rtol=1e-12)

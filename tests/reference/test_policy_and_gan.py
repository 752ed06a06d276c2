import numpy as np
import pytest
import torch
from planted import SIZES, check_with_derivative, draw_inputs

from gradcheck import Verdict
from gradcheck.reference import policy_and_gan
from gradcheck.reference.policy_and_gan import (
    discriminator_loss_gradient,
    expected_reward_gradient,
    generated,
    generator_loss_gradient,
    policy,
    sigmoid,
)

MODELS = ["expected_reward", "discriminator_loss", "generator_loss"]


def policy_gradient(theta, X, R, p, weight=None, score=None, states=None):
    """dJ/dθ with one factor replaced: what each action counts, its score, what each state counts."""
    pi = policy(theta, X)
    weight = pi * R if weight is None else weight(pi, R)
    score = np.eye(4) - pi[:, None, :] if score is None else score(pi)
    return X.T @ ((p if states is None else states(p))[:, None] * np.einsum("sa,sac->sc", weight, score))


def value_as_reward(pi, R):
    return pi * (np.sum(pi * R, axis=1, keepdims=True) - R)


def discriminator(w, b, x, z, A, c, real=True, fake=True, rows=True, flip=1.0):
    g = generated(z, A, c)
    share = -sigmoid(-(x @ w + b)) / (len(x) if rows else len(z)) * real
    other = flip * sigmoid(g @ w + b) / len(z) * fake
    return {"w": share @ x + other @ g, "b": np.sum(share) + np.sum(other)}


def generator(w, b, z, A, c, through=True, slope=True, saturating=False, batch=True):
    g = generated(z, A, c)
    t = g @ w + b
    outer = -(sigmoid(t) if saturating else sigmoid(-t)) / len(z)
    delta = np.outer(outer, w if through else np.ones_like(w)) * (1 - g**2 if slope else 1)
    delta = delta if batch else delta * np.eye(len(z))[:, :1]
    return {"A": z.T @ delta, "c": np.sum(delta, axis=0)}


FAULTS = [
    ("expected_reward", "factor 2", lambda *i: 2 * expected_reward_gradient(*i)),
    ("expected_reward", "sign", lambda *i: -expected_reward_gradient(*i)),
    ("expected_reward", "not weighed with the policy", lambda *i: policy_gradient(*i, weight=lambda pi, R: R)),
    ("expected_reward", "reward forgotten", lambda *i: policy_gradient(*i, weight=lambda pi, R: pi * (1 + 0 * R))),
    ("expected_reward", "reward and baseline swapped", lambda *i: policy_gradient(*i, weight=value_as_reward)),
    ("expected_reward", "score without its normaliser", lambda *i: policy_gradient(*i, score=lambda pi: np.eye(4)[None])),
    ("expected_reward", "gradient of π in place of log π", lambda *i: policy_gradient(*i, weight=lambda pi, R: pi**2 * R)),
    ("expected_reward", "states counted alike", lambda *i: policy_gradient(*i, states=lambda p: np.full(len(p), 1 / len(p)))),
    ("expected_reward", "only the first state", lambda *i: policy_gradient(*i, states=lambda p: p * np.eye(len(p))[0])),
    ("discriminator_loss", "real forgotten", lambda *i: discriminator(*i, real=False)),
    ("discriminator_loss", "generated forgotten", lambda *i: discriminator(*i, fake=False)),
    ("discriminator_loss", "generated called real", lambda *i: discriminator(*i, flip=-1.0)),
    ("discriminator_loss", "1/N in place of 1/M", lambda *i: discriminator(*i, rows=False)),
    ("generator_loss", "gradient through the discriminator forgotten", lambda *i: generator(*i, through=False)),
    ("generator_loss", "the saturating loss", lambda *i: generator(*i, saturating=True)),
    ("generator_loss", "slope of tanh forgotten", lambda *i: generator(*i, slope=False)),
    ("generator_loss", "missing sum over the batch", lambda *i: generator(*i, batch=False)),
    ("generator_loss", "missing 1/N", lambda *i: {k: 5 * g for k, g in generator(*i).items()}),
]


@pytest.mark.parametrize(("model", "fault", "wrong"), FAULTS, ids=[f"{model}: {fault}" for model, fault, _ in FAULTS])
def test_a_planted_fault_is_caught(model, fault, wrong):
    assert check_with_derivative(getattr(policy_and_gan, model), wrong).verdict is Verdict.FAIL


@pytest.mark.parametrize("factor", [2, -1])
@pytest.mark.parametrize(
    ("model", "gradient", "leaf"),
    [
        ("discriminator_loss", discriminator_loss_gradient, "w"),
        ("discriminator_loss", discriminator_loss_gradient, "b"),
        ("generator_loss", generator_loss_gradient, "A"),
        ("generator_loss", generator_loss_gradient, "c"),
    ],
)
def test_a_fault_of_one_leaf_is_blamed_on_it_alone(model, gradient, leaf, factor):
    def wrong(*i):
        d = gradient(*i)
        return {**d, leaf: factor * d[leaf]}

    result = check_with_derivative(getattr(policy_and_gan, model), wrong)
    assert {c.wrt for c in result.comparisons if c.verdict is Verdict.FAIL} == {leaf}


@pytest.mark.parametrize("model", MODELS)
def test_the_twin_computes_the_same_value(model):
    for seed in range(3):
        i = draw_inputs(getattr(policy_and_gan, model), seed)
        value = getattr(policy_and_gan, f"torch_{model}")(**{name: torch.from_numpy(np.asarray(x)) for name, x in i.items()})
        assert value.item() == pytest.approx(getattr(policy_and_gan, model)(**i), rel=1e-12)


# The policy


def test_the_probabilities_of_a_state_s_actions_sum_to_one():
    i = draw_inputs(policy_and_gan.expected_reward)
    np.testing.assert_allclose(policy(i["theta"], i["X"]).sum(1), 1, rtol=1e-14)


def test_a_baseline_changes_nothing_on_average():
    i = draw_inputs(policy_and_gan.expected_reward)
    g, baseline = expected_reward_gradient(**i), np.random.default_rng(1).standard_normal(SIZES["N"])
    np.testing.assert_allclose(expected_reward_gradient(**i, baseline=baseline), g, rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(expected_reward_gradient(**i, baseline=7.0), g, rtol=1e-10, atol=1e-14)


def test_a_reward_that_is_the_same_for_all_actions_gives_no_gradient():
    i = draw_inputs(policy_and_gan.expected_reward)
    i["R"] = np.repeat(i["R"][:, :1], 4, axis=1)
    np.testing.assert_allclose(expected_reward_gradient(**i), 0, atol=1e-15)


def test_the_score_function_s_surrogate_in_pytorch_has_the_same_gradient():
    theta, X, R, p = (torch.from_numpy(x) for x in draw_inputs(policy_and_gan.expected_reward).values())
    log_pi = torch.log_softmax(X @ theta.requires_grad_(), dim=1)
    surrogate = (p[:, None] * log_pi.exp().detach() * R * log_pi).sum()
    (expected,) = torch.autograd.grad(surrogate, theta)
    np.testing.assert_allclose(
        expected_reward_gradient(**draw_inputs(policy_and_gan.expected_reward)), expected.numpy(), rtol=1e-10
    )


def test_following_the_policy_gradient_finds_the_best_action_of_a_bandit():
    theta, X, p = np.zeros((1, 4)), np.ones((1, 1)), np.ones(1)
    R = np.array([[0.1, 0.7, 1.0, 0.2]])
    for _ in range(500):
        theta = theta + 2.0 * expected_reward_gradient(theta, X, R, p)
    assert policy_and_gan.expected_reward(theta, X, R, p) > 0.99


# The GAN


def test_a_discriminator_that_guesses_loses_two_log_two_and_its_generator_log_two():
    i = {**draw_inputs(policy_and_gan.discriminator_loss), "w": np.zeros(3), "b": np.zeros(())}
    assert policy_and_gan.discriminator_loss(**i) == pytest.approx(2 * np.log(2), rel=1e-14)
    del i["x"]
    assert policy_and_gan.generator_loss(**i) == pytest.approx(np.log(2), rel=1e-14)


def test_a_step_of_each_player_lowers_its_own_loss():
    i = draw_inputs(policy_and_gan.discriminator_loss)
    d = discriminator_loss_gradient(**i)
    moved = {**i, "w": i["w"] - 0.01 * d["w"], "b": i["b"] - 0.01 * d["b"]}
    assert policy_and_gan.discriminator_loss(**moved) < policy_and_gan.discriminator_loss(**i)
    del i["x"]
    d = generator_loss_gradient(**i)
    moved = {**i, "A": i["A"] - 0.01 * d["A"], "c": i["c"] - 0.01 * d["c"]}
    assert policy_and_gan.generator_loss(**moved) < policy_and_gan.generator_loss(**i)

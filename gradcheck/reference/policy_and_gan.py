"""Learning without labels: a policy that learns from rewards, and a generator that learns from its discriminator.

Policy gradient: R. Williams, Simple Statistical Gradient-Following Algorithms for Connectionist Reinforcement Learning (1992);
R. Sutton, A. Barto, Reinforcement Learning (2018), sections 13.2 to 13.4. Here the expectation is enumerated, not sampled.
GAN: I. Goodfellow et al., Generative Adversarial Nets (2014), equation 1 and, for the generator's loss, section 3.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gradcheck.reference.twin import twin_of
from gradcheck.targets.case import case
from gradcheck.targets.specs.spec import normal, simplex

F64 = NDArray[np.float64]
OPTIONS = {"dims": {"N": (5, 8)}}


# A softmax policy: which action to take in which state


def policy(theta: F64, X: F64) -> Any:
    """π(a|s) = softmax_a(x_s · θ_a)."""
    weights = np.exp(X @ theta)
    return weights / np.sum(weights, axis=1, keepdims=True)


def expected_reward_gradient(theta: F64, X: F64, R: F64, p: F64, baseline: F64 | float = 0.0) -> Any:
    """dJ/dθ = Σ_s p(s) Σ_a π(a|s) (R(s, a) - B(s)) ∇ log π(a|s), with ∂ log π(a|s) / ∂θ_c = ([a = c] - π(c|s)) x_s.

    The baseline B(s) drops out, for Σ_a π(a|s) ∇ log π(a|s) = 0; it only makes a sampled estimate less noisy.
    """
    pi = policy(theta, X)
    score = np.eye(pi.shape[1]) - pi[:, None, :]
    advantage = R - np.reshape(baseline, (-1, 1))
    return np.einsum("s,sa,sa,sac,sd->dc", p, pi, advantage, score, X)


@case(
    theta=normal(3, 4),
    X=normal("N", 3),
    R=normal("N", 4),
    p=simplex("N"),
    gradient=expected_reward_gradient,
    wrt="theta",
    options=OPTIONS,
)
def expected_reward(theta: F64, X: F64, R: F64, p: F64) -> Any:
    """J = Σ_s p(s) Σ_a π(a|s) R(s, a): state s occurs with probability p(s), action a there earns R(s, a)."""
    return p @ np.sum(policy(theta, X) * R, axis=1)


@twin_of(expected_reward)
def torch_expected_reward(theta: torch.Tensor, X: torch.Tensor, R: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
    """J = Σ_s p(s) Σ_a π(a|s) R(s, a)."""
    return p @ (torch.softmax(X @ theta, dim=1) * R).sum(1)


# A generator and its discriminator


def sigmoid(z: F64) -> Any:
    """σ(z) = 1 / (1 + exp(-z))."""
    return 1 / (1 + np.exp(-z))


def softplus(z: F64) -> Any:
    """log(1 + exp z) = -log σ(-z)."""
    return np.log1p(np.exp(z))


def generated(z: F64, A: F64, c: F64) -> Any:
    """G(z) = tanh(z A + c)."""
    return np.tanh(z @ A + c)


INPUTS: dict[str, Any] = {"w": normal(3), "b": normal(), "z": normal("N", 2), "A": normal(2, 3), "c": normal(3)}


def discriminator_loss_gradient(w: F64, b: F64, x: F64, z: F64, A: F64, c: F64) -> dict[str, Any]:
    """dL/dw = -1/M Σ σ(-s) x + 1/N Σ σ(t) G(z), dL/db = -1/M Σ σ(-s) + 1/N Σ σ(t); s, t: the logits of real and generated."""
    fake = generated(z, A, c)
    real_share, fake_share = -sigmoid(-(x @ w + b)) / len(x), sigmoid(fake @ w + b) / len(z)
    return {"w": real_share @ x + fake_share @ fake, "b": np.sum(real_share) + np.sum(fake_share)}


@case(
    **INPUTS,
    x=normal("M", 3),
    gradient=discriminator_loss_gradient,
    wrt=("w", "b"),
    options={"dims": {"N": (5, 8), "M": (5, 8)}},
)
def discriminator_loss(w: F64, b: F64, x: F64, z: F64, A: F64, c: F64) -> Any:
    """L = -1/M Σ log D(x) - 1/N Σ log(1 - D(G(z))), with D(x) = σ(x · w + b)."""
    return np.mean(softplus(-(x @ w + b))) + np.mean(softplus(generated(z, A, c) @ w + b))


def generator_loss_gradient(w: F64, b: F64, z: F64, A: F64, c: F64) -> dict[str, Any]:
    """dL/dA = zᵀ δ, dL/dc = Σ δ, with δ = dL/dG ∘ (1 - G²) and, through the discriminator, dL/dG = -1/N σ(-t) wᵀ."""
    fake = generated(z, A, c)
    delta = np.outer(-sigmoid(-(fake @ w + b)) / len(z), w) * (1 - fake**2)
    return {"A": z.T @ delta, "c": np.sum(delta, axis=0)}


@case(**INPUTS, gradient=generator_loss_gradient, wrt=("A", "c"), options=OPTIONS)
def generator_loss(w: F64, b: F64, z: F64, A: F64, c: F64) -> Any:
    """L = -1/N Σ log D(G(z)), the loss that does not saturate, with D(x) = σ(x · w + b) and G(z) = tanh(z A + c)."""
    return np.mean(softplus(-(generated(z, A, c) @ w + b)))


@twin_of(discriminator_loss)
def torch_discriminator_loss(
    w: torch.Tensor, b: torch.Tensor, x: torch.Tensor, z: torch.Tensor, A: torch.Tensor, c: torch.Tensor
) -> torch.Tensor:
    """L = the cross-entropy of the discriminator's logits, with label 1 for real and 0 for generated samples."""
    fake = torch.tanh(z @ A + c)
    cross_entropy = torch.nn.functional.binary_cross_entropy_with_logits
    return cross_entropy(x @ w + b, torch.ones_like(x[:, 0])) + cross_entropy(fake @ w + b, torch.zeros_like(z[:, 0]))


@twin_of(generator_loss)
def torch_generator_loss(w: torch.Tensor, b: torch.Tensor, z: torch.Tensor, A: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
    """L = the cross-entropy of the discriminator's logits for generated samples with the label real."""
    logits = torch.tanh(z @ A + c) @ w + b
    return torch.nn.functional.binary_cross_entropy_with_logits(logits, torch.ones_like(logits))

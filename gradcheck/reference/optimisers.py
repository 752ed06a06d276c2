"""Steps of optimisers as functions of parameters, gradient, state and learning rate, in PyTorch's conventions.

Each returns the new parameters, and the new state if there is one. dθ', dm', … are the derivatives with respect to these;
c_m, c_v, c_s sum all ways in which a new state has influence: directly, and through the new parameters. Parameters, gradient
and state have one shape, and lr is a scalar.

Sources: B. T. Polyak, Some methods of speeding up the convergence of iteration methods (1964) (momentum).
T. Tieleman, G. Hinton, Neural Networks for Machine Learning, lecture 6.5: rmsprop (2012). D. P. Kingma, J. Ba, Adam: A Method
for Stochastic Optimization (2015), algorithm 1. I. Loshchilov, F. Hutter, Decoupled Weight Decay Regularization (2019),
algorithm 2.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gradcheck.reference.twin import twin_of
from gradcheck.targets.case import case
from gradcheck.targets.specs.spec import normal, positive, uniform

F64 = NDArray[np.float64]
Tensor = torch.Tensor
INPUTS: dict[str, Any] = {"theta": normal(3, 2), "g": normal(3, 2), "lr": uniform(0.01, 0.1)}
DECAY = uniform(0.01, 0.1)
# We take eps so large, and the step so early, that a derivative that forgets eps or the bias correction differs visibly.
ADAM: dict[str, Any] = {"m": normal(3, 2), "v": positive(3, 2), "step": 3, "eps": 0.1}


def sgd_vjp(dtheta: F64, theta: F64, g: F64, lr: F64) -> dict[str, Any]:
    """dθ = dθ', dg = -η dθ', dη = -Σ g ⊙ dθ'."""
    return {"theta": dtheta, "g": -lr * dtheta, "lr": -np.sum(g * dtheta)}


@case(**INPUTS, vjp=sgd_vjp, wrt=("theta", "g", "lr"))
def sgd(theta: F64, g: F64, lr: F64) -> Any:
    """θ' = θ - η g."""
    return theta - lr * g


@twin_of(sgd)
def torch_sgd(theta: Tensor, g: Tensor, lr: Tensor) -> Tensor:
    """θ' = θ - η g."""
    return theta - lr * g


def sgd_weight_decay_vjp(dtheta: F64, theta: F64, g: F64, lr: F64, decay: F64) -> dict[str, Any]:
    """dθ = (1 - η λ) dθ', dg = -η dθ', dη = -Σ (g + λ θ) ⊙ dθ', dλ = -η Σ θ ⊙ dθ'."""
    return {
        "theta": (1 - lr * decay) * dtheta,
        "g": -lr * dtheta,
        "lr": -np.sum((g + decay * theta) * dtheta),
        "decay": -lr * np.sum(theta * dtheta),
    }


@case(**INPUTS, decay=DECAY, vjp=sgd_weight_decay_vjp, wrt=("theta", "g", "lr", "decay"))
def sgd_weight_decay(theta: F64, g: F64, lr: F64, decay: F64) -> Any:
    """θ' = θ - η (g + λ θ): the gradient of a loss with λ/2 |θ|² added."""
    return theta - lr * (g + decay * theta)


@twin_of(sgd_weight_decay)
def torch_sgd_weight_decay(theta: Tensor, g: Tensor, lr: Tensor, decay: Tensor) -> Tensor:
    """θ' = θ - η (g + λ θ)."""
    return theta - lr * (g + decay * theta)


def momentum_vjp(cotangents: tuple[F64, F64], theta: F64, g: F64, velocity: F64, lr: F64, mu: float = 0.9) -> dict[str, Any]:
    """dθ = dθ', dg = c_v, dv = μ c_v, dη = -Σ v' ⊙ dθ', with c_v = dv' - η dθ'."""
    dtheta, dvelocity = cotangents
    c_v = dvelocity - lr * dtheta
    return {"theta": dtheta, "g": c_v, "velocity": mu * c_v, "lr": -np.sum((mu * velocity + g) * dtheta)}


@case(**INPUTS, velocity=normal(3, 2), vjp=momentum_vjp, wrt=("theta", "g", "velocity", "lr"))
def momentum(theta: F64, g: F64, velocity: F64, lr: F64, mu: float = 0.9) -> Any:
    """θ' = θ - η v' with v' = μ v + g."""
    velocity = mu * velocity + g
    return theta - lr * velocity, velocity


@twin_of(momentum)
def torch_momentum(theta: Tensor, g: Tensor, velocity: Tensor, lr: Tensor, mu: float = 0.9) -> tuple[Tensor, Tensor]:
    """θ' = θ - η v' with v' = μ v + g."""
    velocity = mu * velocity + g
    return theta - lr * velocity, velocity


def rmsprop_vjp(
    cotangents: tuple[F64, F64], theta: F64, g: F64, square: F64, lr: F64, rho: float = 0.99, eps: float = 1e-8
) -> dict[str, Any]:
    """dθ = dθ', dg = -η dθ' / D + 2 (1 - ρ) g ⊙ c_s, ds = ρ c_s, dη = -Σ g / D ⊙ dθ'.

    D = √s' + eps, c_s = ds' + η g ⊙ dθ' / (2 √s' D²).
    """
    dtheta, dsquare = cotangents
    root = np.sqrt(rho * square + (1 - rho) * g**2)
    D = root + eps
    c_s = dsquare + lr * g * dtheta / (2 * root * D**2)
    dg = -lr * dtheta / D + 2 * (1 - rho) * g * c_s
    return {"theta": dtheta, "g": dg, "square": rho * c_s, "lr": -np.sum(g / D * dtheta)}


@case(**INPUTS, square=positive(3, 2), rho=0.9, eps=0.1, vjp=rmsprop_vjp, wrt=("theta", "g", "square", "lr"))
def rmsprop(theta: F64, g: F64, square: F64, lr: F64, rho: float = 0.99, eps: float = 1e-8) -> Any:
    """θ' = θ - η g / (√s' + eps) with s' = ρ s + (1 - ρ) g²."""
    square = rho * square + (1 - rho) * g**2
    return theta - lr * g / (np.sqrt(square) + eps), square


@twin_of(rmsprop)
def torch_rmsprop(
    theta: Tensor, g: Tensor, square: Tensor, lr: Tensor, rho: float = 0.99, eps: float = 1e-8
) -> tuple[Tensor, Tensor]:
    """θ' = θ - η g / (√s' + eps) with s' = ρ s + (1 - ρ) g²."""
    square = torch.lerp(g**2, square, rho)
    return theta - lr * g / (square.sqrt() + eps), square


def adam_vjp(
    cotangents: tuple[F64, F64, F64],
    theta: F64,
    g: F64,
    m: F64,
    v: F64,
    lr: F64,
    step: int = 1,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
) -> dict[str, Any]:
    """dθ = dθ', dg = (1 - β₁) c_m + 2 (1 - β₂) g ⊙ c_v, dm = β₁ c_m, dv = β₂ c_v, dη = -Σ m̂ / D ⊙ dθ'.

    D = √v̂ + eps, c_m = dm' - η dθ' / (D (1 - β₁ᵗ)), c_v = dv' + η m̂ ⊙ dθ' / (2 √v̂ D² (1 - β₂ᵗ)).
    """
    dtheta, dm, dv = cotangents
    correction1, correction2 = 1 - beta1**step, 1 - beta2**step
    m_hat = (beta1 * m + (1 - beta1) * g) / correction1
    root = np.sqrt((beta2 * v + (1 - beta2) * g**2) / correction2)
    D = root + eps
    c_m = dm - lr * dtheta / (D * correction1)
    c_v = dv + lr * m_hat * dtheta / (2 * root * D**2 * correction2)
    dg = (1 - beta1) * c_m + 2 * (1 - beta2) * g * c_v
    return {"theta": dtheta, "g": dg, "m": beta1 * c_m, "v": beta2 * c_v, "lr": -np.sum(m_hat / D * dtheta)}


@case(**INPUTS, **ADAM, vjp=adam_vjp, wrt=("theta", "g", "m", "v", "lr"))
def adam(
    theta: F64,
    g: F64,
    m: F64,
    v: F64,
    lr: F64,
    step: int = 1,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
) -> Any:
    """θ' = θ - η m̂ / (√v̂ + eps), with m̂ = m' / (1 - β₁ᵗ) and v̂ = v' / (1 - β₂ᵗ).

    The new state: m' = β₁ m + (1 - β₁) g, v' = β₂ v + (1 - β₂) g².
    """
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g**2
    m_hat, v_hat = m / (1 - beta1**step), v / (1 - beta2**step)
    return theta - lr * m_hat / (np.sqrt(v_hat) + eps), m, v


@twin_of(adam)
def torch_adam(
    theta: Tensor,
    g: Tensor,
    m: Tensor,
    v: Tensor,
    lr: Tensor,
    step: int = 1,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
) -> tuple[Tensor, Tensor, Tensor]:
    """θ' = θ - η m̂ / (√v̂ + eps)."""
    m = torch.lerp(g, m, beta1)
    v = torch.lerp(g**2, v, beta2)
    m_hat, v_hat = m / (1 - beta1**step), v / (1 - beta2**step)
    return theta - lr * m_hat / (v_hat.sqrt() + eps), m, v


def adamw_vjp(
    cotangents: tuple[F64, F64, F64], theta: F64, g: F64, m: F64, v: F64, lr: F64, decay: F64, **constants: Any
) -> dict[str, Any]:
    """Compute the derivatives as for Adam, but dθ = (1 - η λ) dθ', dη has -λ Σ θ ⊙ dθ' added, and dλ = -η Σ θ ⊙ dθ'."""
    decay_term = np.sum(theta * cotangents[0])
    adam_derivatives = adam_vjp(cotangents, theta, g, m, v, lr, **constants)
    return adam_derivatives | {
        "theta": (1 - lr * decay) * cotangents[0],
        "lr": adam_derivatives["lr"] - decay * decay_term,
        "decay": -lr * decay_term,
    }


@case(**INPUTS, **ADAM, decay=DECAY, vjp=adamw_vjp, wrt=("theta", "g", "m", "v", "lr", "decay"))
def adamw(theta: F64, g: F64, m: F64, v: F64, lr: F64, decay: F64, **constants: Any) -> Any:
    """θ' = (1 - η λ) θ - η m̂ / (√v̂ + eps): decoupled weight decay, which does not enter m and v."""
    return adam((1 - lr * decay) * theta, g, m, v, lr, **constants)


@twin_of(adamw)
def torch_adamw(
    theta: Tensor, g: Tensor, m: Tensor, v: Tensor, lr: Tensor, decay: Tensor, **constants: Any
) -> tuple[Tensor, Tensor, Tensor]:
    """θ' = (1 - η λ) θ - η m̂ / (√v̂ + eps)."""
    return torch_adam((1 - lr * decay) * theta, g, m, v, lr, **constants)

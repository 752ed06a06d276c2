"""Uses of gradients with respect to inputs and hyper-parameters, each made from a hand-written gradient.

Feature importance: the size of the gradient of an output with respect to each feature.
Saliency map: K. Simonyan, A. Vedaldi, A. Zisserman, Deep Inside Convolutional Networks (2014), section 3.
Adversarial step: I. Goodfellow, J. Shlens, C. Szegedy, Explaining and Harnessing Adversarial Examples (2015), section 4.
Hyper-gradient: D. Maclaurin, D. Duvenaud, R. Adams, Gradient-based Hyperparameter Optimization through Reversible Learning
(2015), section 2, without the momentum.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gradcheck.reference.twin import twin_of
from gradcheck.targets.case import case
from gradcheck.targets.specs.spec import normal, one_hot, uniform

F64 = NDArray[np.float64]
OPTIONS = {"dims": {"N": (5, 8)}}


# The sensitivity of a network's output to each feature


def network_vjp(cotangent: F64, X: F64, W: F64, b: F64, v: F64) -> Any:
    """∂f_n/∂x_n = W (v ∘ (1 - h_n²)), with h = tanh(X W + b); each row is multiplied by its cotangent."""
    h = np.tanh(X @ W + b)
    return cotangent[:, None] * (1 - h**2) * v @ W.T


@case(X=normal("N", 3), W=normal(3, 4), b=normal(4), v=normal(4), vjp=network_vjp, wrt="X", options=OPTIONS)
def network(X: F64, W: F64, b: F64, v: F64) -> Any:
    """One output for each row of X: f = tanh(X W + b) v."""
    return np.tanh(X @ W + b) @ v


@twin_of(network)
def torch_network(X: torch.Tensor, W: torch.Tensor, b: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """One output for each row of X: f = tanh(X W + b) v."""
    return torch.tanh(torch.nn.functional.linear(X, W.T, b)) @ v


def feature_importance(X: F64, W: F64, b: F64, v: F64, scale: F64 | float = 1.0) -> Any:
    """importance_i = scale_i · 1/N Σ_n |∂f(x_n)/∂x_i|; the scale of a feature is usually its standard deviation."""
    return scale * np.mean(np.abs(network_vjp(np.ones(len(X)), X, W, b, v)), axis=0)


# The saliency of each pixel for the score of a class


def convolution(image: F64, kernels: F64) -> Any:
    """a[k, i, j] = Σ_cpq kernels[k, c, p, q] image[c, i + p, j + q], over the places that fit."""
    P, Q = kernels.shape[2:]
    H, W = image.shape[1] - P + 1, image.shape[2] - Q + 1
    return sum(np.tensordot(kernels[:, :, p, q], image[:, p : p + H, q : q + W], axes=1) for p in range(P) for q in range(Q))


def class_score_gradient(image: F64, kernels: F64, V: F64, y: F64) -> F64:
    """∂S/∂image[c, i + p, j + q] = Σ_kpq kernels[k, c, p, q] δ[k, i, j], with δ = (y V)_k (1 - h²) / (places of a map)."""
    h = np.tanh(convolution(image, kernels))
    K, H, W = h.shape
    delta = (y @ V).reshape(K, 1, 1) * (1 - h**2) / (H * W)
    gradient = np.zeros_like(image)
    for p, q in np.ndindex(kernels.shape[2:]):
        gradient[:, p : p + H, q : q + W] += np.tensordot(kernels[:, :, p, q].T, delta, axes=1)
    return gradient


@case(
    image=normal(2, 5, 4),
    kernels=normal(3, 2, 3, 2),
    V=normal(4, 3),
    y=one_hot(4),
    gradient=class_score_gradient,
    wrt="image",
)
def class_score(image: F64, kernels: F64, V: F64, y: F64) -> Any:
    """S = Σ_k (y V)_k · mean_ij tanh(convolution(image)[k, i, j]), y the class as a one-hot vector."""
    return y @ V @ np.mean(np.tanh(convolution(image, kernels)), axis=(1, 2))


@twin_of(class_score)
def torch_class_score(image: torch.Tensor, kernels: torch.Tensor, V: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """S = Σ_k (y V)_k · mean_ij tanh(conv2d(image)[k, i, j])."""
    return y @ V @ torch.tanh(torch.nn.functional.conv2d(image[None], kernels)[0]).mean((1, 2))


def saliency_map(image: F64, kernels: F64, V: F64, y: F64) -> Any:
    """M[i, j] = max_c |∂S/∂image[c, i, j]|."""
    return np.max(np.abs(class_score_gradient(image, kernels, V, y)), axis=0)


# The step of a given size that raises a classifier's loss the most


def classifier_loss_gradient(X: F64, Y: F64, W: F64, b: F64, V: F64) -> Any:
    """dL/dX = (δ Vᵀ ∘ (1 - h²)) Wᵀ, with h = tanh(X W + b) and δ = (softmax(h V) - Y) / N."""
    h = np.tanh(X @ W + b)
    scores = np.exp(h @ V)
    delta = (scores / np.sum(scores, axis=1, keepdims=True) - Y) / len(X)
    return (delta @ V.T * (1 - h**2)) @ W.T


@case(
    X=normal("N", 3),
    Y=one_hot("N", 3),
    W=normal(3, 4),
    b=normal(4),
    V=normal(4, 3),
    gradient=classifier_loss_gradient,
    wrt="X",
    options=OPTIONS,
)
def classifier_loss(X: F64, Y: F64, W: F64, b: F64, V: F64) -> Any:
    """L = 1/N Σ_n (log Σ_c exp z_nc - Σ_c y_nc z_nc), with z = tanh(X W + b) V."""
    z = np.tanh(X @ W + b) @ V
    return np.mean(np.log(np.sum(np.exp(z), axis=1)) - np.sum(Y * z, axis=1))


@twin_of(classifier_loss)
def torch_classifier_loss(X: torch.Tensor, Y: torch.Tensor, W: torch.Tensor, b: torch.Tensor, V: torch.Tensor) -> torch.Tensor:
    """L = the cross-entropy of softmax(tanh(X W + b) V) and the labels."""
    return torch.nn.functional.cross_entropy(torch.tanh(X @ W + b) @ V, Y)


def adversarial_step(X: F64, Y: F64, W: F64, b: F64, V: F64, size: float = 0.01) -> Any:
    """X' = x + size · sign(dL/dx): to first order, no other step with entries of at most this size raises L more."""
    return X + size * np.sign(classifier_loss_gradient(X, Y, W, b, V))


# The validation loss after some steps of SGD, with respect to learning rate and regularisation strength


def sgd_iterates(learning_rate: Any, strength: Any, w: F64, X: F64, y: F64) -> list[Any]:
    """w_0 … w_K of w_t+1 = w_t - α g_t, g_t = X_tᵀ (X_t w_t - y_t) / N + λ w_t: step t takes the mini-batch X_t, y_t."""
    iterates = [w]
    for X_t, y_t in zip(X, y, strict=True):
        w = w - learning_rate * (X_t.T @ (X_t @ w - y_t) / len(y_t) + strength * w)
        iterates.append(w)
    return iterates


def validation_loss_gradient(
    learning_rate: F64, strength: F64, w: F64, X: F64, y: F64, X_val: F64, y_val: F64
) -> dict[str, Any]:
    """dV/dα = -Σ_t v_t+1 · g_t, dV/dλ = -α Σ_t v_t+1 · w_t, from the last step to the first.

    v_t = dV/dw_t: v_K = X_valᵀ (X_val w_K - y_val) / M, v_t = v_t+1 - α H_t v_t+1, with H_t = X_tᵀ X_t / N + λ I.
    """
    *earlier, last = sgd_iterates(learning_rate, strength, w, X, y)
    v = X_val.T @ (X_val @ last - y_val) / len(y_val)
    d_rate, d_strength = 0.0, 0.0
    for w_t, X_t, y_t in reversed(list(zip(earlier, X, y, strict=True))):
        d_rate -= v @ (X_t.T @ (X_t @ w_t - y_t) / len(y_t) + strength * w_t)
        d_strength -= learning_rate * (v @ w_t)
        v = v - learning_rate * (X_t.T @ (X_t @ v) / len(y_t) + strength * v)
    return {"learning_rate": d_rate, "strength": d_strength}


@case(
    learning_rate=uniform(0.05, 0.3),
    strength=uniform(0.05, 0.5),
    w=normal(3),
    X=normal("K", "N", 3),
    y=normal("K", "N"),
    X_val=normal("M", 3),
    y_val=normal("M"),
    gradient=validation_loss_gradient,
    wrt=("learning_rate", "strength"),
    options={"dims": {"K": (3, 5), "N": (5, 8), "M": (5, 8)}},
)
def validation_loss(learning_rate: F64, strength: F64, w: F64, X: F64, y: F64, X_val: F64, y_val: F64) -> Any:
    """V = 1/(2M) Σ (X_val w_K - y_val)², w_K after K steps of SGD on 1/(2N) Σ (X_t w - y_t)² + λ/2 |w|²."""
    last = sgd_iterates(learning_rate, strength, w, X, y)[-1]
    return np.sum((X_val @ last - y_val) ** 2) / (2 * len(y_val))


@twin_of(validation_loss)
def torch_validation_loss(
    learning_rate: torch.Tensor,
    strength: torch.Tensor,
    w: torch.Tensor,
    X: torch.Tensor,
    y: torch.Tensor,
    X_val: torch.Tensor,
    y_val: torch.Tensor,
) -> torch.Tensor:
    """V = 1/2 MSE(X_val w_K, y_val), each step's gradient by `torch.func.grad`."""

    def training_loss(w: torch.Tensor, X_t: torch.Tensor, y_t: torch.Tensor) -> torch.Tensor:
        return torch.mean((X_t @ w - y_t) ** 2) / 2 + strength / 2 * w @ w

    for X_t, y_t in zip(X, y, strict=True):
        w = w - learning_rate * torch.func.grad(training_loss)(w, X_t, y_t)
    return torch.nn.functional.mse_loss(X_val @ w, y_val) / 2


def hyper_step(learning_rate: F64, strength: F64, *data: F64, size: float = 0.1) -> tuple[Any, Any]:
    """Gradient descent on log α and log λ, which keeps both positive: log α' = log α - size · α dV/dα, and so for λ."""
    d = validation_loss_gradient(learning_rate, strength, *data)
    rate = learning_rate * np.exp(-size * learning_rate * d["learning_rate"])
    return rate, strength * np.exp(-size * strength * d["strength"])

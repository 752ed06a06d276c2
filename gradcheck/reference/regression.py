"""Linear regression y = X w + b: squared errors, penalties, robust and count losses, each with its gradient.

N is the number of samples; X is (N, d), w (d,), b a scalar and y (N,); with several outputs W is (d, k), b (k,) and Y (N, k).
Sources: C. M. Bishop, Pattern Recognition and Machine Learning (2006), section 3.1 (squared errors, several outputs, ridge);
T. Hastie, R. Tibshirani, J. Friedman, The Elements of Statistical Learning (2nd ed., 2009), section 3.4 (ridge, lasso, elastic
net) and section 10.6 (Huber); P. McCullagh, J. A. Nelder, Generalized Linear Models (2nd ed., 1989), chapter 6 (Poisson).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from gradcheck.reference.twin import twin_of
from gradcheck.targets.case import case
from gradcheck.targets.specs.spec import array, integers, normal

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Tensor = torch.Tensor
INPUTS: dict[str, Any] = {"X": normal("N", 3), "w": normal(3), "b": normal(), "y": normal("N")}
WRT = ("w", "b")
OPTIONS = {"dims": {"N": (5, 8)}}


def mse_gradient(X: F64, w: F64, b: F64, y: F64) -> dict[str, Any]:
    """dL/dw = 2/N Xᵀ r, dL/db = 2/N Σ r, with r = X w + b - y."""
    r = X @ w + b - y
    return {"w": 2 / len(y) * X.T @ r, "b": 2 / len(y) * np.sum(r)}


@case(**INPUTS, gradient=mse_gradient, wrt=WRT, options=OPTIONS)
def mse(X: F64, w: F64, b: F64, y: F64) -> Any:
    """L = 1/N Σ (X w + b - y)²."""
    return np.mean((X @ w + b - y) ** 2)


@twin_of(mse)
def torch_mse(X: Tensor, w: Tensor, b: Tensor, y: Tensor) -> Tensor:
    """L = 1/N Σ (X w + b - y)²."""
    return functional.mse_loss(X @ w + b, y)


def half_mse_gradient(X: F64, w: F64, b: F64, y: F64) -> dict[str, Any]:
    """dL/dw = 1/m Xᵀ r, dL/db = 1/m Σ r: the factor 2 is cancelled by the half in the loss."""
    r = X @ w + b - y
    return {"w": X.T @ r / len(y), "b": np.sum(r) / len(y)}


@case(**INPUTS, gradient=half_mse_gradient, wrt=WRT, options=OPTIONS)
def half_mse(X: F64, w: F64, b: F64, y: F64) -> Any:
    """L = 1/(2m) Σ (X w + b - y)²."""
    return np.sum((X @ w + b - y) ** 2) / (2 * len(y))


@twin_of(half_mse)
def torch_half_mse(X: Tensor, w: Tensor, b: Tensor, y: Tensor) -> Tensor:
    """L = 1/(2m) Σ (X w + b - y)²."""
    return torch.sum((X @ w + b - y) ** 2) / (2 * len(y))


def several_outputs_gradient(X: F64, W: F64, b: F64, Y: F64) -> dict[str, Any]:
    """dL/dW = 2/N Xᵀ R, dL/db = 2/N Σₙ Rₙ, with R = X W + b - Y, a row Rₙ per sample."""
    R = X @ W + b - Y
    return {"W": 2 / len(Y) * X.T @ R, "b": 2 / len(Y) * np.sum(R, axis=0)}


@case(
    X=normal("N", 3),
    W=normal(3, 3),
    b=normal(3),
    Y=normal("N", 3),
    gradient=several_outputs_gradient,
    wrt=("W", "b"),
    options=OPTIONS,
)
def several_outputs(X: F64, W: F64, b: F64, Y: F64) -> Any:
    """L = 1/N Σₙ ‖(X W + b - Y)ₙ‖²: summed over the outputs, averaged over the samples."""
    return np.sum((X @ W + b - Y) ** 2) / len(Y)


@twin_of(several_outputs)
def torch_several_outputs(X: Tensor, W: Tensor, b: Tensor, Y: Tensor) -> Tensor:
    """L = 1/N Σₙ ‖(X W + b - Y)ₙ‖²."""
    return functional.mse_loss(X @ W + b, Y, reduction="sum") / len(Y)


def ridge_gradient(X: F64, w: F64, b: F64, y: F64, lam: float) -> dict[str, Any]:
    """dL/dw = 2/N Xᵀ r + 2 λ w, dL/db = 2/N Σ r, with r = X w + b - y: the intercept is not penalised."""
    r = X @ w + b - y
    return {"w": 2 / len(y) * X.T @ r + 2 * lam * w, "b": 2 / len(y) * np.sum(r)}


@case(**INPUTS, lam=0.5, gradient=ridge_gradient, wrt=WRT, options=OPTIONS)
def ridge(X: F64, w: F64, b: F64, y: F64, lam: float) -> Any:
    """L = 1/N Σ (X w + b - y)² + λ ‖w‖²."""
    return np.mean((X @ w + b - y) ** 2) + lam * np.sum(w**2)


@twin_of(ridge)
def torch_ridge(X: Tensor, w: Tensor, b: Tensor, y: Tensor, lam: float) -> Tensor:
    """L = 1/N Σ (X w + b - y)² + λ ‖w‖²."""
    return functional.mse_loss(X @ w + b, y) + lam * torch.sum(w**2)


def lasso_gradient(X: F64, w: F64, b: F64, y: F64, lam: float) -> dict[str, Any]:
    """dL/dw = 1/N Xᵀ r + λ sign w, dL/db = 1/N Σ r, with r = X w + b - y and the subgradient sign 0 = 0."""
    r = X @ w + b - y
    return {"w": X.T @ r / len(y) + lam * np.sign(w), "b": np.sum(r) / len(y)}


SPARSE: dict[str, Any] = {**INPUTS, "w": array([0.0, 1.5, 0.0])}


@case(**SPARSE, lam=0.5, gradient=lasso_gradient, wrt=WRT, options=OPTIONS, name="at the kink")
@case(**INPUTS, lam=0.5, gradient=lasso_gradient, wrt=WRT, options=OPTIONS, name="smooth")
def lasso(X: F64, w: F64, b: F64, y: F64, lam: float) -> Any:
    """L = 1/(2N) Σ (X w + b - y)² + λ ‖w‖₁: a kink where an entry of w is 0."""
    return np.mean((X @ w + b - y) ** 2) / 2 + lam * np.sum(np.abs(w))


@twin_of(lasso)
def torch_lasso(X: Tensor, w: Tensor, b: Tensor, y: Tensor, lam: float) -> Tensor:
    """L = 1/(2N) Σ (X w + b - y)² + λ ‖w‖₁."""
    return functional.mse_loss(X @ w + b, y) / 2 + lam * torch.sum(torch.abs(w))


def elastic_net_gradient(X: F64, w: F64, b: F64, y: F64, lam: float, alpha: float) -> dict[str, Any]:
    """dL/dw = 1/N Xᵀ r + λ (α sign w + (1 - α) w), dL/db = 1/N Σ r, with r = X w + b - y and sign 0 = 0."""
    r = X @ w + b - y
    return {"w": X.T @ r / len(y) + lam * (alpha * np.sign(w) + (1 - alpha) * w), "b": np.sum(r) / len(y)}


@case(**SPARSE, lam=0.5, alpha=0.3, gradient=elastic_net_gradient, wrt=WRT, options=OPTIONS, name="at the kink")
@case(**INPUTS, lam=0.5, alpha=0.3, gradient=elastic_net_gradient, wrt=WRT, options=OPTIONS, name="smooth")
def elastic_net(X: F64, w: F64, b: F64, y: F64, lam: float, alpha: float) -> Any:
    """L = 1/(2N) Σ (X w + b - y)² + λ (α ‖w‖₁ + (1 - α)/2 ‖w‖²)."""
    return np.mean((X @ w + b - y) ** 2) / 2 + lam * (alpha * np.sum(np.abs(w)) + (1 - alpha) / 2 * np.sum(w**2))


@twin_of(elastic_net)
def torch_elastic_net(X: Tensor, w: Tensor, b: Tensor, y: Tensor, lam: float, alpha: float) -> Tensor:
    """L = 1/(2N) Σ (X w + b - y)² + λ (α ‖w‖₁ + (1 - α)/2 ‖w‖²)."""
    penalty = alpha * torch.sum(torch.abs(w)) + (1 - alpha) / 2 * torch.sum(w**2)
    return functional.mse_loss(X @ w + b, y) / 2 + lam * penalty


def huber_gradient(X: F64, w: F64, b: F64, y: F64, delta: float) -> dict[str, Any]:
    """dL/dw = 1/N Xᵀ ψ, dL/db = 1/N Σ ψ, with r = X w + b - y and ψ = r clipped to [-δ, δ]."""
    psi = np.clip(X @ w + b - y, -delta, delta)
    return {"w": X.T @ psi / len(y), "b": np.sum(psi) / len(y)}


# Residuals of exactly δ and -δ, and one on either side: there the slope is equal from both sides, but the curvature is not.
AT_DELTA: dict[str, Any] = {
    "X": array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [1.0, -1.0]]),
    "w": array([0.5, -0.5]),
    "b": array(0.5),
    "y": array([0.0, 1.0, 0.25, -0.5]),
}


@case(**AT_DELTA, delta=1.0, gradient=huber_gradient, wrt=WRT, name="at the threshold")
@case(**INPUTS, delta=1.0, gradient=huber_gradient, wrt=WRT, options=OPTIONS, name="smooth")
def huber(X: F64, w: F64, b: F64, y: F64, delta: float) -> Any:
    """L = 1/N Σ h(r), with r = X w + b - y and h = r²/2 where |r| ≤ δ, else δ (|r| - δ/2): once differentiable at δ."""
    r = X @ w + b - y
    return np.mean(np.where(np.abs(r) <= delta, r**2 / 2, delta * (np.abs(r) - delta / 2)))


@twin_of(huber)
def torch_huber(X: Tensor, w: Tensor, b: Tensor, y: Tensor, delta: float) -> Tensor:
    """L = 1/N Σ h(r), with r = X w + b - y and h = r²/2 where |r| ≤ δ, else δ (|r| - δ/2)."""
    return functional.huber_loss(X @ w + b, y, delta=delta)


def poisson_gradient(X: F64, w: F64, b: F64, y: I64) -> dict[str, Any]:
    """dL/dw = 1/N Xᵀ (μ - y), dL/db = 1/N Σ (μ - y), with the mean μ = e^(X w + b)."""
    r = np.exp(X @ w + b) - y
    return {"w": X.T @ r / len(y), "b": np.sum(r) / len(y)}


@case(**{**INPUTS, "y": integers(0, 5, "N")}, gradient=poisson_gradient, wrt=WRT, options=OPTIONS)
def poisson(X: F64, w: F64, b: F64, y: I64) -> Any:
    """L = 1/N Σ (e^η - y η), η = X w + b: the negative log-likelihood of counts y with mean e^η, without ln y!."""
    eta = X @ w + b
    return np.mean(np.exp(eta) - y * eta)


@twin_of(poisson)
def torch_poisson(X: Tensor, w: Tensor, b: Tensor, y: Tensor) -> Tensor:
    """L = 1/N Σ (e^η - y η), η = X w + b."""
    return functional.poisson_nll_loss(X @ w + b, y)

"""Normalisation over features (layer norm) and over the batch (batch norm in training mode).

Both give γ X̂ + β with X̂ = (X - μ) / σ; they differ in the axis over which mean and variance are taken. The mean and the
variance depend on every x along that axis, which gives the two last terms of the derivative with respect to X.

Sources: S. Ioffe, C. Szegedy, Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate Shift
(2015), section 3. J. L. Ba, J. R. Kiros, G. E. Hinton, Layer Normalization (2016), section 3.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from gradcheck.reference.twin import twin_of
from gradcheck.targets.case import case
from gradcheck.targets.specs.spec import normal

F64 = NDArray[np.float64]
Tensor = torch.Tensor
# We take eps so large that a derivative that forgets it differs visibly.
INPUTS: dict[str, Any] = {"X": normal("N", 4), "gamma": normal(4), "beta": normal(4), "eps": 0.1}
OPTIONS = {"dims": {"N": (5, 8)}}


def _standardised(X: F64, eps: float, axis: int) -> tuple[F64, F64]:
    """X̂ = (X - μ) / σ and σ = √(mean((X - μ)²) + eps), along an axis."""
    centred = X - np.mean(X, axis=axis, keepdims=True)
    sigma: F64 = np.sqrt(np.mean(centred**2, axis=axis, keepdims=True) + eps)
    return centred / sigma, sigma


def _vjp(dY: F64, X: F64, gamma: F64, eps: float, axis: int) -> dict[str, F64]:
    """DX = (g - mean(g) - X̂ mean(g ⊙ X̂)) / σ, dγ = Σₙ dY ⊙ X̂, dβ = Σₙ dY, with g = γ ⊙ dY and means along an axis."""
    X_hat, sigma = _standardised(X, eps, axis)
    g = gamma * dY
    dX = (g - g.mean(axis, keepdims=True) - X_hat * (g * X_hat).mean(axis, keepdims=True)) / sigma
    return {"X": dX, "gamma": (dY * X_hat).sum(0), "beta": dY.sum(0)}


def layer_norm_vjp(dY: F64, X: F64, gamma: F64, beta: F64, eps: float = 1e-5) -> dict[str, F64]:
    """DX = (g - mean_d(g) - X̂ mean_d(g ⊙ X̂)) / σ, dγ = Σₙ dY ⊙ X̂, dβ = Σₙ dY, with g = γ ⊙ dY."""
    return _vjp(dY, X, gamma, eps, axis=1)


@case(**INPUTS, vjp=layer_norm_vjp, wrt=("X", "gamma", "beta"), options=OPTIONS)
def layer_norm(X: F64, gamma: F64, beta: F64, eps: float = 1e-5) -> Any:
    """Y = γ ⊙ (X - μ) / σ + β, with μ and σ² = variance + eps over the d features of each row of X (N, d)."""
    return gamma * _standardised(X, eps, axis=1)[0] + beta


@twin_of(layer_norm)
def torch_layer_norm(X: Tensor, gamma: Tensor, beta: Tensor, eps: float = 1e-5) -> Tensor:
    """Y = γ ⊙ (X - μ) / σ + β, over the features."""
    return functional.layer_norm(X, gamma.shape, gamma, beta, eps)


def batch_norm_vjp(dY: F64, X: F64, gamma: F64, beta: F64, eps: float = 1e-5) -> dict[str, F64]:
    """DX = (g - meanₙ(g) - X̂ meanₙ(g ⊙ X̂)) / σ, dγ = Σₙ dY ⊙ X̂, dβ = Σₙ dY, with g = γ ⊙ dY."""
    return _vjp(dY, X, gamma, eps, axis=0)


@case(**INPUTS, vjp=batch_norm_vjp, wrt=("X", "gamma", "beta"), options=OPTIONS)
def batch_norm(X: F64, gamma: F64, beta: F64, eps: float = 1e-5) -> Any:
    """Y = γ ⊙ (X - μ) / σ + β, with μ and σ² = variance (divided by N) + eps over the batch, for each feature of X (N, d)."""
    return gamma * _standardised(X, eps, axis=0)[0] + beta


@twin_of(batch_norm)
def torch_batch_norm(X: Tensor, gamma: Tensor, beta: Tensor, eps: float = 1e-5) -> Tensor:
    """Y = γ ⊙ (X - μ) / σ + β, over the batch."""
    return functional.batch_norm(X, None, None, gamma, beta, training=True, eps=eps)

"""Linear regression y = X w + b with the mean squared error, in its two conventions, and as an `nn.Module`.

Source: C. M. Bishop, Pattern Recognition and Machine Learning (2006), section 3.1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gradcheck.reference.twin import twin_of
from gradcheck.targets.case import case
from gradcheck.targets.specs import normal

F64 = NDArray[np.float64]
INPUTS: dict[str, Any] = {"X": normal("N", 3), "w": normal(3), "b": normal(), "y": normal("N")}
OPTIONS = {"dims": {"N": (5, 8)}}


def mse_gradient(X: F64, w: F64, b: F64, y: F64) -> dict[str, Any]:
    """dL/dw = 2/N Xᵀ r, dL/db = 2/N Σ r, with r = X w + b - y."""
    r = X @ w + b - y
    return {"w": 2 / len(y) * X.T @ r, "b": 2 / len(y) * np.sum(r)}


@case(**INPUTS, gradient=mse_gradient, wrt=("w", "b"), options=OPTIONS)
def mse(X: F64, w: F64, b: F64, y: F64) -> Any:
    """L = 1/N Σ (X w + b - y)²."""
    return np.mean((X @ w + b - y) ** 2)


def half_mse_gradient(X: F64, w: F64, b: F64, y: F64) -> dict[str, Any]:
    """dL/dw = 1/m Xᵀ r, dL/db = 1/m Σ r: the factor 2 is cancelled by the half in the loss."""
    r = X @ w + b - y
    return {"w": X.T @ r / len(y), "b": np.sum(r) / len(y)}


@case(**INPUTS, gradient=half_mse_gradient, wrt=("w", "b"), options=OPTIONS)
def half_mse(X: F64, w: F64, b: F64, y: F64) -> Any:
    """L = 1/(2m) Σ (X w + b - y)²."""
    return np.sum((X @ w + b - y) ** 2) / (2 * len(y))


@twin_of(mse)
def torch_mse(X: torch.Tensor, w: torch.Tensor, b: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """L = 1/N Σ (X w + b - y)²."""
    return torch.mean((X @ w + b - y) ** 2)


@twin_of(half_mse)
def torch_half_mse(X: torch.Tensor, w: torch.Tensor, b: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """L = 1/(2m) Σ (X w + b - y)²."""
    return torch.sum((X @ w + b - y) ** 2) / (2 * len(y))

"""Linear classifiers and their losses, each with its gradient.

N is the number of samples; X is (N, d), w (d,) and b a scalar; for several classes W is (d, k), b (k,) and the scores Z (N, k).
Sources: C. M. Bishop, Pattern Recognition and Machine Learning (2006), section 4.3.2 (logistic regression), section 4.3.4
(softmax regression) and section 7.1.2 (hinge).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from gradcheck.reference.twin import twin_of
from gradcheck.targets.case import case
from gradcheck.targets.specs.spec import (
    array,
    boolean,
    integers,
    normal,
    uniform,
)

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]
Tensor = torch.Tensor
INPUTS: dict[str, Any] = {"X": normal("N", 3), "w": normal(3), "b": normal()}
WRT = ("w", "b")
OPTIONS = {"dims": {"N": (5, 8)}}


def sigmoid(z: F64) -> F64:
    """σ(z) = 1 / (1 + e⁻ᶻ)."""
    return 1 / (1 + np.exp(-z))


def softmax(Z: F64) -> F64:
    """Pₙₖ = e^Zₙₖ / Σⱼ e^Zₙⱼ."""
    P: F64 = np.exp(Z) / np.sum(np.exp(Z), axis=1, keepdims=True)
    return P


def one_hot(y: I64, classes: int) -> F64:
    """Yₙₖ = 1 where k is the class yₙ, else 0."""
    return np.eye(classes)[y]


def logistic_gradient(X: F64, w: F64, b: F64, y: Bools) -> dict[str, Any]:
    """dL/dw = 1/N Xᵀ (σ(z) - y), dL/db = 1/N Σ (σ(z) - y), with z = X w + b."""
    r = sigmoid(X @ w + b) - y
    return {"w": X.T @ r / len(y), "b": np.sum(r) / len(y)}


@case(**INPUTS, y=boolean("N"), gradient=logistic_gradient, wrt=WRT, options=OPTIONS)
def logistic(X: F64, w: F64, b: F64, y: Bools) -> Any:
    """L = 1/N Σ [ln(1 + eᶻ) - y z], z = X w + b: the cross-entropy of labels 0 and 1."""
    z = X @ w + b
    return np.mean(np.logaddexp(0, z) - y * z)


@twin_of(logistic)
def torch_logistic(X: Tensor, w: Tensor, b: Tensor, y: Tensor) -> Tensor:
    """L = 1/N Σ [ln(1 + eᶻ) - y z], z = X w + b."""
    return functional.binary_cross_entropy_with_logits(X @ w + b, y.to(X.dtype))


def softmax_cross_entropy_gradient(Z: F64, y: I64) -> F64:
    """dL/dZ = 1/N (P - Y), with P = softmax Z and Y the one-hot labels."""
    return (softmax(Z) - one_hot(y, Z.shape[1])) / len(y)


@case(Z=normal("N", 3), y=integers(0, 3, "N"), gradient=softmax_cross_entropy_gradient, wrt="Z", options=OPTIONS)
def softmax_cross_entropy(Z: F64, y: I64) -> Any:
    """L = 1/N Σₙ [ln Σₖ e^Zₙₖ - Zₙ,yₙ]: minus the mean log-probability of the right class."""
    return np.mean(np.log(np.sum(np.exp(Z), axis=1)) - Z[np.arange(len(y)), y])


@twin_of(softmax_cross_entropy)
def torch_softmax_cross_entropy(Z: Tensor, y: Tensor) -> Tensor:
    """L = 1/N Σₙ [ln Σₖ e^Zₙₖ - Zₙ,yₙ]."""
    return functional.cross_entropy(Z, y)


def softmax_regression_gradient(X: F64, W: F64, b: F64, y: I64) -> dict[str, F64]:
    """dL/dW = 1/N Xᵀ (P - Y), dL/db = 1/N Σₙ (P - Y)ₙ, with P = softmax(X W + b) and Y the one-hot labels."""
    R = softmax(X @ W + b) - one_hot(y, len(b))
    return {"W": X.T @ R / len(y), "b": np.sum(R, axis=0) / len(y)}


@case(
    X=normal("N", 3),
    W=normal(3, 3),
    b=normal(3),
    y=integers(0, 3, "N"),
    gradient=softmax_regression_gradient,
    wrt=("W", "b"),
    options=OPTIONS,
)
def softmax_regression(X: F64, W: F64, b: F64, y: I64) -> Any:
    """L = 1/N Σₙ [ln Σₖ e^Zₙₖ - Zₙ,yₙ], Z = X W + b."""
    return softmax_cross_entropy(X @ W + b, y)


@twin_of(softmax_regression)
def torch_softmax_regression(X: Tensor, W: Tensor, b: Tensor, y: Tensor) -> Tensor:
    """L = 1/N Σₙ [ln Σₖ e^Zₙₖ - Zₙ,yₙ], Z = X W + b."""
    return functional.cross_entropy(functional.linear(X, W.T, b), y)


def hinge_gradient(X: F64, w: F64, b: F64, y: I64) -> dict[str, Any]:
    """dL/dw = -1/N Σ t x, dL/db = -1/N Σ t over the samples with t (x w + b) < 1, t = 2 y - 1; 0 at margin 1."""
    t = 2 * y - 1
    active = t * (t * (X @ w + b) < 1)
    return {"w": -X.T @ active / len(y), "b": -np.sum(active) / len(y)}


# We draw small weights: with most margins beyond 1 the loss would be zero, and nothing would be checked.
SMALL: dict[str, Any] = {"X": normal("N", 3), "w": uniform(-1, 1, 3), "b": uniform(-1, 1)}
# Margins of exactly 1 (at both labels), 2, 1/2 and -1.
AT_MARGIN: dict[str, Any] = {
    "X": array([[1.0, 0.0], [0.0, 1.0], [3.0, 0.0], [1.0, 1.0], [-3.0, 0.0]]),
    "w": array([0.5, -1.5]),
    "b": array(0.5),
    "y": array([1, 0, 1, 0, 1]),
}


@case(**AT_MARGIN, gradient=hinge_gradient, wrt=WRT, name="at the kink")
@case(**SMALL, y=integers(0, 2, "N"), gradient=hinge_gradient, wrt=WRT, options=OPTIONS, name="smooth")
def hinge(X: F64, w: F64, b: F64, y: I64) -> Any:
    """L = 1/N Σ max(0, 1 - t (X w + b)), with t = 2 y - 1 for labels 0 and 1: a kink at margin t (X w + b) = 1."""
    t = 2 * y - 1
    return np.mean(np.maximum(0, 1 - t * (X @ w + b)))


@twin_of(hinge)
def torch_hinge(X: Tensor, w: Tensor, b: Tensor, y: Tensor) -> Tensor:
    """L = 1/N Σ max(0, 1 - t (X w + b)), t = 2 y - 1."""
    return functional.relu(1 - (2 * y - 1) * (X @ w + b)).mean()

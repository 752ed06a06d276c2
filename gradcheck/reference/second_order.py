"""Functions that second-order methods need, and a model too large for anything but products with vectors.

Rosenbrock's function, the valley on which minimisers are compared: J. Nocedal, S. Wright, Numerical Optimization (2006).
Hessian-vector product of logistic regression: C. M. Bishop, Pattern Recognition and Machine Learning (2006), section 4.3.3;
products without the matrix: B. Pearlmutter, Fast Exact Multiplication by the Hessian (1994).
Newton's method with conjugate gradients: Nocedal and Wright, section 7.1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gradcheck.reference.twin import twin_of
from gradcheck.targets.case import case
from gradcheck.targets.specs.spec import integers, normal, uniform

F64 = NDArray[np.float64]
FEATURES = 2000


# Rosenbrock's function


def rosenbrock_hessian(x: F64) -> F64:
    """H_ii = 1200 x_i² - 400 x_i+1 + 2 [i < n] + 200 [i > 1], the first two terms for i < n; H_i,i+1 = H_i+1,i = -400 x_i."""
    diagonal = np.zeros_like(x)
    diagonal[:-1] += 1200 * x[:-1] ** 2 - 400 * x[1:] + 2
    diagonal[1:] += 200
    return np.diag(diagonal) + np.diag(-400 * x[:-1], 1) + np.diag(-400 * x[:-1], -1)


@case(x=normal("n"), jacobian=rosenbrock_hessian, options={"dims": {"n": (2, 6)}})
def rosenbrock_gradient(x: F64) -> Any:
    """∂f/∂x_i = [i < n] (-400 x_i (x_i+1 - x_i²) - 2 (1 - x_i)) + [i > 1] 200 (x_i - x_i-1²)."""
    gradient = np.zeros_like(x)
    gradient[:-1] += -400 * x[:-1] * (x[1:] - x[:-1] ** 2) - 2 * (1 - x[:-1])
    gradient[1:] += 200 * (x[1:] - x[:-1] ** 2)
    return gradient


@case(x=normal("n"), gradient=rosenbrock_gradient, options={"dims": {"n": (2, 6)}})
def rosenbrock(x: F64) -> Any:
    """F = Σ_i<n 100 (x_i+1 - x_i²)² + (1 - x_i)²: a curved valley with its minimum 0 at (1, …, 1)."""
    return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


@twin_of(rosenbrock)
def torch_rosenbrock(x: torch.Tensor) -> torch.Tensor:
    """F = Σ_i<n 100 (x_i+1 - x_i²)² + (1 - x_i)²."""
    return torch.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


@twin_of(rosenbrock_gradient)
def torch_rosenbrock_gradient(x: torch.Tensor) -> Any:
    """∇f by `torch.func.grad`: its derivative is PyTorch's Hessian."""
    return torch.func.grad(torch_rosenbrock)(x)


# Logistic regression with a ridge: loss, gradient, Hessian-vector product


def logistic_hessian_product(v: F64, w: F64, X: F64, y: F64, strength: F64) -> Any:
    """H v = 1/N Xᵀ (s ∘ (1 - s) ∘ X v) + λ v, with s = σ(X w): at the cost of a gradient, and H is never formed."""
    s = 1 / (1 + np.exp(-X @ w))
    return X.T @ (s * (1 - s) * (X @ v)) / len(y) + strength * v


LOGISTIC: dict[str, Any] = {"w": normal(3), "X": normal("N", 3), "y": integers(0, 2, "N"), "strength": uniform(0.1, 1)}


@case(**LOGISTIC, jvp=logistic_hessian_product, wrt="w", options={"dims": {"N": (5, 8)}})
def logistic_gradient(w: F64, X: F64, y: F64, strength: F64) -> Any:
    """dL/dw = 1/N Xᵀ (s - y) + λ w, with s = σ(X w)."""
    return X.T @ (1 / (1 + np.exp(-X @ w)) - y) / len(y) + strength * w


@case(**LOGISTIC, gradient=logistic_gradient, wrt="w", options={"dims": {"N": (5, 8)}})
def logistic_loss(w: F64, X: F64, y: F64, strength: F64) -> Any:
    """L = 1/N Σ (log(1 + exp z) - y z) + λ/2 |w|², with z = X w and y in {0, 1}."""
    z = X @ w
    return np.mean(np.log1p(np.exp(z)) - y * z) + strength / 2 * w @ w


@twin_of(logistic_loss)
def torch_logistic_loss(w: torch.Tensor, X: torch.Tensor, y: torch.Tensor, strength: torch.Tensor) -> torch.Tensor:
    """L = the binary cross-entropy of the logits X w and the labels, + λ/2 |w|²."""
    return torch.nn.functional.binary_cross_entropy_with_logits(X @ w, y.to(w.dtype)) + strength / 2 * w @ w


@twin_of(logistic_gradient)
def torch_logistic_gradient(w: torch.Tensor, X: torch.Tensor, y: torch.Tensor, strength: torch.Tensor) -> Any:
    """∇L by `torch.func.grad`: its derivative along v is PyTorch's Hessian-vector product."""
    return torch.func.grad(torch_logistic_loss)(w, X, y, strength)


def conjugate_gradients(product: Callable[[Any], Any], b: F64, steps: int) -> Any:
    """Solve H x = b for a positive definite H of which only the product with a vector is known."""
    x, r, d = np.zeros_like(b), b, b
    for _ in range(steps):
        if not r @ r > 0:
            break
        Hd = product(d)
        alpha = (r @ r) / (d @ Hd)
        x, before, r = x + alpha * d, r, r - alpha * Hd
        d = r + (r @ r) / (before @ before) * d
    return x


def newton_step(w: F64, X: F64, y: F64, strength: F64) -> Any:
    """W' = w - H⁻¹ dL/dw: one step of Newton's method, its system solved by as many conjugate gradients as weights."""
    gradient = logistic_gradient(w, X, y, strength)
    return w - conjugate_gradients(lambda v: logistic_hessian_product(v, w, X, y, strength), gradient, len(w))


# A linear model of thousands of features, only a few of which are present in each row


def sparse_least_squares_gradient(w: F64, columns: NDArray[np.int64], values: F64, y: F64) -> F64:
    """∂L/∂w_j = 2/N Σ_n r_n Σ_k a_nk [j_nk = j]: every place that names feature j adds its share."""
    r = np.sum(values * w[columns], axis=1) - y
    gradient = np.zeros_like(w)
    np.add.at(gradient, columns, 2 / len(y) * r[:, None] * values)
    return gradient


@case(
    w=normal(FEATURES),
    columns=integers(0, FEATURES, 500, 4),
    values=normal(500, 4),
    y=normal(500),
    gradient=sparse_least_squares_gradient,
    wrt="w",
)
def sparse_least_squares(w: F64, columns: NDArray[np.int64], values: F64, y: F64) -> Any:
    """L = 1/N Σ_n (Σ_k a_nk w[j_nk] - y_n)²: row n has the values a_n1 … a_nK in the columns j_n1 … j_nK, all else is 0."""
    return np.mean((np.sum(values * w[columns], axis=1) - y) ** 2)


@twin_of(sparse_least_squares)
def torch_sparse_least_squares(w: torch.Tensor, columns: torch.Tensor, values: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """L = MSE(A w, y), A a sparse tensor in coordinate form."""
    rows = torch.arange(len(y)).repeat_interleave(columns.shape[1])
    A = torch.sparse_coo_tensor(
        torch.stack([rows, columns.reshape(-1)]), values.reshape(-1), (len(y), len(w)), check_invariants=True
    )
    return torch.nn.functional.mse_loss(A @ w, y)

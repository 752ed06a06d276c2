"""A textbook program whose autodiff is right and whose loss is wrong: the one reference model that is expected to FAIL.

X is (N, 1), w and b are (1,), so `X @ w + b` is (N,). With y of shape (N, 1) the residual `X @ w + b - y` silently broadcasts
to (N, N), and its mean is not the mean squared error. Autodiff differentiates the program faithfully; the hand-written gradient
is that of the formula. Two methods would only disagree. The third, differences of the program, shows which one is
the derivative of the program: the mistake is in the loss, not in either derivative.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradcheck.targets.case import case
from gradcheck.targets.specs.spec import normal

F64 = NDArray[np.float64]


def mse_gradient(X: F64, w: F64, b: F64, y: F64) -> dict[str, Any]:
    """dL/dw = 2/N Σ r x, dL/db = 2/N Σ r, with r = x w + b - y entry by entry: right for the formula."""
    r = X[:, 0] * w + b - y[:, 0]
    return {"w": 2 / len(y) * np.sum(r * X[:, 0], keepdims=True), "b": 2 / len(y) * np.sum(r, keepdims=True)}


@case(
    X=normal("N", 1),
    w=normal(1),
    b=normal(1),
    y=normal("N", 1),
    gradient=mse_gradient,
    wrt=("w", "b"),
    options={"dims": {"N": (5, 8)}},
    expect="fail",
    because="(N,) - (N, 1) broadcasts to (N, N): the program's loss is not the mean squared error",
)
def broadcast_mse(X: F64, w: F64, b: F64, y: F64) -> Any:
    """Meant: L = 1/N Σ (x w + b - y)². Computed: 1/N² ΣΣ (x_i w + b - y_j)²."""
    return np.mean((X @ w + b - y) ** 2)

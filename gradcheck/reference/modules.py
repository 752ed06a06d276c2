"""Linear regression as a PyTorch module: `nn.Linear` and `nn.MSELoss`, with X of shape (N, d) and y of shape (N, 1)."""

from __future__ import annotations

import torch

from gradcheck.targets.case import case
from gradcheck.targets.specs.spec import normal


def linear_mse_gradient(
    X: torch.Tensor, y: torch.Tensor, params: dict[str, torch.Tensor]
) -> dict[str, dict[str, torch.Tensor]]:
    """dL/dW = 2/N rᵀ X, dL/db = 2/N Σ r, with r = X Wᵀ + b - y."""
    r = X @ params["linear.weight"].T + params["linear.bias"] - y
    return {"params": {"linear.weight": 2 / len(y) * r.T @ X, "linear.bias": 2 / len(y) * r.sum(0)}}


@case(
    X=normal("N", 3),
    y=normal("N", 1),
    init={"features": 3},
    gradient=linear_mse_gradient,
    wrt="params",
    options={"dims": {"N": (5, 8)}},
)
class LinearMSE(torch.nn.Module):
    """L = 1/N Σ (X Wᵀ + b - y)²; its parameters are leaves `params['linear.weight']` and `params['linear.bias']`."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(features, 1)
        self.loss = torch.nn.MSELoss()

    def forward(self, X: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Compute the loss, a scalar."""
        value: torch.Tensor = self.loss(self.linear(X), y)
        return value

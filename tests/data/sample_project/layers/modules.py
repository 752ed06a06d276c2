"""A module with parameters."""

import torch

from layers.functions import Product


class Gate(torch.nn.Module):
    """Each feature times a weight of its own."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(features))

    def forward(self, x):
        return Product.apply(x, self.weight.expand_as(x))

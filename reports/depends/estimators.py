"""Gradients of functions that draw random numbers: unbiased estimators, and biased ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from gradcheck import normal

SAMPLES = 64
X = normal(3)


@dataclass(frozen=True)
class Estimator:
    """A function, and the gradient that it claims.

    Attributes:
        name: for the page.
        make: seed -> the function, and the gradient by hand or None.
        fault: what is wrong; '' for an unbiased one.
        framework: of the function.
    """

    name: str
    make: Callable[[int], tuple[Any, Any]]
    fault: str = ""
    framework: str = "torch"


class Coins:
    """Coins that fall with a probability of sigmoid(x), and a cost of how they fall."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def toss(self, x: Any) -> tuple[Any, Any, Any]:
        """Return the probabilities, the coins and their costs."""
        p = 1 / (1 + np.exp(-x))
        coins = self.rng.uniform(size=(SAMPLES, x.size)) < p
        return p, coins, ((coins - 0.2) ** 2).sum(axis=1) + coins[:, 0] * coins[:, 1]

    def cost(self, x: Any) -> Any:
        """Return the mean cost."""
        return self.toss(x)[2].mean()

    def score(self, baseline: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Return the score-function estimator with a baseline."""

        def gradient(x: Any) -> Any:
            p, coins, costs = self.toss(x)
            return ((costs - baseline(costs))[:, None] * (coins - p)).mean(axis=0)

        return gradient

    def straight_through(self, x: Any) -> Any:
        """Return the gradient of the cost of a coin, as if it were its probability."""
        p, coins, _ = self.toss(x)
        coins = coins.astype(float)
        slopes = 2 * (coins - 0.2)
        slopes[:, 0] += coins[:, 1]
        slopes[:, 1] += coins[:, 0]
        return (slopes * p * (1 - p)).mean(axis=0)


def coins(gradient: Callable[[Coins], Any]) -> Callable[[int], tuple[Any, Any]]:
    """Return what makes the cost of the coins with a gradient."""

    def make(seed: int) -> tuple[Any, Any]:
        tossed = Coins(seed)
        return tossed.cost, gradient(tossed)

    return make


def left_out(costs: Any) -> Any:
    """The mean of the other samples."""
    return (costs.sum() - costs) / (SAMPLES - 1)


def rounding(width: float) -> Callable[[int], tuple[Any, Any]]:
    """Stochastic rounding with random numbers between 0 and `width`, and the gradient of the identity."""

    def make(seed: int) -> tuple[Any, Any]:
        rng = np.random.default_rng(seed)
        return lambda x: np.floor(x + width * rng.uniform(size=(SAMPLES, 3))).mean(), lambda x: np.full(3, 1 / 3)

    return make


def dropout(x: Any) -> Any:
    """Dropout, as written."""
    return (nn.functional.dropout(x, 0.4) ** 2).sum()


def rescaled_in_backward(x: Any) -> Any:
    """Dropout whose backward forgets to divide by the share that is kept."""
    kept = (torch.rand_like(x) < 0.6).to(x) / 0.6
    return (x * kept + (x * kept * 0.6 - (x * kept * 0.6).detach()) - (x * kept - (x * kept).detach())).sum()


def reparametrised(x: Any) -> Any:
    """A normal sample with x as its mean and softplus(x) as its deviation."""
    return ((x + nn.functional.softplus(x) * torch.randn(SAMPLES, 3, dtype=x.dtype)) ** 2).mean()


def detached_deviation(x: Any) -> Any:
    """The sample of the function above, with the deviation detached."""
    return ((x + nn.functional.softplus(x).detach() * torch.randn(SAMPLES, 3, dtype=x.dtype)) ** 2).mean()


def exponential(x: Any) -> Any:
    """An exponential sample by inversion."""
    return torch.sqrt(-torch.log(torch.rand(SAMPLES, 3, dtype=x.dtype)) * torch.exp(x)).mean()


def gumbel(*, hard: bool) -> Callable[[Any], Any]:
    """A Gumbel-softmax sample; a hard one passes its gradient straight through."""

    def cost(x: Any) -> Any:
        sample = nn.functional.gumbel_softmax(x.expand(SAMPLES, 3), tau=0.7, hard=hard)
        return (sample @ torch.tensor([1.0, 2.0, 4.0], dtype=x.dtype)).square().mean()

    return cost


def categorical(*, surrogate: bool) -> Callable[[Any], Any]:
    """The cost of a category, with the gradient of a score function; or the surrogate loss itself."""

    def cost(x: Any) -> Any:
        logs = torch.log_softmax(x, 0)
        k = torch.multinomial(logs.detach().exp(), SAMPLES, replacement=True)
        costs = torch.tensor([1.0, 2.0, 4.0], dtype=x.dtype)[k]
        scored = (costs - 2) * logs[k]
        return (scored if surrogate else costs + scored - scored.detach()).mean()

    return cost


def written(fn: Callable[[Any], Any]) -> Callable[[int], tuple[Any, Any]]:
    """Return what makes a function that autograd differentiates."""
    return lambda seed: (fn, None)


RIGHT = (
    Estimator("dropout", written(dropout)),
    Estimator("normal, reparametrised", written(reparametrised)),
    Estimator("exponential, by inversion", written(exponential)),
    Estimator("Gumbel-softmax, soft", written(gumbel(hard=False))),
    Estimator("categorical, score function in autograd", written(categorical(surrogate=False))),
    Estimator("Bernoulli, score function", coins(lambda c: c.score(np.zeros_like)), framework="numpy"),
    Estimator("Bernoulli, constant baseline", coins(lambda c: c.score(lambda costs: 0.9)), framework="numpy"),
    Estimator("Bernoulli, leave-one-out baseline", coins(lambda c: c.score(left_out)), framework="numpy"),
    Estimator("stochastic rounding", rounding(1.0), framework="numpy"),
)
WRONG = (
    Estimator("Bernoulli", coins(lambda c: c.straight_through), "straight through", "numpy"),
    Estimator("Bernoulli", coins(lambda c: c.score(lambda costs: 0.5 * costs)), "baseline of the sample itself", "numpy"),
    Estimator("Bernoulli", coins(lambda c: lambda x: -c.score(left_out)(x)), "wrong sign", "numpy"),
    Estimator("Gumbel-softmax", written(gumbel(hard=True)), "straight through"),
    Estimator("categorical", written(categorical(surrogate=True)), "the surrogate is returned"),
    Estimator("stochastic rounding", rounding(0.5), "random numbers up to 1/2", "numpy"),
    Estimator("normal, reparametrised", written(detached_deviation), "the deviation is detached"),
    Estimator("dropout", written(rescaled_in_backward), "the backward forgets the scale"),
)

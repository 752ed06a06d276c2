"""The sample reports: `python reports/sample/sample.py` checks these cases and writes sample.html and sample.md.

The cases show the kinds of results: right derivatives, a forgotten mean, a wrong entry among many, a model with a wrong layer,
a broken contract, a case that cannot be decided, and one that is meant to fail.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gradcheck import case, normal
from gradcheck.options import Options
from gradcheck.report import formats
from gradcheck.run.plan import Request, build_replay_command, plan
from gradcheck.run.runner import run

HERE = Path(__file__).resolve()
PAGES = {"html": HERE.parents[1] / "sample.html", "markdown": HERE.parents[1] / "sample.md"}


def gradient_without_mean(w: Any, X: Any, y: Any) -> Any:
    """Compute the gradient from the notes, which is missing the factor 1/N."""
    return X.T @ (1 / (1 + np.exp(-X @ w)) - y)


def gradient_with_mean(w: Any, X: Any, y: Any) -> Any:
    """Compute the gradient with the factor 1/N."""
    return gradient_without_mean(w, X, y) / len(y)


@case(w=normal(3), X=normal(8, 3), y=normal(8), wrt="w", gradient=gradient_with_mean, name="fixed")
@case(w=normal(3), X=normal(8, 3), y=normal(8), wrt="w", gradient=gradient_without_mean)
def logistic(w: Any, X: Any, y: Any) -> Any:
    """Compute the loss of logistic regression."""
    z = X @ w
    return np.mean(np.log1p(np.exp(z)) - y * z)


class Gate(torch.autograd.Function):
    """A gate whose backward misses the last column."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        """Compute x times its sigmoid."""
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        """Treat the last column as if it were linear."""
        (x,) = ctx.saved_tensors
        s = torch.sigmoid(x)
        d = s * (1 + x * (1 - s))
        if d.numel():
            d[:, -1] = s[:, -1]
        return g * d


@case(x=normal(12, 16))
@case(x=normal(400, 50), name="many")
def gate(x: Any) -> Any:
    """Apply the gate, in full mode to few numbers and in probe mode to 20,000."""
    return Gate.apply(x)


class Scale(torch.autograd.Function):
    """A learned scale whose gradient is a mean over the batch instead of a sum."""

    @staticmethod
    def forward(ctx: Any, x: Any, w: Any) -> Any:
        """Scale row by row."""
        ctx.save_for_backward(x, w)
        return x * w

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        """Take the mean over the batch, which is the mistake."""
        x, w = ctx.saved_tensors
        return g * w, (g * x).sum(0) / max(len(x), 1)


class Normed(torch.nn.Module):
    """Layer norm, with the scale above."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.randn(size))

    def forward(self, x: Any) -> Any:
        """Normalise each row."""
        return Scale.apply(torch.nn.functional.layer_norm(x, x.shape[-1:]), self.scale)


class Block(torch.nn.Module):
    """A residual block."""

    def __init__(self, size: int, norm: torch.nn.Module) -> None:
        super().__init__()
        self.norm, self.linear = norm, torch.nn.Linear(size, size)

    def forward(self, x: Any) -> Any:
        """Add to the input."""
        return x + torch.tanh(self.linear(self.norm(x)))


@case(normal(6, 4), init={}, options={"by_layer": True})
def model() -> torch.nn.Module:
    """Make three blocks, the last of which holds a wrong layer."""
    norms = [torch.nn.LayerNorm(4), torch.nn.LayerNorm(4), Normed(4)]
    return torch.nn.Sequential(torch.nn.Linear(4, 4), *(Block(4, norm) for norm in norms), torch.nn.Linear(4, 1))


class Doubled(torch.autograd.Function):
    """Twice the input, with a backward that writes to the gradient that it is given."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        """Double the input."""
        return 2 * x

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        """Double the gradient in place."""
        return g.mul_(2)


@case(x=normal(3, 4))
def doubled(x: Any) -> Any:
    """Break a contract."""
    return Doubled.apply(x)


@case(x=normal(4))
def root(x: Any) -> Any:
    """Take a square root outside of its domain."""
    return torch.sqrt(-torch.abs(x))


@case(x=normal(5), options={"checks": ("differential", "sensitivity")})
def smooth(x: Any) -> Any:
    """Compute a right function, with two optional checks."""
    return (torch.sin(x) * torch.exp(-(x**2))).sum()


@case(x=normal(4), expect="fail", because="it teaches what a wrong sign looks like", gradient=lambda x: -2 * x)
def squares(x: Any) -> Any:
    """Sum squares, with a gradient that is meant to fail."""
    return np.sum(x**2)


def main() -> None:
    """Run the cases and write the reports."""
    with contextlib.chdir(HERE.parents[2]):
        target = str(HERE.relative_to(HERE.parents[2]))
        cases = plan(Request(targets=[target]))
        result = run(cases, Options(every_entry=True), replay=build_replay_command(Options(), []), config={"targets": [target]})
    versions = {name: text for name, text in result.environment.items() if name != "platform"}
    result = replace(result, environment=versions, command="python reports/sample/sample.py")
    formats.write(result, {name: str(place) for name, place in PAGES.items()})


if __name__ == "__main__":
    main()

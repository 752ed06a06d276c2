"""The training programs of introductions, runnable: a line fitted to points, by gradient descent, three times over.

`python -m gradcheck.reference.programs` trains all three and prints where they arrive. Two arrive at the least-squares line.
The third reads the targets as a column: its residual broadcasts to (N, N), its loss falls nevertheless, and it arrives at the
flat line through the mean of the targets (`gradcheck.reference.textbook` says why).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from gradcheck.reference.modules import LinearMSE
from gradcheck.reference.regression import mse, mse_gradient

F64 = NDArray[np.float64]
Gradient = Callable[[F64, F64, F64, F64], dict[str, Any]]
START = 1.0  # initial value of each weight; the bias starts at 0


class Step(NamedTuple):
    """One step of training: the parameters before it, the loss there, and the gradient that it followed."""

    w: F64
    b: F64
    loss: float
    dw: F64
    db: F64


class Trained(NamedTuple):
    """The line where a program arrived, and each of its steps."""

    w: F64
    b: F64
    steps: list[Step]


def train_by_hand(X: F64, y: F64, steps: int = 200, learning_rate: float = 0.1, gradient: Gradient = mse_gradient) -> Trained:
    """Train raw w and b in a loop: w ← w - α dL/dw, b ← b - α dL/db, with the hand-written gradient.

    Args:
        X: features, (N, d).
        y: targets, (N,).
        steps: number of steps.
        learning_rate: α.
        gradient: the gradient of the loss by w and b.
    """
    w, b, taken = np.full(X.shape[1], START), np.zeros(()), []
    for _ in range(steps):
        d = gradient(X, w, b, y)
        taken.append(Step(w, b, float(mse(X, w, b, y)), d["w"], np.asarray(d["b"])))
        w, b = w - learning_rate * d["w"], b - learning_rate * d["b"]
    return Trained(w, b, taken)


def train_module(X: F64, y: F64, steps: int = 200, learning_rate: float = 0.1) -> Trained:
    """Train an `nn.Module` by `torch.optim.SGD`, with the targets as a column like the output of `nn.Linear`."""
    model, inputs, targets = LinearMSE(X.shape[1]).double(), torch.from_numpy(X), torch.from_numpy(y)[:, None]
    torch.nn.init.constant_(model.linear.weight, START)
    torch.nn.init.zeros_(model.linear.bias)
    optimizer, taken = torch.optim.SGD(model.parameters(), lr=learning_rate), []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = model(inputs, targets)
        loss.backward()
        w, b = model.linear.weight, model.linear.bias
        taken.append(Step(_array(w), _array(b), loss.item(), _array(w.grad), _array(b.grad)))
        optimizer.step()
    return Trained(_array(model.linear.weight), _array(model.linear.bias), taken)


def train_broadcasting(X: F64, y: F64, steps: int = 200, learning_rate: float = 0.1) -> Trained:
    """Train raw w and b by autodiff on a wrong loss: `X @ w + b` is (N,), targets (N, 1), so their difference is (N, N)."""
    inputs, targets = torch.from_numpy(X), torch.from_numpy(y)[:, None]
    w = torch.full(X.shape[1:], START, dtype=torch.float64, requires_grad=True)
    b = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    taken = []
    for _ in range(steps):
        loss = torch.mean((inputs @ w + b - targets) ** 2)
        dw, db = torch.autograd.grad(loss, (w, b))
        taken.append(Step(_array(w), _array(b), loss.item(), _array(dw), _array(db)))
        with torch.no_grad():
            w -= learning_rate * dw
            b -= learning_rate * db
    return Trained(_array(w), _array(b), taken)


def _array(tensor: Any) -> F64:
    return np.array(tensor.detach().numpy())


def closed_form(X: F64, y: F64) -> tuple[Any, Any]:
    """Return (w, b) of the least-squares line, the solution of min |X w + b - y|²."""
    solution = np.linalg.lstsq(np.column_stack([X, np.ones(len(X))]), y, rcond=None)[0]
    return solution[:-1], solution[-1]


def points(count: int = 20, seed: int = 0) -> tuple[F64, F64]:
    """Draw points about the line y = 2 x - 1: X of shape (N, 1) and y of shape (N,)."""
    rng = np.random.default_rng(seed)
    X = rng.uniform(-1, 2, (count, 1))
    return X, 2 * X[:, 0] - 1 + 0.1 * rng.standard_normal(count)


PROGRAMS = {"by hand": train_by_hand, "nn.Module with SGD": train_module, "broadcasting": train_broadcasting}


def table() -> str:
    """Train all programs on the same points and tabulate first and last loss, and the line where each arrives."""
    X, y = points()
    rows = [f"{'program':<20}{'loss':>22}{'w':>10}{'b':>10}"]
    for name, train in PROGRAMS.items():
        w, b, steps = train(X, y)
        losses = f"{steps[0].loss:.4f} -> {steps[-1].loss:.4f}"
        rows.append(f"{name:<20}{losses:>22}{w.item():>10.4f}{b.item():>10.4f}")
    w, b = closed_form(X, y)
    rows.append(f"{'closed form':<20}{mse(X, w, b, y):>22.4f}{w.item():>10.4f}{b.item():>10.4f}")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    sys.stdout.write(table())

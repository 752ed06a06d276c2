"""Study: what watching costs. Training loops with and without `gradcheck.watch`, in turns in one process.

    python reports/watch/study.py     # writes reports/watch.md; about two minutes on one core

It restarts itself with one thread.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.autograd.function import _SingleLevelFunction

import gradcheck

sys.path.append(str(Path(__file__).resolve().parents[1] / "common"))
import study_page

ROUNDS = 400  # pairs of timed pieces of a loop
STEPS_OF_ROUND = 5  # in each piece
WARM_STEPS = 250  # before the first piece
STEPS = 60  # of the loops whose losses are compared
FIRST_STEPS = 9  # of each model
CALLS = 20_000  # of a Function that does next to nothing


class Swish(torch.autograd.Function):
    """x sigmoid(x), with its derivative by hand."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        """Evaluate it."""
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor) -> torch.Tensor:
        """Multiply by s (1 + x (1 - s))."""
        (x,) = ctx.saved_tensors
        s = torch.sigmoid(x)
        return g * s * (1 + x * (1 - s))


class Block(nn.Module):
    """A layer with a Function and dropout."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.dropout = nn.Dropout(0.1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Call the layer, the Function and dropout."""
        return self.dropout(Swish.apply(self.layer(x)))


def make_mlp() -> tuple[nn.Module, torch.Tensor]:
    """Make a perceptron of four blocks, and its input."""
    return nn.Sequential(*[Block(nn.Linear(64, 64)) for _ in range(4)], nn.Linear(64, 10)), torch.randn(32, 64)


def make_cnn() -> tuple[nn.Module, torch.Tensor]:
    """Make a small convolutional network, and its input."""
    convolutions = [Block(nn.Conv2d(3, 16, 3)), Block(nn.Conv2d(16, 16, 3)), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*convolutions, nn.Linear(16, 10)), torch.randn(16, 3, 32, 32)


def make_tiny() -> tuple[nn.Module, torch.Tensor]:
    """Make the least network: one block of 8 numbers, so that a step is nearly all overhead of Python."""
    return nn.Sequential(Block(nn.Linear(8, 8)), nn.Linear(8, 10)), torch.randn(4, 8)


MODELS: dict[str, tuple[str, Callable[[], tuple[nn.Module, torch.Tensor]]]] = {
    "perceptron": ("four blocks of 64, batch of 32", make_mlp),
    "convolutions": ("two blocks of 16 channels, batch of 16 images of 32x32", make_cnn),
    "tiny": ("one block of 8, batch of 4", make_tiny),
}


def make_step(name: str) -> Callable[[], float]:
    """Make a model, and a function that makes a step of its training and returns the loss."""
    torch.manual_seed(0)
    model, x = MODELS[name][1]()
    labels = torch.randint(0, 10, (len(x),))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step() -> float:
        loss = nn.functional.cross_entropy(model(x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def has_same_losses(name: str) -> bool:
    """Say whether a model trains to the same losses, bit for bit, with and without a watch."""
    plain = make_step(name)
    losses = [plain() for _ in range(STEPS)]
    with gradcheck.watch():
        watched = make_step(name)
        return losses == [watched() for _ in range(STEPS)]


@contextmanager
def unwatched() -> Iterator[None]:
    """Take out what a watch has put into the classes, and put it back afterwards."""
    apply, call = vars(_SingleLevelFunction)["apply"], vars(Block)["__call__"]
    del _SingleLevelFunction.apply, Block.__call__
    try:
        yield
    finally:
        _SingleLevelFunction.apply, Block.__call__ = apply, call


def compare_loops(name: str) -> tuple[str, ...]:
    """Train with and without a watch in turns, a few steps each; return a row of the table."""
    times: dict[bool, list[float]] = {True: [], False: []}
    with gradcheck.watch():
        step = make_step(name)
        for _ in range(WARM_STEPS):
            step()
        for number in range(2 * ROUNDS):
            is_watched = number % 4 in (0, 3)
            with nullcontext() if is_watched else unwatched():
                step()
                began = time.process_time()
                for _ in range(STEPS_OF_ROUND):
                    step()
                times[is_watched].append((time.process_time() - began) / STEPS_OF_ROUND)
    # Other programs on the machine only add time: the fastest tenth of the pieces says what a step costs.
    plain, watched = (statistics.quantiles(times[key], n=10)[0] for key in (False, True))
    same = "yes" if has_same_losses(name) else "NO"
    return (
        f"{name}: {MODELS[name][0]}",
        f"{1e6 * plain:.0f} µs",
        f"{1e6 * (watched - plain):+.1f} µs",
        f"{100 * (watched / plain - 1):+.1f} %",
        same,
    )


def time_first_step(name: str) -> float:
    """Return how much longer the first step takes than the second, in seconds: it makes the records."""
    differences = []
    for _ in range(FIRST_STEPS):
        with gradcheck.watch():
            step, times = make_step(name), []
            for _ in range(2):
                began = time.process_time()
                step()
                times.append(time.process_time() - began)
        differences.append(times[0] - times[1])
    return statistics.median(differences)


def time_call(call: Callable[[], Any]) -> float:
    """Return the least time of one call over some rounds, in seconds."""
    times = []
    for _ in range(5):
        began = time.process_time()
        for _ in range(CALLS):
            call()
        times.append((time.process_time() - began) / CALLS)
    return min(times)


class Pass(torch.autograd.Function):
    """The identity."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        """Return a view."""
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor) -> torch.Tensor:
        """Return the cotangent."""
        return g


class Same(nn.Module):
    """A module that returns its input."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the input."""
        return x


def compare_calls() -> list[tuple[str, ...]]:
    """Time calls whose kind was seen, calls of a target with all its records, and modules of PyTorch."""
    x, module, other = torch.ones(4, 4, requires_grad=True), Same(), nn.Identity()
    calls: dict[str, Callable[[], Any]] = {
        "a Function, of a kind that was seen": lambda: Pass.apply(x),
        "a module, of a kind that was seen": lambda: module(x),
        "a module of PyTorch": lambda: other(x),
    }
    plain = {name: time_call(call) for name, call in calls.items()}
    with gradcheck.watch():
        seen = {name: time_call(call) for name, call in calls.items()}
        for size in range(1, 20):  # more kinds than are recorded
            Pass.apply(torch.ones(size, requires_grad=True))
            module(torch.ones(size, requires_grad=True))
        full = {name: time_call(call) for name, call in calls.items()}
    added = [[1e6 * (times[name] - plain[name]) for times in (seen, full)] for name in calls]
    return [
        (name, f"{1e6 * plain[name]:.2f} µs", f"{of_seen:+.2f} µs", f"{of_full:+.2f} µs")
        for name, (of_seen, of_full) in zip(calls, added, strict=True)
    ]


def main() -> None:
    """Run the study and write its page."""
    if os.environ.get("OMP_NUM_THREADS") != "1":
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "OMP_NUM_THREADS": "1"})
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", default=str(study_page.page_path(__file__)))
    out = Path(parser.parse_args().out)
    loops = [compare_loops(name) for name in MODELS]
    lines = [
        *study_page.make_heading("Watching: what it costs while a program runs", __file__, ("torch", "numpy")),
        f"One thread, processor time, first deciles of {ROUNDS} pieces of {STEPS_OF_ROUND} steps with and without the",
        "watch, in turns in one process. Each block applies an autograd.Function and dropout; a step is forward, backward",
        f"and SGD. The losses are those of {STEPS} steps from the same seed, compared bit for bit.",
        "",
        *study_page.make_table(("loop", "a step", "watched", "overhead", "same losses"), loops),
        "",
        "The first step makes the copies, once for each kind of call:",
        "",
        *study_page.make_table(("loop", "first step"), [(name, f"{1e3 * time_first_step(name):+.1f} ms") for name in MODELS]),
        "",
        "One call, without a watch and what a watch adds: while kinds of calls may still be new, and once 8 are recorded.",
        "",
        *study_page.make_table(("call", "without", "watched", "8 recorded"), compare_calls()),
    ]
    study_page.write_page(lines, out)
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()

"""Study: what a check costs in a unit test. Inputs of a dozen numbers, compared with PyTorch's slow mode in the same run.

    python reports/small_checks/study.py     # writes reports/small_checks.md; about two minutes on one core

It restarts itself with one thread. The operator database ships with PyTorch and needs `expecttest`.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

import gradcheck

sys.path.append(str(Path(__file__).resolve().parents[1] / "common"))
sys.path.append(str(Path(__file__).resolve().parents[1] / "false_alarms"))
import operator_samples
import study_page

F = torch.nn.functional
ROUNDS = 9  # timed calls of each check; the median counts
RANDOM_OPERATORS = ("pca_lowrank", "svd_lowrank")
SLOWEST = 8  # operators that are listed


class Square(torch.autograd.Function):
    """x^2, for the contracts of custom Functions."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        """Square the input."""
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor) -> torch.Tensor:
        """Multiply by twice the input."""
        (x,) = ctx.saved_tensors
        return 2 * g * x


def rosenbrock(x: Any) -> Any:
    """Evaluate Rosenbrock's function of several variables."""
    return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def rosenbrock_gradient(x: Any) -> Any:
    """Differentiate Rosenbrock's function by hand."""
    gradient = np.zeros_like(x)
    gradient[:-1] += -400 * x[:-1] * (x[1:] - x[:-1] ** 2) - 2 * (1 - x[:-1])
    gradient[1:] += 200 * (x[1:] - x[:-1] ** 2)
    return gradient


def median_time(call: Callable[[], Any]) -> float:
    """Return the median time of a call in seconds, after two calls that are not timed."""
    call(), call()
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def make_small_checks() -> dict[str, tuple[Callable[..., Any], tuple[Any, ...]]]:
    """Make the functions of PyTorch that are checked, with their inputs in float64."""
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(*shape, dtype=torch.float64, generator=generator, requires_grad=True) for shape in ((4, 3), (3, 5)))
    targets = torch.tensor([0, 1, 2, 1])
    layers = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2)).double()
    return {
        "GELU, 4x3": (F.gelu, (x,)),
        "mm, 4x3 and 3x5": (torch.mm, (x, y)),
        "softmax, 4x3": (lambda x: torch.softmax(x, 1), (x,)),
        "ReLU, 4x3": (torch.relu, (x,)),
        "logsumexp, 4x3": (lambda x: torch.logsumexp(x, 1), (x,)),
        "cross-entropy, 4x3": (lambda x: F.cross_entropy(x, targets), (x,)),
        "custom Function with all contracts, 4x3": (Square.apply, (x,)),
        "two-layer module, its input, 4x3": (lambda x: layers(x), (x,)),
    }


def compare_small_checks() -> tuple[list[tuple[str, ...]], float]:
    """Time each check by gradcheck and by PyTorch's slow mode; return the rows and the geometric mean of the ratios."""
    rows, ratios = [], []
    for name, (function, inputs) in make_small_checks().items():
        result = gradcheck.check(function, *inputs)
        ours = median_time(lambda f=function, a=inputs: gradcheck.check(f, *a))
        theirs = median_time(lambda f=function, a=inputs: torch.autograd.gradcheck(f, a))
        ratios.append(ours / theirs)
        rows.append(
            (
                name,
                result.verdict.value,
                str(result.evaluations),
                f"{1e3 * ours:.1f} ms",
                f"{1e3 * theirs:.1f} ms",
                f"{ours / theirs:.1f}",
            )
        )
    return rows, math.exp(statistics.fmean(map(math.log, ratios)))


def time_others() -> list[tuple[str, str]]:
    """Time checks that PyTorch's checker cannot make."""
    x = np.array([1.3, 0.7, 0.8, 1.9, 1.2])
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))
    inputs = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    calls = {
        "NumPy function of 5 numbers with a hand-written gradient": lambda: gradcheck.check(
            rosenbrock, x, gradient=rosenbrock_gradient
        ),
        "float32 `nn.Sequential` of two linear layers, parameters and input": lambda: gradcheck.check(module, inputs),
    }
    return [(name, f"{1e3 * median_time(call):.1f} ms") for name, call in calls.items()]


def compare_operators(dtype: torch.dtype) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Check two samples of every operator in a dtype; PyTorch's slow mode takes them in float64."""
    ours = [check_sample(sample) for sample in choose_samples(dtype)]
    theirs = [check_sample_with_torch(sample) for sample in choose_samples(torch.float64)]
    total, total_of_torch = sum(seconds for _, seconds, _ in ours), sum(theirs)
    name = str(dtype).removeprefix("torch.")
    row = (name, str(len(ours)), f"{total:.1f} s", f"{total_of_torch:.1f} s", f"{total / total_of_torch:.2f}")
    slowest = sorted(ours, key=lambda sample: -sample[1])[:SLOWEST]
    return row, [(f"`{operator}`", name, f"{1e3 * seconds:.0f} ms", outcome) for operator, seconds, outcome in slowest]


def choose_samples(dtype: torch.dtype) -> list[Any]:
    """Choose two samples of every operator that draws no random numbers itself."""
    return [s for s in operator_samples.load_samples(dtype) if s.chosen and s.name not in RANDOM_OPERATORS]


def check_sample(sample: Any) -> tuple[str, float, str]:
    """Check one sample; return its operator, the time in seconds and the outcome."""
    began = time.perf_counter()
    try:
        result = gradcheck.check(sample.function, *sample.args, kwargs=sample.kwargs, framework="torch", name=sample.name)
        outcome = f"{result.verdict.value} {result.reason.code}"
    except gradcheck.UsageError:
        outcome = "refused"
    return sample.name, time.perf_counter() - began, outcome


def check_sample_with_torch(sample: Any) -> float:
    """Check one sample with PyTorch's slow mode; return the time in seconds."""
    began = time.perf_counter()
    with suppress(Exception):  # a sample without an input to differentiate, or one that the checker does not support
        torch.autograd.gradcheck(lambda *args: sample.function(*args, **sample.kwargs), sample.args, raise_exception=False)
    return time.perf_counter() - began


def main() -> None:
    """Run the study and write its page."""
    if os.environ.get("OMP_NUM_THREADS") != "1":
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "OMP_NUM_THREADS": "1"})
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", default=str(study_page.page_path(__file__)))
    out = Path(parser.parse_args().out)
    small, mean = compare_small_checks()
    operators = [compare_operators(dtype) for dtype in (torch.float64, torch.float32)]
    lines = [
        *study_page.make_heading("Small checks: what a unit test costs", __file__, ("torch", "numpy")),
        f"One thread, medians of {ROUNDS} calls in one process, each checker at its defaults and in the same run.",
        "",
        *study_page.make_table(("check", "verdict", "evaluations", "gradcheck", "torch slow mode", "ratio"), small),
        "",
        f"Geometric mean of the ratios: {mean:.2f}.",
        "",
        *study_page.make_table(("check", "gradcheck"), time_others()),
        "",
        "Two samples of every operator in PyTorch's database, once each; PyTorch's slow mode takes them in float64.",
        "",
        *study_page.make_table(("dtype", "samples", "gradcheck", "torch slow mode", "ratio"), [row for row, _ in operators]),
        "",
        "The samples that took longest:",
        "",
        *study_page.make_table(("operator", "dtype", "time", "outcome"), [row for _, rows in operators for row in rows]),
    ]
    study_page.write_page(lines, out)
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()

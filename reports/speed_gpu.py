"""What a check costs on a GPU, beside the bare calls there: a section of the study of speed, where there is a GPU."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import page
import speed_targets as at
import torch

import gradcheck

SIZES = (100, 10_000, 1_000_000)
ROUNDS = 5
DEVICE = "cuda"


def lines() -> list[str]:
    """Return the section's lines; a sentence where there is no GPU."""
    if not torch.cuda.is_available():
        return ["There was none where this page was made: `torch.cuda.is_available()` is False."]
    told = f"On {torch.cuda.get_device_name()}, inputs and all points there; a time is the median of {ROUNDS} rounds."
    columns = ("target", "numbers in", "dtype", "gradcheck", "evaluations", "bare forward", "floor, gradcheck over it")
    return [told, "", *page.table(columns, rows())]


def rows() -> Iterator[tuple[str, ...]]:
    """A line for each function, size and dtype."""
    for name, function in (("elementwise", at.silu), ("scalar loss", at.cauchy)):
        for size in SIZES:
            for dtype in (torch.float64, torch.float32, torch.bfloat16):
                yield row(name, function, torch.randn(size, device=DEVICE, dtype=dtype))


def row(name: str, function: Callable[..., Any], x: torch.Tensor) -> tuple[str, ...]:
    """A check in probe mode, and its evaluations at the time of bare calls in float64, and one backward."""
    result = gradcheck.check(function, x, framework="torch", mode="probe")
    checked = timed(lambda: gradcheck.check(function, x, framework="torch", mode="probe"))
    wide = x.double()
    forward = timed(lambda: function(wide))
    floor = result.evaluations * forward + timed(lambda: there_and_back(function, wide))
    times = (f"{1e3 * checked:.3g} ms", str(result.evaluations), f"{1e3 * forward:.3g} ms")
    over = f"{1e3 * floor:.3g} ms, {checked / floor:.3g}×"
    return name, f"{x.numel():,}", str(x.dtype).removeprefix("torch."), *times, over


def there_and_back(function: Callable[..., Any], x: torch.Tensor) -> None:
    """A forward and a backward pass."""
    leaf = x.detach().requires_grad_()
    function(leaf).sum().backward()


def timed(call: Callable[[], Any]) -> float:
    """Seconds of a call, the work on the device included."""
    found = []
    for _ in range(ROUNDS + 1):
        torch.cuda.synchronize()
        began = time.perf_counter()
        call()
        torch.cuda.synchronize()
        found.append(time.perf_counter() - began)
    return statistics.median(found[1:])  # the first compiles and warms up

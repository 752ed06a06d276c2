"""The section of the study of speed on a GPU: what a check costs there, compared with the bare calls."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import study_page
import targets
import torch

import gradcheck

SIZES = (100, 10_000, 1_000_000)
ROUNDS = 5
DEVICE = "cuda"


def make_section() -> list[str]:
    """Make the section, or a sentence if there is no GPU."""
    if not torch.cuda.is_available():
        return ["The machine that made this page has none: `torch.cuda.is_available()` is False."]
    introduction = f"On {torch.cuda.get_device_name()}, inputs and all points there; a time is the median of {ROUNDS} rounds."
    columns = ("target", "numbers in", "dtype", "gradcheck", "evaluations", "bare forward", "floor, gradcheck over it")
    return [introduction, "", *study_page.make_table(columns, make_rows())]


def make_rows() -> Iterator[tuple[str, ...]]:
    """Make a row for each function, size and dtype."""
    for name, function in (("elementwise", targets.silu), ("scalar loss", targets.cauchy)):
        for size in SIZES:
            for dtype in (torch.float64, torch.float32, torch.bfloat16):
                yield make_row(name, function, torch.randn(size, device=DEVICE, dtype=dtype))


def make_row(name: str, function: Callable[..., Any], x: torch.Tensor) -> tuple[str, ...]:
    """Make the row of a check in probe mode, with the time of its evaluations as bare calls in float64 and one backward."""
    result = gradcheck.check(function, x, framework="torch", mode="probe")
    checked = time_call(lambda: gradcheck.check(function, x, framework="torch", mode="probe"))
    wide = x.double()
    forward = time_call(lambda: function(wide))
    floor = result.evaluations * forward + time_call(lambda: run_forward_and_backward(function, wide))
    times = (f"{1e3 * checked:.3g} ms", str(result.evaluations), f"{1e3 * forward:.3g} ms")
    over = f"{1e3 * floor:.3g} ms, {checked / floor:.3g}×"
    return name, f"{x.numel():,}", str(x.dtype).removeprefix("torch."), *times, over


def run_forward_and_backward(function: Callable[..., Any], x: torch.Tensor) -> None:
    """Run a forward and a backward pass."""
    leaf = x.detach().requires_grad_()
    function(leaf).sum().backward()


def time_call(call: Callable[[], Any]) -> float:
    """Measure the seconds of a call, including the work on the device."""
    seconds = []
    for _ in range(ROUNDS + 1):
        torch.cuda.synchronize()
        began = time.perf_counter()
        call()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[1:])  # the first compiles and warms up

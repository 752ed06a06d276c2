"""Study: accuracy in bfloat16 and float16. Right functions, and functions that sum in the low dtype, each with its ratio.

    python reports/low_precision/study.py            # writes reports/low_precision.md; about ten minutes on one core

If there is a GPU, the study runs on it too. `--only softmax` runs the functions with that name alone.
"""

from __future__ import annotations

import math
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

sys.path.append(str(Path(__file__).resolve().parents[1] / "common"))
import study_page
from functions import MODULES, FunctionPair, draw_inputs, make_low_precision_sum, make_pairs, skip_cast, sum_exactly

import gradcheck
from gradcheck import CheckResult, Comparison

DTYPES = (torch.bfloat16, torch.float16)
ROWS, SEEDS = 2, 3
COLUMNS = (256, 1024, 4096)  # numbers in a row, over which the functions sum
FAULTY_COLUMNS = (1024, 4096)  # rows of the functions with a fault, whose thousands of additions one by one take long


@dataclass(frozen=True)
class Variant:
    """One way to write a function.

    Attributes:
        make: makes the function from its pair and the low dtype.
        right: whether the function must pass.
    """

    name: str
    make: Callable[[FunctionPair, torch.dtype], Callable[..., Any]]
    right: bool


VARIANTS = (
    Variant("plain operations", lambda pair, _: pair.plain, True),
    Variant("by hand, float32 inside", lambda pair, _: pair.make_by_hand(), True),
    Variant("by hand, no cast", lambda pair, _: pair.make_by_hand(sum_exactly, sum_exactly, skip_cast), True),
    Variant("forward adds up in it", lambda pair, low: pair.make_by_hand(make_low_precision_sum(low)), False),
    Variant("backward adds up in it", lambda pair, low: pair.make_by_hand(sum_exactly, make_low_precision_sum(low)), False),
    Variant(
        "no cast, all sums in it",
        lambda pair, low: pair.make_by_hand(make_low_precision_sum(low), make_low_precision_sum(low), skip_cast),
        False,
    ),
)


@dataclass(frozen=True)
class Row:
    """The results of a function at one size and dtype, over some seeds."""

    name: str
    variant: Variant
    dtype: torch.dtype
    columns: int
    results: tuple[CheckResult, ...]
    seconds: float

    @property
    def passed(self) -> int:
        """The number of seeds that passed."""
        return sum(result.ok for result in self.results)

    def worst(self, order: int) -> Comparison:
        """Return the comparison with the largest ratio, of the values (order 0) or of the gradients (order 1)."""
        comparisons = [c for r in self.results for c in r.comparisons if c.order == order and c.ratio is not None]
        return max(comparisons, key=lambda c: c.ratio or 0.0)


def run_all(device: str, only: str) -> Iterator[Row]:
    """Check every function in every way that it is written."""
    for columns in COLUMNS:
        for pair in make_pairs(ROWS, columns):
            for variant in VARIANTS:
                if only in pair.name and (variant.right or columns in FAULTY_COLUMNS):
                    yield from (run_variant(pair, variant, dtype, columns, device) for dtype in DTYPES)


def run_variant(pair: FunctionPair, variant: Variant, dtype: torch.dtype, columns: int, device: str) -> Row:
    """Check one function at a few seeds."""
    began = time.perf_counter()
    results = []
    for seed in range(SEEDS if variant.right else 1):
        inputs = [x.to(device) for x in draw_inputs(pair, dtype, seed)]
        function = variant.make(pair, dtype)
        results.append(gradcheck.check(function, *inputs, framework="torch", contracts=False, seed=seed, mode="probe"))
    print(device, columns, pair.name, variant.name, dtype, results[-1].verdict.value, file=sys.stderr)  # noqa: T201 - progress
    return Row(pair.name, variant, dtype, columns, tuple(results), time.perf_counter() - began)


def make_variants_table(rows: list[Row]) -> list[str]:
    """Make the table with a line for each row."""
    columns = ("function", "written", "dtype", "row", "passed", "value: error", "plain", "ratio", "gradient", "plain", "ratio")
    return study_page.make_table(columns, map(make_cells, rows))


def make_cells(row: Row) -> tuple[str, ...]:
    """Make the cells of a row: errors in units in the last place, for gradients those of the leaf with the worst ratio."""
    value, gradient = row.worst(0), row.worst(1)
    numbers = [f"{x:.2g}" for c in (value, gradient) for x in (c.error_ulp, c.plain_ulp, c.ratio)]
    dtype = str(row.dtype).removeprefix("torch.")
    return row.name, row.variant.name, dtype, str(row.columns), f"{row.passed} of {len(row.results)}", *numbers


def make_modules_table() -> list[str]:
    """Check PyTorch's own modules and stacks of them; tabulate the seeds that pass and the largest ratio of any leaf."""
    cells = []
    for name, make, shape in MODULES:
        for dtype in DTYPES:
            results = []
            for seed in range(SEEDS):
                torch.manual_seed(seed)
                results.append(gradcheck.check(make().to(dtype), gradcheck.normal(*shape), contracts=False, seed=seed))
            worst = max(c.ratio or 0.0 for r in results for c in r.comparisons)
            passed = f"{sum(r.ok for r in results)} of {SEEDS}"
            cells.append((name, str(dtype).removeprefix("torch."), "×".join(map(str, shape)), passed, f"{worst:.2g}"))
    return study_page.make_table(("module", "dtype", "input", "passed", "largest ratio"), cells)


def make_conclusion(rows: list[Row]) -> list[str]:
    """Say how many right functions pass and how many with a fault fail."""
    right, wrong = ([row for row in rows if row.variant.right is is_right] for is_right in (True, False))
    checks = sum(len(row.results) for row in right)
    caught = [row for row in wrong if not row.passed]
    missed = sorted({f"{row.name}, {row.variant.name}, {str(row.dtype)[6:]}, {row.columns}" for row in wrong if row.passed})
    largest = max((row.worst(k).ratio or 0.0 for row in right for k in (0, 1)), default=math.nan)
    lines = [
        f"Right: {sum(row.passed for row in right)} of {checks} checks pass; the largest ratio is {largest:.2g}, the limit 4.",
        "",
        f"Sums in the low dtype: {len(caught)} of {len(wrong)} fail. The others are off as plain ones are, too: what the",
        "backward subtracts from each gradient is small compared with it, or a row is short for the eleven bits of float16.",
        "",
        *(f"- {name}" for name in missed),
    ]
    return [*lines, ""]


def make_page(only: str) -> list[str]:
    """Make the page."""
    warnings.simplefilter("ignore")
    started = time.perf_counter()
    rows = list(run_all("cpu", only))
    lines = study_page.make_heading("Accuracy in half precision", __file__, ("torch", "numpy"))
    lines += [
        "Softmax, RMSNorm, attention (one head, a query a row, a key a column) and cross-entropy, on standard normal inputs",
        f"of {ROWS} rows. Errors are against float64, in units in the last place of the dtype; `plain` is what a plain",
        "implementation in the same dtype is off by: the result of every operation is rounded, sums are exact. `no cast`",
        "leaves out the casts to float32 but adds up exactly, which is what plain operations do, and is right. Right functions",
        f"are tried at {SEEDS} seeds (the worst is shown), those with a fault at one.",
        "",
        *make_conclusion(rows),
        "## On the CPU",
        "",
        *make_variants_table(rows),
        "",
        "## Modules",
        "",
        "PyTorch's own, and stacks of them up to 24 blocks deep, plain throughout: errors add up, and so do",
        "those of the plain implementation that they are compared with.",
        "",
        *make_modules_table(),
        "",
        "## On a GPU",
        "",
    ]
    if torch.cuda.is_available():
        gpu_rows = list(run_all("cuda", only))
        lines += [f"On {torch.cuda.get_device_name()}.", "", *make_conclusion(gpu_rows), *make_variants_table(gpu_rows)]
    else:
        lines += ["The machine that made this page has none: `torch.cuda.is_available()` is False."]
    return [*lines, "", f"{time.perf_counter() - started:.0f} s in all."]


if __name__ == "__main__":
    chosen, out = study_page.read_arguments(__doc__, __file__, "the function's name")
    study_page.write_page(make_page(chosen), out)

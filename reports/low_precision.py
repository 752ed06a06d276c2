"""Study: accuracy in bfloat16 and float16. Right functions and such that add up in the low dtype, each with its ratio.

    python reports/low_precision.py            # writes reports/low_precision.md; about ten minutes on one core

Where there is a GPU the same is run on it, too. `--only softmax` runs some functions alone.
"""

from __future__ import annotations

import math
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import low_precision_cases as cases
import page
import torch

import gradcheck
from gradcheck import CheckResult, Comparison

DTYPES = (torch.bfloat16, torch.float16)
ROWS, SEEDS = 2, 3
COLUMNS = (256, 1024, 4096)  # numbers in a row, all of which are added up
FAULTY = (1024, 4096)  # of these the functions with a fault are tried, at one seed: thousands of additions take their time


@dataclass(frozen=True)
class Variant:
    """A function as it is written in one of the ways.

    Attributes:
        right: whether it must pass.
    """

    name: str
    make: Callable[[cases.Pair, torch.dtype], Callable[..., Any]]
    right: bool


VARIANTS = (
    Variant("plain operations", lambda pair, _: pair.plain, True),
    Variant("by hand, float32 inside", lambda pair, _: pair.by_hand(), True),
    Variant("by hand, no cast", lambda pair, _: pair.by_hand(cases.exact, cases.exact, cases.forgotten), True),
    Variant("forward adds up in it", lambda pair, low: pair.by_hand(cases.in_low(low)), False),
    Variant("backward adds up in it", lambda pair, low: pair.by_hand(cases.exact, cases.in_low(low)), False),
    Variant(
        "no cast, all sums in it",
        lambda pair, low: pair.by_hand(cases.in_low(low), cases.in_low(low), cases.forgotten),
        False,
    ),
)


@dataclass(frozen=True)
class Row:
    """What became of a function at one size and dtype, over some seeds: its worst ratio."""

    name: str
    variant: Variant
    dtype: torch.dtype
    columns: int
    results: tuple[CheckResult, ...]
    seconds: float

    @property
    def passed(self) -> int:
        """How many seeds passed."""
        return sum(result.ok for result in self.results)

    def worst(self, order: int) -> Comparison:
        """The largest ratio of the values (order 0) or of the gradients (1)."""
        found = [c for r in self.results for c in r.comparisons if c.order == order and c.ratio is not None]
        return max(found, key=lambda c: c.ratio or 0.0)


def rows(device: str, only: str) -> Iterator[Row]:
    """Every function in every way."""
    for columns in COLUMNS:
        for pair in cases.pairs(ROWS, columns):
            for variant in VARIANTS:
                if only in pair.name and (variant.right or columns in FAULTY):
                    yield from (looked_at(pair, variant, dtype, columns, device) for dtype in DTYPES)


def looked_at(pair: cases.Pair, variant: Variant, dtype: torch.dtype, columns: int, device: str) -> Row:
    """Check one function at a few seeds."""
    began = time.perf_counter()
    found = []
    for seed in range(SEEDS if variant.right else 1):
        given = [x.to(device) for x in cases.inputs(pair, dtype, seed)]
        function = variant.make(pair, dtype)
        found.append(gradcheck.check(function, *given, framework="torch", contracts=False, seed=seed, mode="probe"))
    print(device, columns, pair.name, variant.name, dtype, found[-1].verdict.value, file=sys.stderr)  # noqa: T201 - progress
    return Row(pair.name, variant, dtype, columns, tuple(found), time.perf_counter() - began)


def table(found: list[Row]) -> list[str]:
    """A line for each."""
    columns = ("function", "written", "dtype", "row", "passed", "value: error", "plain", "ratio", "gradient", "plain", "ratio")
    return page.table(columns, map(cells, found))


def cells(row: Row) -> tuple[str, ...]:
    """Errors are in units in the last place; of the gradients that of the leaf with the worst ratio."""
    value, gradient = row.worst(0), row.worst(1)
    told = [f"{x:.2g}" for c in (value, gradient) for x in (c.error_ulp, c.plain_ulp, c.ratio)]
    dtype = str(row.dtype).removeprefix("torch.")
    return row.name, row.variant.name, dtype, str(row.columns), f"{row.passed} of {len(row.results)}", *told


def modules() -> list[str]:
    """PyTorch's own modules and stacks of them: how many seeds pass, and the largest ratio of any of their leaves."""
    found = []
    for name, make, shape in cases.MODULES:
        for dtype in DTYPES:
            results = []
            for seed in range(SEEDS):
                torch.manual_seed(seed)
                results.append(gradcheck.check(make().to(dtype), gradcheck.normal(*shape), contracts=False, seed=seed))
            worst = max(c.ratio or 0.0 for r in results for c in r.comparisons)
            passed = f"{sum(r.ok for r in results)} of {SEEDS}"
            found.append((name, str(dtype).removeprefix("torch."), "×".join(map(str, shape)), passed, f"{worst:.2g}"))
    return page.table(("module", "dtype", "input", "passed", "largest ratio"), found)


def conclusion(found: list[Row]) -> list[str]:
    """How many passed that should, and failed that should."""
    right, wrong = ([row for row in found if row.variant.right is so] for so in (True, False))
    checks = sum(len(row.results) for row in right)
    caught = [row for row in wrong if not row.passed]
    missed = sorted({f"{row.name}, {row.variant.name}, {str(row.dtype)[6:]}, {row.columns}" for row in wrong if row.passed})
    largest = max((row.worst(k).ratio or 0.0 for row in right for k in (0, 1)), default=math.nan)
    lines = [
        f"Right: {sum(row.passed for row in right)} of {checks} checks pass; the largest ratio is {largest:.2g}, the limit 4.",
        "",
        f"Sums in the low dtype: {len(caught)} of {len(wrong)} fail. The others are off as plain ones are, too:",
        "what the backward takes off each gradient is small beside it, or a row is short for the eleven bits of float16.",
        "",
        *(f"- {told}" for told in missed),
    ]
    return [*lines, ""]


def main(only: str) -> list[str]:
    """Return the page."""
    warnings.simplefilter("ignore")
    started = time.perf_counter()
    found = list(rows("cpu", only))
    lines = page.heading("Accuracy in half precision", __file__, ("torch", "numpy"))
    lines += [
        "Softmax, RMSNorm, attention (one head, a query a row, a key a column) and cross-entropy, on standard normal inputs",
        f"of {ROWS} rows. Errors are against float64, in units in the last place of the dtype; `plain` is what a plain",
        "implementation in the same dtype is off by: the result of every operation is rounded, sums are exact. `no cast`",
        "leaves out the casts to float32 but adds up exactly, which is what plain operations do, and is right. Right functions",
        f"are tried at {SEEDS} seeds (the worst is shown), those with a fault at one.",
        "",
        *conclusion(found),
        "## On the CPU",
        "",
        *table(found),
        "",
        "## Modules",
        "",
        "PyTorch's own, and stacks of them up to 24 blocks deep, plain throughout: errors add up, and so do",
        "those of the plain implementation that they are held against.",
        "",
        *modules(),
        "",
        "## On a GPU",
        "",
    ]
    if torch.cuda.is_available():
        there = list(rows("cuda", only))
        lines += [f"On {torch.cuda.get_device_name()}.", "", *conclusion(there), *table(there)]
    else:
        lines += ["There was none where this page was made: `torch.cuda.is_available()` is False."]
    return [*lines, "", f"{time.perf_counter() - started:.0f} s in all."]


if __name__ == "__main__":
    chosen, out = page.arguments(__doc__, __file__, "the function's name")
    page.write(main(chosen), out)

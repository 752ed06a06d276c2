"""Study: does the search find layers that are wrong for rare inputs only, and pass right ones?

    python reports/fuzz/study.py            # writes reports/fuzz.md; about twenty minutes on one core

The layers are those of tests/support/rare.py. Each is wrong for one kind of input only, and comes with a right version.
"""

from __future__ import annotations

import math
import statistics
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import torch
from torch.nn import functional

import gradcheck
from gradcheck import CheckResult, Verdict, integers, normal, positive, simplex, spd, uniform
from gradcheck.targets.specs.parse import parse_spec

sys.path.append(str(Path(__file__).resolve().parents[1] / "common"))
sys.path.append(str(Path(__file__).resolve().parents[2] / "tests" / "support"))
import study_page
from rare import RARE

SEEDS = range(10)
FunctionAndInputs = tuple[Callable[..., Any], tuple[Any, ...]]

TORCH_FUNCTIONS: dict[str, FunctionAndInputs] = {  # right functions of every kind
    "exp": (torch.exp, (normal("n"),)),
    "log": (torch.log, (positive("n"),)),
    "sqrt": (torch.sqrt, (positive("n"),)),
    "reciprocal": (torch.reciprocal, (positive("n"),)),
    "pow": (torch.pow, (positive("n"), normal("n"))),
    "div": (torch.div, (normal("n"), positive("n"))),
    "atan2": (torch.atan2, (normal("n"), normal("n"))),
    "acos": (torch.acos, (uniform(-1, 1, "n"),)),
    "sin": (torch.sin, (normal("n"),)),
    "erf": (torch.erf, (normal("n"),)),
    "lgamma": (torch.lgamma, (positive("n"),)),
    "abs": (torch.abs, (normal("n"),)),
    "clamp": (lambda x: x.clamp(-1, 1), (normal("n"),)),
    "where": (lambda x: torch.where(x > 0, x * x, x), (normal("n"),)),
    "amax": (lambda x: x.amax(-1), (normal("n", "m"),)),
    "sort": (lambda x: x.sort(-1).values, (normal("n", 3),)),
    "norm": (lambda x: x.norm(dim=-1), (normal("n", 3),)),
    "var": (lambda x: x.var(-1), (normal("n", 3),)),
    "prod": (lambda x: x.prod(-1), (normal("n", 3),)),
    "cumprod": (lambda x: x.cumprod(-1), (normal("n", 3),)),
    "matmul": (torch.matmul, (normal("n", "m"), normal("m", "k"))),
    "softmax": (lambda x: x.softmax(-1), (normal("n", 3),)),
    "logsumexp": (lambda x: x.logsumexp(-1), (normal("n", 3),)),
    "gelu": (functional.gelu, (normal("n", 3),)),
    "softplus": (functional.softplus, (normal("n"),)),
    "layer_norm": (lambda x: functional.layer_norm(x, x.shape[-1:]), (normal("n", 3),)),
    "mse_loss": (functional.mse_loss, (normal("n", 3), normal("n", 3))),
    "huber_loss": (functional.huber_loss, (normal("n"), normal("n"))),
    "binary_cross_entropy_with_logits": (functional.binary_cross_entropy_with_logits, (normal("n"), uniform(0, 1, "n"))),
    "kl_div": (lambda x, y: functional.kl_div(x, y, reduction="sum"), (normal("n", 3), simplex("n", 3))),
    "embedding": (lambda w, i: functional.embedding(i, w), (normal("k", 2), integers(0, 3, "n"))),
    "inv": (torch.linalg.inv, (spd("n"),)),
    "logdet": (torch.logdet, (spd("n"),)),
    "det": (torch.linalg.det, (normal("n", "n"),)),
}
EXPLAINED = {  # why PyTorch's functions fail
    "acos": "at -1 the slope is infinite, and 0 times that is NaN for the other outputs: as README says of sqrt at 0",
    "atan2": "at the origin, where it has no derivative, forward mode gives NaN for other inputs too",
    "cumprod": "PyTorch divides products by each factor, which overflows or loses digits where they are denormal",
    "det": "of a singular matrix PyTorch's derivative is zero; the adjugate is not",
    "logsumexp": "at a tie of numbers so large that log 2 is lost, each of the tied gets all of the gradient",
    "pow": "near 0 the slope in the base overflows, and forward mode's 0 times that is NaN for the exponent",
    "prod": "PyTorch divides the product by each factor, and a product that underflows has lost its digits",
}


@dataclass(frozen=True)
class SearchResult:
    """The result of one search."""

    seed: int
    result: CheckResult
    seconds: float

    @property
    def has_failure(self) -> bool:
        """Whether the search found a failure."""
        return self.result.verdict is Verdict.FAIL

    @property
    def entries(self) -> int:
        """The number of entries of the smallest input that fails."""
        specs = [parse_spec(text) for name, text in self.inputs if name != "wrt"]
        return sum(math.prod(spec.shape) for spec in specs)

    @property
    def inputs(self) -> tuple[tuple[str, str], ...]:
        """The smallest input that fails, by name."""
        assert self.result.search is not None
        return self.result.search.inputs


def run_search(function: Callable[..., Any], inputs: Iterable[Any], seed: int) -> SearchResult:
    """Run one search with the limits of the command `gradcheck fuzz`."""
    began = time.perf_counter()
    result = gradcheck.fuzz(function, *inputs, seed=seed, framework="torch", name="target")
    return SearchResult(seed, result, time.perf_counter() - began)


def make_wrong_layer_row(name: str) -> list[Any]:
    """Run the searches of a wrong layer and make its row of the table."""
    layer, _, inputs = RARE[name]
    rows = [run_search(layer, inputs, seed) for seed in SEEDS]
    failing = [row for row in rows if row.has_failure]
    inputs_tried = [row.result.search.before for row in failing if row.result.search]
    (smallest, _), *_ = Counter(", ".join(f"`{k} = {v}`" for k, v in row.inputs) for row in failing).most_common() or [("", 0)]
    single_checks = [gradcheck.check(layer, *inputs, seed=seed).verdict is Verdict.FAIL for seed in SEEDS]
    return [
        name,
        f"{len(failing)} of {len(rows)}",
        median_and_largest(inputs_tried, "d"),
        median_and_largest([row.seconds for row in rows], ".1f"),
        max((row.entries for row in failing), default=0),
        smallest,
        f"{sum(single_checks)} of {len(single_checks)}",
    ]


def make_right_function_row(name: str, function: Callable[..., Any], inputs: Iterable[Any], seeds: Iterable[int]) -> list[Any]:
    """Run the searches of a right function and make its row of the table."""
    rows = [run_search(function, inputs, seed) for seed in seeds]
    searches = [row.result.search for row in rows if row.result.search is not None]
    counts = [sum(getattr(search, kind) for search in searches) for kind in ("examples", "passed", "inconclusive", "rejected")]
    failing = [row for row in rows if row.has_failure]
    shown = ", ".join(f"`{k} = {v}`" for k, v in failing[0].inputs)[:160] if failing else ""
    explanation = f"{EXPLAINED.get(name, 'not looked into yet')}: {shown}" if failing else ""
    return [name, len(rows), *counts, len(failing), median_and_largest([row.seconds for row in rows], ".1f"), explanation]


def median_and_largest(values: list[Any], format_spec: str) -> str:
    """Format the median and the largest of some numbers."""
    return (
        f"{format(type(values[0])(statistics.median(values)), format_spec)}, {format(max(values), format_spec)}"
        if values
        else "-"
    )


def main() -> None:
    """Run the study and write its page."""
    only, out = study_page.read_arguments(__doc__ or "", __file__, "layers and functions whose name contains this")
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    hypothesis.settings.register_profile("study", database=None)
    hypothesis.settings.load_profile("study")
    right_layers = {layer.__name__: (layer, inputs) for _, layer, inputs in RARE.values()}
    wrong_rows = [make_wrong_layer_row(name) for name in RARE if only in name]
    right_rows = [make_right_function_row(name, *right_layers[name], SEEDS) for name in right_layers if only in name]
    torch_rows = [make_right_function_row(name, *call, SEEDS[:2]) for name, call in TORCH_FUNCTIONS.items() if only in name]
    wrong_columns = (
        "wrong only for",
        "found",
        "inputs until it failed",
        "seconds",
        "entries",
        "smallest input",
        "one check alone",
    )
    right_columns = (
        "function",
        "searches",
        "inputs",
        "passed",
        "inconclusive",
        "rejected",
        "found",
        "seconds",
        "what is found",
    )
    lines = [
        *study_page.make_heading(
            "Fuzz: what is wrong for rare inputs only", __file__, ("gradcheck", "hypothesis", "torch", "numpy")
        ),
        "Asked: within 60 s each, and shrunk to at most four entries, `gradcheck fuzz` finds a backward that is wrong only",
        "for batches of no or one row, only at ties, only at negative zero, only for cotangents that are not contiguous,",
        "only for one subset of `requires_grad`, only above 1e4; and nothing in the right versions of the same.",
        "",
        f"Over {len(SEEDS)} seeds, with the command's own limits (300 inputs, 60 s), nothing kept from one search to the next.",
        "Of two numbers in a cell the first is the median, the second the largest. One thread, on a machine that others used.",
        "",
        "The last column: how often `gradcheck.check` alone, with one draw of the same specs, says FAIL. Contracts try",
        "empty batches, layouts and subsets on ordinary inputs too.",
        "",
        *study_page.make_table(wrong_columns, wrong_rows),
        "",
        "## The right layers",
        "",
        *study_page.make_table(right_columns[:-1], [row[:-1] for row in right_rows]),
        "",
        "## Functions of PyTorch",
        "",
        "Two searches each. What is found in them is what PyTorch itself gets wrong there, or leaves undefined.",
        "",
        *study_page.make_table(right_columns, torch_rows),
    ]
    study_page.write_page(lines, out)
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()

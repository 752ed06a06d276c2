"""Study: does the search find what is wrong for rare inputs only, and nothing where nothing is wrong?

    python reports/fuzz.py            # writes reports/fuzz.md; about twenty minutes on one core

The layers are those of tests/support/rare.py, each wrong for one kind of input only, beside the right one.
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
import page
import torch
from torch.nn import functional

import gradcheck
from gradcheck import CheckResult, Verdict, integers, normal, positive, simplex, spd, uniform
from gradcheck.targets.specs.parse import parse

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests" / "support"))
from rare import RARE

SEEDS = range(10)
Call = tuple[Callable[..., Any], tuple[Any, ...]]

ORDINARY: dict[str, Call] = {  # right, and of every kind: PyTorch's own
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
EXPLAINED = {  # what was found out about what is found in them
    "acos": "at -1 the slope is infinite, and 0 times that is NaN for the other outputs: as README says of sqrt at 0",
    "atan2": "at the origin, where it has no derivative, forward mode gives NaN for other inputs too",
    "cumprod": "PyTorch divides products by each factor, which overflows or loses digits where they are denormal",
    "det": "of a singular matrix PyTorch's derivative is zero; the adjugate is not",
    "logsumexp": "at a tie of large numbers, beside which log 2 is lost, each of the tied gets all of the gradient",
    "pow": "beside 0 the slope in the base overflows, and forward mode's 0 times that is NaN for the exponent",
    "prod": "PyTorch divides the product by each factor, and a product that underflows has lost its digits",
}


@dataclass(frozen=True)
class Row:
    """One search."""

    seed: int
    result: CheckResult
    seconds: float

    @property
    def found(self) -> bool:
        """Whether it found a failure."""
        return self.result.verdict is Verdict.FAIL

    @property
    def entries(self) -> int:
        """Of the smallest input that fails."""
        specs = [parse(text) for name, text in self.inputs if name != "wrt"]
        return sum(math.prod(spec.shape) for spec in specs)

    @property
    def inputs(self) -> tuple[tuple[str, str], ...]:
        """The smallest input that fails."""
        assert self.result.search is not None
        return self.result.search.inputs


def searched(function: Callable[..., Any], inputs: Iterable[Any], seed: int) -> Row:
    """One search with the command's own limits."""
    began = time.perf_counter()
    result = gradcheck.fuzz(function, *inputs, seed=seed, framework="torch", name="target")
    return Row(seed, result, time.perf_counter() - began)


def wrong(name: str) -> list[Any]:
    """A row of the table of wrong layers."""
    layer, _, inputs = RARE[name]
    rows = [searched(layer, inputs, seed) for seed in SEEDS]
    found = [row for row in rows if row.found]
    before = [row.result.search.before for row in found if row.result.search]
    (smallest, _), *_ = Counter(", ".join(f"`{k} = {v}`" for k, v in row.inputs) for row in found).most_common() or [("", 0)]
    plain = [gradcheck.check(layer, *inputs, seed=seed).verdict is Verdict.FAIL for seed in SEEDS]
    return [
        name,
        f"{len(found)} of {len(rows)}",
        spread(before, "d"),
        spread([row.seconds for row in rows], ".1f"),
        max((row.entries for row in found), default=0),
        smallest,
        f"{sum(plain)} of {len(plain)}",
    ]


def right(name: str, function: Callable[..., Any], inputs: Iterable[Any], seeds: Iterable[int]) -> list[Any]:
    """A row of a table of right functions."""
    rows = [searched(function, inputs, seed) for seed in seeds]
    searches = [row.result.search for row in rows if row.result.search is not None]
    counts = [sum(getattr(s, kind) for s in searches) for kind in ("examples", "passed", "inconclusive", "rejected")]
    found = [row for row in rows if row.found]
    shown = ", ".join(f"`{k} = {v}`" for k, v in found[0].inputs)[:160] if found else ""
    told = f"{EXPLAINED.get(name, 'not looked into yet')}: {shown}" if found else ""
    return [name, len(rows), *counts, len(found), spread([row.seconds for row in rows], ".1f"), told]


def spread(values: list[Any], form: str) -> str:
    """The median and the largest of some numbers."""
    return f"{format(type(values[0])(statistics.median(values)), form)}, {format(max(values), form)}" if values else "-"


def main() -> None:
    """Run the study and write its page."""
    only, out = page.arguments(__doc__ or "", __file__, "layers and functions whose name contains this")
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    hypothesis.settings.register_profile("study", database=None)
    hypothesis.settings.load_profile("study")
    twins = {layer.__name__: (layer, inputs) for _, layer, inputs in RARE.values()}
    planted = [wrong(name) for name in RARE if only in name]
    mended = [right(name, *twins[name], SEEDS) for name in twins if only in name]
    own = [right(name, *call, SEEDS[:2]) for name, call in ORDINARY.items() if only in name]
    found = ("wrong only for", "found", "inputs until it failed", "seconds", "entries", "smallest input", "one check alone")
    columns = ("function", "searches", "inputs", "passed", "inconclusive", "rejected", "found", "seconds", "what is found")
    lines = [
        *page.heading("Fuzz: what is wrong for rare inputs only", __file__, ("gradcheck", "hypothesis", "torch", "numpy")),
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
        *page.table(found, planted),
        "",
        "## The right layers",
        "",
        *page.table(columns[:-1], [row[:-1] for row in mended]),
        "",
        "## Functions of PyTorch",
        "",
        "Two searches each. What is found in them is what PyTorch itself gets wrong there, or leaves undefined.",
        "",
        *page.table(columns, own),
    ]
    page.write(lines, out)
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()

"""Study: do right programs of several ranks pass, and are wrong ones caught and named?

python reports/world/study.py   # writes reports/world.md; a few minutes on two cores
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parent))
import programs

import gradcheck
from gradcheck import Verdict, normal
from gradcheck.report.findings import parse_diagnosis

SEEDS = range(5)
WORLD = 2
LARGE_WORLD = 4
QKV = (normal(3, 2), normal(3, 2), normal(3, 2))
PAGE = Path(__file__).resolve().parents[1] / "world.md"


@dataclass(frozen=True)
class Row:
    """A program and how to check it.

    Attributes:
        target: a function, or a class or factory of a module.
        inputs: specs.
        options: keywords of the check.
        fault: what is wrong with it; '' for a right one.
    """

    target: Any
    inputs: tuple[Any, ...]
    options: dict[str, Any] = field(default_factory=dict)
    fault: str = ""


REPLICATED = {"ranks": "replicated", "replicated": ("x",)}
SHARED_INPUT = {"ranks": "replicated", "replicated": ("input",), "init": {}}
MEAN = {"ranks": "mean", "init": {}}
ROWS = [
    Row(programs.all_reduce, (normal(2, 3),)),
    Row(programs.all_gather, (normal(2, 3),)),
    Row(programs.reduce_scatter, (normal(4, 2),)),
    Row(programs.all_to_all, (normal(4, 2),)),
    Row(programs.contrastive, (normal(2, 3), normal(2, 3))),
    Row(programs.ring_attention, QKV),
    Row(programs.ParallelMLP, (normal(2, 3),), REPLICATED),
    Row(programs.dtensor_mlp, (normal(2, 3),), SHARED_INPUT),
    Row(programs.ddp, (normal(2, 3),), MEAN),
    Row(programs.fsdp, (normal(2, 3),), MEAN),
    Row(programs.hooked, (normal(2, 3),), MEAN),
    Row(programs.contrastive_own_slice, (normal(2, 3), normal(2, 3)), {}, "own-slice gather"),
    Row(programs.ring_attention_stale, QKV, {}, "stale keys and values in ring attention"),
    Row(programs.SummedParallelMLP, (normal(2, 3),), REPLICATED, "factor N: a sum in the backward, too"),
    Row(programs.PartialParallelMLP, (normal(2, 3),), REPLICATED, "missing sum over ranks of the input's gradient"),
    Row(programs.hooked_without_average, (normal(2, 3),), MEAN, "missing average over ranks"),
    Row(programs.hooked_without_last, (normal(2, 3),), MEAN, "a layer that is not reduced"),
    Row(programs.all_reduce, (normal(2, 3),), {"ranks": "replicated"}, "the dispute: a sum's gradient for one replicated loss"),
]


def name_leaves(result: gradcheck.CheckResult) -> str:
    """Name the leaves that fail, at most four of them."""
    leaves = list(dict.fromkeys(row.wrt for row in result.comparisons if row.verdict is Verdict.FAIL))
    return ", ".join(f"`{leaf}`" for leaf in leaves[:4]) + (f" and {len(leaves) - 4} more" if len(leaves) > 4 else "")


def check(row: Row, world: int, seed: int) -> tuple[gradcheck.CheckResult, float]:
    """Check a program; also return the seconds that it took."""
    start = time.perf_counter()
    return gradcheck.check(row.target, *row.inputs, world=world, seed=seed, **row.options), time.perf_counter() - start


def describe(row: Row) -> str:
    """Check one program over all seeds, and return its line of the page."""
    checked = [check(row, WORLD, seed) for seed in SEEDS]
    verdicts = [result.verdict for result, _ in checked]
    large, seconds = check(row, LARGE_WORLD, 0)
    wanted = Verdict.FAIL if row.fault else Verdict.PASS
    count = f"{sum(verdict is wanted for verdict in verdicts)} of {len(verdicts)} {wanted.value}"
    times = f"{sorted(taken for _, taken in checked)[len(checked) // 2]:.1f} | {large.verdict.value} | {seconds:.1f}"
    options = ", ".join(f"`{name}={value!r}`" for name, value in row.options.items() if name != "init") or "`ranks='sum'`"
    line = f"| {row.target.__name__} | {options} | {count} | {times} |"
    sys.stderr.write(f"{line}\n")
    if not row.fault:
        return line
    result = checked[0][0]
    text = next((c.diagnosis for c in result.comparisons if c.diagnosis), "")
    return f"{line} {row.fault} | {parse_diagnosis(text).code if parse_diagnosis(text) else ''} | {name_leaves(result)} |"


def main() -> None:
    """Write the page."""
    start = time.perf_counter()
    first, _ = check(ROWS[0], WORLD, 0)  # starts the server from which ranks are forked
    startup = time.perf_counter() - start
    head = f"| program | options | {WORLD} ranks, {len(SEEDS)} seeds | seconds | {LARGE_WORLD} ranks | seconds |"
    right = [describe(row) for row in ROWS if not row.fault]
    wrong = [describe(row) for row in ROWS if row.fault]
    page = f"""# Several ranks

`python reports/world/study.py` checks programs of `torch.distributed` (gloo, on the CPU) with `world={WORLD}` over {len(SEEDS)}
seeds, and once with `world={LARGE_WORLD}`. The programs are in `reports/world/programs.py`. Seconds are wall-clock time of one
check on a machine with {os.cpu_count()} cores and a load of {os.getloadavg()[1]:.0f}; the median for {WORLD} ranks. The first
check of a process took {startup:.1f} s: it starts a server that has imported PyTorch, from which the ranks of all checks are
forked. Evaluations of the first: {first.evaluations}.

## Right programs

{head}
|---|---|---|---:|---|---:|
{chr(10).join(right)}

## Planted faults

{head} fault | diagnosis | leaves that fail |
|---|---|---|---:|---|---:|---|---|---|
{chr(10).join(wrong)}
"""
    PAGE.write_text(page)


if __name__ == "__main__":
    main()

"""Study: do right programs of several ranks pass, and are wrong ones caught and named?

python reports/world/study.py   # writes reports/world.md; a minute on two cores
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
QKV = (normal(2, 2), normal(2, 2), normal(2, 2))
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
    Row(programs.ddp, (normal(2, 3),), {"init": {}}, "gradients are averaged, but `ranks='mean'` is not given"),
    Row(programs.hooked_without_average, (normal(2, 3),), {"init": {}}, "shared parameters are not named in `replicated=`"),
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


def describe_right(row: Row) -> str:
    """Check a right program over all seeds, and on more ranks; return its line of the page."""
    checked = [check(row, WORLD, seed) for seed in SEEDS]
    passed = sum(result.verdict is Verdict.PASS for result, _ in checked)
    large, seconds = check(row, LARGE_WORLD, 0)
    median = sorted(taken for _, taken in checked)[len(checked) // 2]
    times = f"{median:.1f} | {large.verdict.value} | {seconds:.1f}"
    return f"| {row.target.__name__} | {describe_options(row)} | {passed} of {len(checked)} PASS | {times} |"


def describe_wrong(row: Row) -> str:
    """Check a wrong program once; return its line of the page."""
    result, seconds = check(row, WORLD, 0)
    diagnoses = [parse_diagnosis(c.diagnosis) for c in result.comparisons if c.diagnosis]
    codes = ", ".join(dict.fromkeys(diagnosis.code for diagnosis in diagnoses if diagnosis))
    found = f"{result.verdict.value} | {codes} | {name_leaves(result)} | {seconds:.1f}"
    return f"| {row.fault} | {row.target.__name__} | {describe_options(row)} | {found} |"


def describe_options(row: Row) -> str:
    """Return the options of a check, without those that construct the target."""
    return ", ".join(f"`{name}={value!r}`" for name, value in row.options.items() if name != "init") or "`ranks='sum'`"


def write_page(right: list[str], wrong: list[str], startup: float) -> None:
    """Write the page.

    Args:
        right: the lines of right programs.
        wrong: the lines of planted faults.
        startup: seconds that the first check took.
    """
    PAGE.write_text(f"""# Several ranks

`python reports/world/study.py` checks programs of `torch.distributed` (gloo, on the CPU): right ones with `world={WORLD}` over
{len(SEEDS)} seeds, and once with `world={LARGE_WORLD}`; wrong ones with `world={WORLD}`. The programs are in
`reports/world/programs.py`. Seconds are wall-clock time of one check, the median for {WORLD} ranks, on a machine with
{os.cpu_count()} cores on which {os.getloadavg()[1]:.0f} processes ran at the same time. The first check of a process took
{startup:.1f} s: it starts a server that has imported PyTorch, from which the ranks of all checks are forked.

## Right programs

| program | options | {WORLD} ranks | seconds | {LARGE_WORLD} ranks | seconds |
|---|---|---|---:|---|---:|
{chr(10).join(right)}

## Planted faults

| fault | program | options | verdict | diagnosis | leaves that fail | seconds |
|---|---|---|---|---|---|---:|
{chr(10).join(wrong)}
""")


def main() -> None:
    """Check every program, and write the page."""
    _, startup = check(ROWS[0], WORLD, 0)
    right = [show(describe_right(row)) for row in ROWS if not row.fault]
    write_page(right, [show(describe_wrong(row)) for row in ROWS if row.fault], startup)


def show(line: str) -> str:
    """Show a line as soon as it is known, and return it."""
    sys.stderr.write(f"{line}\n")
    return line


if __name__ == "__main__":
    main()

"""Write `reports/step.md`: the laws of a training step on planted faults and on right steps.

python reports/step/study.py
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import torch
from torch._inductor.utils import fresh_cache

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import gradcheck  # noqa: E402 - after the path
from gradcheck.glossary.laws import LAWS  # noqa: E402
from tests.support import training_steps as steps  # noqa: E402

SEEDS = range(5)
QUICK = tuple(law for law in LAWS if law != "compiled")  # `compiled` is tried with the first seed alone


def main() -> None:
    """Try everything and write the report."""
    torch.set_num_threads(1)
    lines = ["# Study: the laws of a training step", "", describe(), "", "## Planted faults", ""]
    lines += ["| law | fault | verdict | difference | bound | what the line says |", "|---|---|---|---|---|---|"]
    caught = total = 0
    for law, faults in steps.FAULTS.items():
        for name, make in faults.items():
            result = gradcheck.step(**make(), laws=(law,))
            (line,) = result.laws
            total += 1
            caught += line.verdict is gradcheck.Verdict.FAIL
            verdict = line.verdict.value if line.verdict else "-"
            text = line.message.partition("\n")[0].replace("|", "\\|")
            print(law, name, verdict, flush=True)  # noqa: T201
            lines.append(f"| {law} | {name} | {verdict} | {line.difference:.2g} | {line.bound:.2g} | {text} |")
    lines += ["", f"{caught} of {total} are caught.", "", "## Right steps", ""]
    lines += [
        "| step | seeds | laws that pass | not available | other verdicts | seconds a seed |",
        "|---|---|---|---|---|---|",
    ]
    for name, make in steps.RIGHT.items():
        lines.append(try_right(name, make))
    lines += ["", time_all_laws()]
    (ROOT / "reports" / "step.md").write_text("\n".join(lines) + "\n")


def time_all_laws() -> str:
    """Return how long all laws take for the tiny GPT, as on a machine of a CI service that has compiled nothing yet."""
    start, before = time.perf_counter(), sum(os.times()[:4])
    with fresh_cache():
        result = gradcheck.step(**steps.RIGHT["tiny GPT, tied weights"](0))
    seconds, processor = time.perf_counter() - start, sum(os.times()[:4]) - before
    parts = ", ".join(f"{law.name} {law.seconds:.1f}" for law in result.laws)
    return (
        f"The tiny GPT with all laws, the compiler's cache empty: {result.verdict.value} in {seconds:.0f} s, "
        f"with {processor:.0f} s of processor time, most of it in the C++ compiler, which runs on all cores ({parts})."
    )


def describe() -> str:
    """Return what was tried, and with what."""
    return (
        f"PyTorch {torch.__version__}, CPU, two cores that other work shared. Faults and steps are in "
        "[training_steps.py](../tests/support/training_steps.py); `python reports/step/study.py` writes this page. "
        "Each fault is a small copy of a public one: Hugging Face's accumulation over unequal parts, LoRA under reentrant "
        "checkpointing, a parameter that the optimiser does not hold, clipping before unscaling, positions in bfloat16. "
        "One thread of PyTorch, since the steps are tiny."
    )


def try_right(name: str, make: object) -> str:
    """Return the row of a right step: how many laws pass over all seeds."""
    start, passed, skipped, other = time.perf_counter(), 0, set[str](), list[str]()
    for seed in SEEDS:
        for law in gradcheck.step(**make(seed), laws=QUICK).laws:  # type: ignore[operator]
            passed += law.verdict is gradcheck.Verdict.PASS
            if law.verdict is None and law.name != "norms":
                skipped.add(law.name)
            elif law.verdict not in (None, gradcheck.Verdict.PASS):
                other.append(f"{law.name} {law.verdict.value} (seed {seed})")
    print(name, passed, skipped, other, flush=True)  # noqa: T201
    seconds = (time.perf_counter() - start) / len(SEEDS)
    return f"| {name} | {len(SEEDS)} | {passed} | {', '.join(sorted(skipped))} | {', '.join(other)} | {seconds:.1f} |"


if __name__ == "__main__":
    main()

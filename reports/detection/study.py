"""Study: is a wrong gradient caught? Faults of many kinds and sizes, injected into the gradients of functions and layers.

    python reports/detection/study.py            # writes reports/detection.md and its charts; about half an hour on one core

It needs JAX and Matplotlib.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import matplotlib as mpl
import torch

sys.path.append(str(Path(__file__).resolve().parents[1] / "common"))
import study_page
from charts import draw_curves, draw_step
from functions import SEED, STUDIED_FUNCTIONS
from other_checkers import LARGEST
from planted_faults import FAULT_KINDS
from tables import (
    FULL,
    OURS,
    PROBE,
    describe_functions,
    list_checks,
    make_conclusion,
    make_overview,
    select,
    tabulate_jacobians,
    tabulate_kinds,
    tabulate_magnitudes,
    tabulate_sizes,
    tabulate_small_faults,
)
from trial import DTYPES, MIN_RMS_RATIO, Outcome, Problem, is_noticeable, run_checkers


def choose_problems(only: str) -> Iterator[Problem]:
    """Choose a fault for every function, size and dtype: the kind used least so far among those that change the gradient."""
    uses: Counter[str] = Counter()
    for number, subject in enumerate(STUDIED_FUNCTIONS):
        tried: set[str] = set()
        for size, dtype in ((s, d) for s in subject.sizes for d in DTYPES):
            order = sorted(
                FAULT_KINDS, key=lambda k: (k in tried, uses[k], (list(FAULT_KINDS).index(k) + 7 * number) % len(FAULT_KINDS))
            )
            problem = next(p for k in order if is_noticeable(p := Problem(subject, size, dtype, k)))
            uses[problem.kind] += 1
            tried.add(problem.kind)
            if only in subject.name:
                yield problem


METHOD = f"""
Each fault is planted in a `torch.autograd.Function` whose forward is the function and whose backward is the right gradient g,
moved towards a wrong one: g + r (wrong - g), r from 1 to 1e-8. Each function at each of its sizes and in each dtype gets one
kind of fault, the one used least so far among those that change its gradient. Small problems are checked as gradcheck does by
default (as a whole first, then the entries that this leaves open) and, forced, in full mode and in probe mode; large ones in
the mode that gradcheck chooses. All inputs and faults derive from seed {SEED}.

First the right gradient is checked; its PASS states a resolution. A fault is *above* it if

- full mode, and the default on small inputs: the largest relative error of an entry, in the gradients that gradcheck asks
  for, exceeds resolution + rtol: from there on it is certainly wrong by more than rtol (1e-8 in float64, 1e-4 in float32).
  Entries that are zero, that the table counts as `small`, or that are below the resolution relative to their leaf's largest are
  measured by that largest;
- probe mode: its norm over the size of a typical entry exceeds resolution + rtol: a fault e moves a random probe by about |e|,
  as one wrong entry of that size would; the three dense probes count with their geometric mean. It must also be wrong by more
  than {MIN_RMS_RATIO} rtol in the root mean square over the entries it touches: below rtol a FAIL would be wrong.

A fault that shows in none of the gradients asked for (a backward that ignores its cotangent, where gradcheck only ever gives
1) is measured with a random cotangent. *Caught* means FAIL for the fault, and PASS for the right gradient of the same problem.

The other checkers run at their defaults on the same Functions: `torch.autograd.gradcheck` in slow mode up to {LARGEST} inputs
and outputs, in fast mode at all sizes, and JAX's `check_grads(order=1, modes=["rev"])` through a `custom_vjp` around the same
code. Where a checker does not pass the right gradient either, nothing counts as caught.

Faults below the step are caught where they give a value to an entry whose derivative is exactly zero: no size of that is right.
The float64 twin shows it in float32 too. `torch.autograd.gradcheck` has an absolute tolerance of 1e-5, which passes any
gradient of a mean over many numbers, and takes its differences in float32 where the function is float32. What it catches at
1e-8 are backwards that return numbers where they are given no cotangent at all.
"""


def make_page(outcomes: Sequence[Outcome], seconds: float, folder: Path) -> list[str]:
    """Make the page."""
    right, faults = ([outcome for outcome in outcomes if bool(outcome.magnitude) == bad] for bad in (False, True))
    ours = select(faults, *OURS)
    functions, kinds = (
        len({outcome.problem.subject.name for outcome in outcomes}),
        len({outcome.problem.kind for outcome in outcomes}),
    )
    return [
        *study_page.make_heading("Detection: planted faults", __file__, ["gradcheck", "torch", "jax", "numpy"]),
        f"{kinds} kinds of faults in the gradients of {functions} functions and layers, {len(ours):,} checks of a fault by",
        f"gradcheck, {len(faults) - len(ours):,} by others, in {seconds / 60:.0f} minutes on one core, seed {SEED}.",
        "",
        *make_conclusion(ours),
        "",
        *make_overview(right, faults),
        "",
        *draw_curves(faults, folder),
        *draw_step(ours, folder),
        *tabulate_magnitudes(faults, "float64"),
        "",
        *tabulate_magnitudes(faults, "float32"),
        *list_checks(
            "Faults above the stated resolution that were not caught", [outcome for outcome in ours if outcome.missed]
        ),
        *list_checks(
            "PASSes that state more than is true, though not above the right gradient's",
            [outcome for outcome in ours if outcome.excess > 1 >= outcome.ratio],
        ),
        *list_checks(
            "Right gradients that do not pass", [outcome for outcome in select(right, *OURS) if outcome.verdict != "PASS"]
        ),
        *["", "## By kind of fault", "", *tabulate_kinds(faults)],
        *["", "## By size", "", *tabulate_sizes(right, ours, FULL), *tabulate_sizes(right, ours, PROBE)],
        *["", "## By Jacobian", "", *tabulate_jacobians(faults)],
        *["", "## Faults not above the stated resolution", "", *tabulate_small_faults(ours)],
        *["", "## How it is measured", *METHOD.splitlines()],
        *["", "## The functions and their input numbers", "", *describe_functions(outcomes)],
    ]


def main() -> None:
    """Run the study and write its page."""
    only, out = study_page.read_arguments(__doc__ or "", __file__, "functions whose name contains this")
    warnings.simplefilter("ignore")
    mpl.use("svg")
    torch.set_num_threads(1)
    began = time.process_time()
    outcomes: list[Outcome] = []
    for problem in choose_problems(only):
        outcomes += run_checkers(problem)
        sys.stderr.write(f"{time.process_time() - began:6.0f} s  {problem.name}\n")
    lines = make_page(outcomes, time.process_time() - began, out.parent)
    study_page.write_page(lines, out)
    sys.stdout.write("\n".join(lines[4:22]) + "\n")


if __name__ == "__main__":
    main()

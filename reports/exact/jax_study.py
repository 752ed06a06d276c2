"""Study: how many of JAX's functions can be decided exactly? The cases of the study of JAX functions, with `--exact`.

python reports/exact/jax_study.py            # writes reports/exact_jax.md; about half an hour on one core
"""

from __future__ import annotations

import random
import sys
import warnings
from functools import partial
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "common"))
sys.path.append(str(Path(__file__).resolve().parents[1] / "jax_functions"))
import functions
import jax
import study
import study_page
from operator_samples import Sample

PAGE = Path(__file__).resolve().parents[1] / "exact_jax.md"
CASES_PER_CACHE = 20  # cases after which the cache of compiled functions is cleared
PLANTED_IN = 40  # functions whose graph gets faults

# Why a right gradient is refuted, or a claim proved that `numeric` does not pass, by the beginning of the name.
TRIANGLE = "it reads one triangle of its input, and JAX shares the derivative out over both: true of the partial derivatives"
EXPLAINED = {
    "numpy.floor": "a number next to an integer: between two steps the claimed zero is right",
    "scipy.linalg.cho": TRIANGLE,
    "scipy.linalg.solve pos": TRIANGLE,
}


def explain(name: str) -> str:
    """Return the explanation of a disagreement."""
    return next((text for beginning, text in EXPLAINED.items() if name.startswith(beginning)), "")


def make_samples(only: str) -> list[Sample]:
    """Make a sample of every function whose name contains a text, in float64."""
    cases = [case for case in functions.make_cases() if only in case.name]
    return [Sample(case.name, 0, case.function, tuple(case.inputs("float64")), {}, True, "jax") for case in cases]


def check_samples(samples: list[Sample]) -> list[study.Row]:
    """Check all samples."""
    rows = []
    for number, sample in enumerate(samples):
        if number % CASES_PER_CACHE == 0:
            jax.clear_caches()
        rows.append(study.check_sample(sample))
        sys.stderr.write(f"{number + 1} of {len(samples)}: {sample.name} {rows[-1].outcome} {rows[-1].detail}\n")
    return rows


def make_page(rows: list[study.Row], score: study.planted.Score) -> list[str]:
    """Return the lines of the page."""
    real = [row for row in rows if not row.detail.startswith("complex")]
    counts = [study.count_outcomes("all functions", rows), study.count_outcomes("without complex numbers", real)]
    differing = [
        [f"`{row.name}`", row.outcome, row.numeric, row.detail, explain(row.name)]
        for row in rows
        if row.outcome in ("refuted", "remark") or (row.outcome == "proved" and row.numeric != "PASS")
    ]
    return [
        *study_page.make_heading("Exact: which of JAX's functions can be decided", __file__, ["jax", "numpy"]),
        "The functions of [the study of JAX functions](jax_functions.md), which are right, in float64. The claim is that of",
        "reverse mode. Times are medians of whole checks, with `--exact` and without, contracts and forward mode left out.",
        "",
        *study_page.make_table(["", *study.OUTCOMES, "decided", "exact", "without"], counts),
        "",
        f"Planted faults: up to {study.planted.FAULTS} operators of the proved gradients of {PLANTED_IN} functions were",
        "changed, one at a time, by the factors 2, 1 + 1e-12 and -1.",
        f"Of {score.effective} faults that change the gradient, {score.refuted} were not proved.",
        "",
        "## Refuted, or proved where the check without `--exact` does not pass",
        "",
        *study_page.make_table(["function", "exact", "without", "values", "explanation"], differing),
        "",
        "## Not decided, by reason",
        "",
        *study_page.make_table(["reason", "functions", "which"], study.list_reasons(rows)),
    ]


def main() -> None:
    """Run the study."""
    only, out = study_page.read_arguments(__doc__ or "", __file__, "only functions whose name contains this text")
    warnings.simplefilter("ignore")
    jax.config.update("jax_enable_x64", True)
    samples = make_samples(only)
    rows = check_samples(samples)
    proved = [pair for pair in zip(samples, rows, strict=True) if pair[1].outcome == "proved"]
    chosen = random.Random(0).sample(proved, min(PLANTED_IN, len(proved)))
    score = study.plant_in_proved([partial(study.run_check, sample, exact=True) for sample, _ in chosen])
    page = PAGE if out == study_page.page_path(__file__) else out
    study_page.write_page(make_page(rows, score), page)


if __name__ == "__main__":
    main()

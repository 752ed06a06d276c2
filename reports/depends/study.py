"""Study: are undeclared dependences and biased gradients found, and do right ones pass?

python reports/depends/study.py     # writes reports/depends.md; about five minutes on one core
"""

from __future__ import annotations

import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import torch
from dependences import RIGHT, WRONG, Declared
from estimators import RIGHT as UNBIASED
from estimators import WRONG as BIASED
from estimators import Estimator, X

import gradcheck
from gradcheck.checks.derivative.unbiasedness import JUDGED_AFTER
from gradcheck.evidence.confidence import bound_mean, is_representative

sys.path.append(str(Path(__file__).resolve().parents[1] / "common"))
import study_page

SEEDS = range(5)
STREAMS = 2000
LOOKS = [count for count in JUDGED_AFTER if count <= 2048]
ALPHAS = (1e-2, 1e-6)
# Distributions of mean zero.
NULLS = {
    "normal": lambda rng, n: rng.standard_normal(n),
    "exponential": lambda rng, n: rng.exponential(size=n) - 1,
    "log-normal, sigma 1": lambda rng, n: rng.lognormal(size=n) - np.exp(0.5),
    "events of probability 0.1": lambda rng, n: (rng.uniform(size=n) < 0.1) - 0.1,
    "events of probability 0.02": lambda rng, n: (rng.uniform(size=n) < 0.02) - 0.02,
    "Student, 3 degrees of freedom": lambda rng, n: rng.standard_t(3, size=n),
}


def check_dependence(declared: Declared, seed: int) -> tuple[Any, float]:
    """Check one function; return the contract and the seconds."""
    began = time.perf_counter()
    result = gradcheck.check(
        declared.make(),
        *declared.inputs,
        framework=declared.framework,
        depends=declared.depends,
        contracts=False,
        contract=("depends",),
        mode="probe",
        seed=seed,
    )
    (contract,) = [c for c in result.contracts if c.name == "depends"]
    return contract, time.perf_counter() - began


def tabulate_dependences(cases: Sequence[Declared], only: str) -> Iterator[tuple[Any, ...]]:
    """Yield a row for each function: how many seeds have the verdict that is right, and the last message."""
    for declared in cases:
        if only in declared.name:
            contracts, seconds = zip(*(check_dependence(declared, seed) for seed in SEEDS), strict=True)
            verdict = "FAIL" if declared.fault else "PASS"
            right = sum(c.verdict.value == verdict and declared.named in c.message for c in contracts)
            name = f"{declared.name}: {declared.fault}" if declared.fault else declared.name
            yield name, f"{right} of {len(SEEDS)}", f"{min(seconds):.2f} s", contracts[-1].message.partition(" (declared")[0]


def tabulate_estimators(cases: Sequence[Estimator], only: str) -> Iterator[tuple[Any, ...]]:
    """Yield a row for each estimator: the verdicts, the draws, and the bias of the last."""
    for estimator in cases:
        if only in estimator.name:
            results = []
            for seed in SEEDS:
                fn, gradient = estimator.make(seed)
                options = {"framework": estimator.framework, "gradient": gradient, "contracts": False, "seed": seed}
                results.append(gradcheck.check(fn, X, expect="unbiased", because="it draws", budget=20, **options))
            verdicts = Counter(result.verdict.value for result in results)
            name = f"{estimator.name}: {estimator.fault}" if estimator.fault else estimator.name
            counts = ", ".join(f"{n} {verdict}" for verdict, n in verdicts.items())
            yield name, counts, f"{min(r.seconds for r in results):.1f} s", next(n for n in results[-1].notes if "draws: " in n)


def tabulate_refusals() -> Iterator[tuple[Any, ...]]:
    """Yield a row for each distribution of mean zero: how many streams are ever refused."""
    for name, draw in NULLS.items():
        rng = np.random.default_rng(0)
        refused, undecided = Counter[float](), 0
        for _ in range(STREAMS):
            values = draw(rng, LOOKS[-1])
            known = [values[:n] for n in LOOKS if is_representative(values[:n])]
            undecided += not known
            for alpha in ALPHAS:
                refused[alpha] += any(abs(part.mean()) > bound_mean(part[None], alpha)[0] for part in known)
        yield name, *(f"{refused[alpha]} of {STREAMS:,}" for alpha in ALPHAS), undecided


def count_right(rows: Sequence[tuple[Any, ...]], right: str) -> str:
    """Count the checks with the right verdict in all rows."""
    counted = sum(int(part.split()[0]) for row in rows for part in str(row[1]).split(", ") if right in part)
    return f"{counted} of {len(rows) * len(SEEDS)}"


def main() -> None:
    """Run the study."""
    only, out = study_page.read_arguments(__doc__, __file__, "only cases whose name contains this text")
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    jax.config.update("jax_enable_x64", True)
    right, wrong = (list(tabulate_dependences(cases, only)) for cases in (RIGHT, WRONG))
    unbiased, biased = (list(tabulate_estimators(cases, only)) for cases in (UNBIASED, BIASED))
    groups = zip((right, wrong, unbiased, biased), ("of", "of", "PASS", "FAIL"), strict=True)
    counts = [count_right(rows, verdict) for rows, verdict in groups]
    columns = ("function", "right verdict", "fastest", "message for the last seed")
    drawn = ("gradient", "verdicts", "fastest", "last seed")
    refusals = ("draws of mean zero", *(f"refused at {alpha:g}" for alpha in ALPHAS), "undecided")
    lines = [
        *study_page.make_heading("Declared dependences and unbiased gradients", __file__, ("torch", "jax", "numpy")),
        f"Each function is checked with {len(SEEDS)} seeds. Declared dependences: {counts[0]} checks of right functions pass,"
        f" and {counts[1]} of wrong ones fail with the words that name the fault. Means over random draws: {counts[2]} checks"
        f" of unbiased gradients pass, and {counts[3]} of biased ones fail.",
        "",
        *("## Right dependences", "", *study_page.make_table(columns, right), ""),
        *("## Planted faults", "", *study_page.make_table(columns, wrong), ""),
        *("## Unbiased gradients", "", "Without `rtol`: a PASS knows the mean to 10 % of its size.", ""),
        *(*study_page.make_table(drawn, unbiased), ""),
        *("## Biased gradients", "", *study_page.make_table(drawn, biased), ""),
        *("## The confidence sequence", ""),
        f"{STREAMS:,} streams of draws of mean zero, judged after {LOOKS[0]} to {LOOKS[-1]:,} draws, as a check does: how many"
        " are ever refused at the stated probability of error, and how many are undecided, as too few values stand out.",
        *("", *study_page.make_table(refusals, tabulate_refusals())),
    ]
    study_page.write_page(lines, out)


if __name__ == "__main__":
    main()

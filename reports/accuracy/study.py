"""Study: does the evidence know its own error? Known derivatives, compared with other tools; and kinks and jumps.

    python reports/accuracy/study.py            # writes reports/accuracy.md and its charts; some minutes on one core

The cases are in `known_derivatives.py` and `kinks_and_jumps.py`. The other tools are numdifftools, scipy.differentiate and
jacobi, at their defaults.
"""

from __future__ import annotations

import math
import statistics
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[1] / "common"))
from charts import MAX_RATIO, draw_dots, draw_scatter
from estimators import ESTIMATES, OTHER_TOOLS, OURS, CaseResult, ask_gradcheck, ask_other_tools
from kinks_and_jumps import (
    BROKEN_FUNCTIONS,
    Judgement,
    is_beyond_float64,
    is_covered_by_resolution,
    judge_claims,
    make_points,
    make_tables,
)
from known_derivatives import BORDERED_FUNCTIONS, SMOOTH_FUNCTIONS, make_bordered_cases, make_smooth_cases
from measures import compute_coverage, group_by_condition, median_bound, median_error, median_ratio, select_answered
from study_page import make_heading, make_table, read_arguments, write_page

from gradcheck import Verdict
from gradcheck.verdict.interval import MAX_UNSEEN_ULPS

SEED = 0
SMOOTH_POINTS, BORDER_POINTS = 46, 120  # points of each smooth function, and of each function with a border
SHARED_EVERY = 6  # the other tools run on every sixth case
MISSES_LISTED = 40  # rows in the list of cases outside the bound
MIN_COVERAGE = 0.999  # required share of the smooth cases whose true error lies within the bound


# --- the page


def describe_evaluations(rows: Sequence[CaseResult], tool: str) -> str:
    """Describe the evaluations of the function per derivative: the median and the largest number."""
    spent = [row.answers[tool].evaluations for row in rows] or [0]
    return f"{statistics.median(spent):.0f} / {max(spent)}"


def make_cells(rows: Sequence[CaseResult], tool: str) -> list[str]:
    """Make the cells that every table shows."""
    answered = select_answered(rows, tool)
    outside = len(answered) - sum(row.is_covered(tool) for row in rows)
    return [
        f"{len(rows)}",
        f"{len(rows) - len(answered)}",
        f"{outside}",
        f"{100 * compute_coverage(rows, tool):.2f} %",
        f"{median_error(rows, tool):.1e}",
        f"{median_bound(rows, tool):.1e}",
        f"{median_ratio(rows, tool):.3g}",
        describe_evaluations(rows, tool),
    ]


CELL_COLUMNS = ("cases", "no answer", "outside", "inside", "error", "bound", "bound / error", "evaluations")


def make_requirements_table(rows: Sequence[CaseResult], judgements: Sequence[Judgement]) -> list[str]:
    """Make the table of the requirements, with what was found and whether they are met."""
    visible = [judgement for judgement in judgements if not is_beyond_float64(judgement)]
    passed = [judgement for judgement in visible if judgement.violates and not judgement.is_right]
    beyond = sum(judgement.violates and not judgement.is_right for judgement in judgements) - len(passed)
    failed = [judgement for judgement in judgements if judgement.violates and judgement.is_right]
    coverage, answered = compute_coverage(rows, OURS), select_answered(rows, OURS)
    least = min((len(group) for name, group in group_by_condition(rows).items() if name != "on a border"), default=0)
    return make_table(
        ["asked", "found", "met"],
        [
            [
                "3,000 known derivatives under every condition",
                f"{least:,} at least; {len(rows):,} in all",
                yes_or_no(least >= 3000),
            ],
            [
                "smooth: the true error inside the bound in 99.9 %",
                f"{100 * coverage:.3f} % of {len(answered):,} answers; {len(rows) - len(answered)} cases without an answer",
                yes_or_no(coverage >= MIN_COVERAGE),
            ],
            [
                "smooth: the median bound at most 30 times the true error",
                f"{median_ratio(rows, OURS):.1f}; the medians' ratio {median_bound(rows, OURS) / median_error(rows, OURS):.1f}",
                yes_or_no(median_ratio(rows, OURS) <= MAX_RATIO),
            ],
            [
                "kinks and jumps: no PASS of a wrong claim",
                f"{len(passed)} of {sum(not judgement.is_right for judgement in visible):,}; "
                f"{sum(map(is_covered_by_resolution, passed))} of these wrong by less than the resolution of the PASS; "
                f"{beyond} more beyond float64",
                yes_or_no(not passed),
            ],
            [
                "kinks and jumps: no FAIL of a valid (sub)gradient",
                f"{len(failed)} of {sum(judgement.is_right for judgement in judgements):,}",
                yes_or_no(not failed),
            ],
        ],
    )


def yes_or_no(met: bool) -> str:
    """Return 'yes', or a bold 'no'."""
    return "yes" if met else "**no**"


def make_smooth_tables(rows: Sequence[CaseResult]) -> list[str]:
    """Make the tables of the smooth cases: by condition, by estimate, and compared with the other tools."""
    groups = group_by_condition(rows)
    shared = [row for row in rows if OTHER_TOOLS[0] in row.answers]
    verdicts = {name: Counter(row.answers[OURS].verdict for row in group) for name, group in groups.items()}
    order = (Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.FAIL)
    return [
        "## By condition",
        "",
        *make_table(
            ["condition", *CELL_COLUMNS, "the truth passes / undecided / fails"],
            [
                [name, *make_cells(group, OURS), " / ".join(str(verdicts[name][verdict]) for verdict in order)]
                for name, group in groups.items()
            ],
        ),
        "",
        "The cheap estimate alone and the careful one alone, on all cases:",
        "",
        *make_table(["estimate", *CELL_COLUMNS], [[name, *make_cells(rows, name)] for name in ESTIMATES]),
        "",
        "## Compared with other tools",
        "",
        f"On every {SHARED_EVERY}th case of each condition and all on a border, {len(shared):,} in all. A tool has no answer",
        "where it raises, or where its value or its error estimate is not finite.",
        "",
        *make_table(["tool", *CELL_COLUMNS], [[name, *make_cells(shared, name)] for name in (OURS, *OTHER_TOOLS)]),
        "",
        "Inside its own bound, and median relative error, by condition:",
        "",
        *make_table(
            ["condition", "cases", OURS, *OTHER_TOOLS],
            [make_tool_row(name, group) for name, group in group_by_condition(shared).items()],
        ),
        "",
    ]


def make_tool_row(name: str, rows: Sequence[CaseResult]) -> list[str]:
    """Make one condition's row in the table of tools."""
    return [
        name,
        str(len(rows)),
        *(f"{100 * compute_coverage(rows, t):.1f} %, {median_error(rows, t):.0e}" for t in (OURS, *OTHER_TOOLS)),
    ]


def list_failures(rows: Sequence[CaseResult], judgements: Sequence[Judgement]) -> list[str]:
    """List every smooth case outside the bound, and every wrong verdict at a kink or jump."""
    missed = sorted(
        (row for row in select_answered(rows, OURS) if not row.is_covered(OURS)), key=error_over_bound, reverse=True
    )
    wrong = [
        judgement for judgement in judgements if judgement.violates and (judgement.is_right or not is_beyond_float64(judgement))
    ]
    return [
        f"## Smooth cases outside the bound: {len(missed)}",
        "",
        *make_table(
            ["condition", "function", "x", "value", "exact", "bound", "error / bound"],
            map(make_miss_row, missed[:MISSES_LISTED]),
        ),
        "",
        f"## Violations at kinks and jumps: {len(wrong)}",
        "",
        *make_table(["function", "x", "x - c", "claim", "value", "wrong by", "verdict"], map(make_violation_row, wrong)),
    ]


def make_miss_row(row: CaseResult) -> list[str]:
    """Make the row of a smooth case whose bound does not hold."""
    answer = row.answers[OURS]
    numbers = (
        repr(row.case.x),
        f"{answer.value:.17g}",
        f"{row.case.exact:.17g}",
        f"{answer.bound:.1e}",
        f"{error_over_bound(row):.3g}",
    )
    return [row.case.condition, f"`{row.case.name}`", *numbers]


def make_violation_row(judgement: Judgement) -> list[str]:
    """Make the row of a claim at a kink or a jump that got the wrong verdict."""
    numbers = (
        repr(judgement.point.x),
        f"{judgement.point.x - judgement.point.c:.3e}",
        judgement.claim,
        f"{judgement.value:.6g}",
        f"{judgement.relative_error:.1e}",
    )
    return [f"`{judgement.point.function.name}`", *numbers, describe_verdict(judgement)]


def error_over_bound(row: CaseResult) -> float:
    """Compute the true error over the bound."""
    return row.error(OURS) / max(row.answers[OURS].bound, 5e-324)


def describe_verdict(judgement: Judgement) -> str:
    """Describe a verdict with its reason and, for a PASS, the resolution that it states."""
    return f"{judgement.verdict.value} {judgement.reason.code}" + (
        f", right to {judgement.resolution:.0e}" if math.isfinite(judgement.resolution) else ""
    )


# --- the run


def run_cases(only: str) -> Iterator[CaseResult]:
    """Run gradcheck on every smooth case, and the other tools on some."""
    rng, counts = np.random.default_rng(SEED), Counter[str]()
    for case in (*make_smooth_cases(rng, SMOOTH_POINTS), *make_bordered_cases(rng, BORDER_POINTS)):
        if only not in f"{case.condition}: {case.name}":
            continue
        counts[case.condition] += 1
        other_answers = (
            ask_other_tools(case) if counts[case.condition] % SHARED_EVERY == 0 or case.condition == "on a border" else {}
        )
        yield CaseResult(case, ask_gradcheck(case) | other_answers)


def make_page(rows: Sequence[CaseResult], judgements: Sequence[Judgement], out: Path) -> list[str]:
    """Make the page."""
    packages = ("numpy", "torch", "mpmath", *OTHER_TOOLS[:1], "scipy", "jacobi")
    return [
        *make_heading("Accuracy: evidence that knows its own error", __file__, packages),
        *INTRODUCTION,
        "",
        *make_requirements_table(rows, judgements),
        "",
        *READING,
        "",
        *LIMITS,
        "",
        *draw_scatter(rows, out.with_name("accuracy_bounds.svg")),
        *make_smooth_tables(rows),
        *draw_dots(rows, out.with_name("accuracy_tools.svg")),
        *make_tables(judgements),
        *BREAKS_READING,
        "",
        *list_failures(rows, judgements),
    ]


INTRODUCTION = (
    f"Seed {SEED}. {len(SMOOTH_FUNCTIONS)} smooth functions, {len(BORDERED_FUNCTIONS)} with a border of their domain, "
    f"{len(BROKEN_FUNCTIONS)} with",
    "a kink or a jump; the truth is mpmath's derivative at 60 digits, at the same float that the function is given.",
    "`float32` functions compute in float32 whatever they are given. `noise` adds pseudo-random numbers, a hash of",
    "the bits of x, of that standard deviation relative to f(x). `scale of x` is f(x/s), `scale of f` s f(x), s",
    "log-uniform in 1e-12 to 1e12. Distances to borders, kinks and jumps are log-uniform in 1e-12 to 1.",
)
READING = (
    "An error counts as at least half a unit in the last place of the truth. `outside`: the true error exceeds the",
    "bound (and that half unit); `inside` is of the answers given. `error` and `bound` are medians, relative to the",
    "derivative; `bound / error` is the median of the ratios; evaluations are of one derivative, median and",
    "largest. gradcheck's answer is its cheap estimate where the true derivative passes with that, else its careful",
    "one; `no answer` is an infinite bound.",
)
LIMITS = (
    "Limits. The truth is the formula's; where a program's rounding has a pattern it is locally another function,",
    "and the evidence, which sees only the program, answers for that one: (1-cos(x))/x^2 in float32 is K/x^2",
    "between two values of cos(x). The other tools assume an exact function and run at their defaults; their error",
    "estimates are not meant as bounds (jacobi's is nearer to a standard deviation). In float64 some of them are a",
    "digit or two sharper than gradcheck, which spends its evaluations on a bound that holds. Cases are drawn by",
    "the author of the catalogue, one input and one output each; the noise is a hash, free of structure.",
)
BREAKS_READING = (
    "Right claims: the exact derivative; on a kink either one-sided slope and their mean; on a jump none is right.",
    "Wrong claims: zero, the sign flipped, 1 % off, the slope of the other side, 1 where the slope is 0; on a kink 1",
    "% and a whole width beyond the one-sided slopes. `beyond float64`: the distance is below the finest step at",
    "which a difference is taken, 2^-40 of x, so that the point looks like one on the kink and its one-sided slopes",
    "are all that can be seen; or a wrong claim and the truth differ over the whole distance by less than",
    f"{MAX_UNSEEN_ULPS:.0f} units in the last place of f, so that its values cannot tell them apart. A right claim that fails",
    "counts as a violation there too.",
)


def main() -> None:
    """Run the study and write its page."""
    only, out = read_arguments(__doc__ or "", __file__, "cases whose 'condition: function' contains this")
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    began = time.perf_counter()
    rows = list(run_cases(only))
    points = [point for point in make_points(np.random.default_rng(SEED)) if only in f"break: {point.function.name}"]
    judgements = [judgement for point in points for judgement in judge_claims(point)]
    write_page(make_page(rows, judgements, out), out)
    sys.stdout.write("\n".join([*make_requirements_table(rows, judgements), f"{time.perf_counter() - began:.0f} s"]) + "\n")


if __name__ == "__main__":
    main()

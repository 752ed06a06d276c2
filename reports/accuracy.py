"""Study: does the evidence know its own error? Known derivatives under every condition, beside other tools; kinks and jumps.

    python reports/accuracy.py            # writes reports/accuracy.md and its charts; some minutes on one core

The cases are in reports/known.py. The other tools are numdifftools, scipy.differentiate and jacobi, at their defaults.
"""

from __future__ import annotations

import math
import statistics
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from breaks import BROKEN, Held, break_tables, breaks, dull, hold, unseen
from estimates import METHODS, OURS, PEERS, Row, ours, theirs
from known import BORDERED, NOISES, SMOOTH, bordered_cases, smooth_cases
from page import arguments, chart, heading, table, write

from gradcheck import Verdict
from gradcheck.verdict.interval import UNSEEN

SEED = 0
EACH, EACH_BORDER = 46, 120  # points of a smooth function, and of one with a border
BESIDE = 6  # every so many-th case goes to the other tools too
SHOWN = 270  # marks of a kind in the scatter chart
LISTED = 40
COVERED, RATIO = 0.999, 30.0  # what is asked


# --- figures


def answered(rows: Sequence[Row], tool: str) -> list[Row]:
    """The rows in which a tool gives an answer."""
    return [r for r in rows if r.answers[tool].given]


def share(rows: Sequence[Row], tool: str) -> float:
    """Of the answers, the share whose bound holds."""
    given = answered(rows, tool)
    return sum(r.covered(tool) for r in given) / len(given) if given else math.nan


def ratio(rows: Sequence[Row], tool: str) -> float:
    """Median of bound over true error."""
    return statistics.median([r.answers[tool].bound / r.error(tool) for r in answered(rows, tool)] or [math.nan])


def relative(rows: Sequence[Row], tool: str, what: Callable[[Row], float]) -> float:
    """Median of something over the size of the derivative."""
    given = [what(r) / abs(r.case.exact) for r in answered(rows, tool) if r.case.exact != 0]
    return statistics.median(given or [math.nan])


def error_of(rows: Sequence[Row], tool: str) -> float:
    """Median true error, relative."""
    return relative(rows, tool, lambda r: r.error(tool))


def bound_of(rows: Sequence[Row], tool: str) -> float:
    """Median bound, relative."""
    return relative(rows, tool, lambda r: r.answers[tool].bound)


def evaluations(rows: Sequence[Row], tool: str) -> str:
    """Evaluations of the function per derivative: the median and the most."""
    spent = [r.answers[tool].evaluations for r in rows] or [0]
    return f"{statistics.median(spent):.0f} / {max(spent)}"


def figures(rows: Sequence[Row], tool: str) -> list[str]:
    """The cells that every table shows."""
    given, outside = answered(rows, tool), len(answered(rows, tool)) - sum(r.covered(tool) for r in rows)
    return [
        f"{len(rows)}",
        f"{len(rows) - len(given)}",
        f"{outside}",
        f"{100 * share(rows, tool):.2f} %",
        f"{error_of(rows, tool):.1e}",
        f"{bound_of(rows, tool):.1e}",
        f"{ratio(rows, tool):.3g}",
        evaluations(rows, tool),
    ]


CELLS = ("cases", "no answer", "outside", "inside", "error", "bound", "bound / error", "evaluations")


def by_condition(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows by condition."""
    noises = [f"noise {size:.0e}" for size in NOISES]
    order = ("float64", "float32", "scale of x", "scale of f", *noises, "beside a border", "on a border")
    groups = {name: [r for r in rows if r.case.condition == name] for name in order}
    return {name: group for name, group in groups.items() if group}


# --- the page


def asks(rows: Sequence[Row], held: Sequence[Held]) -> list[str]:
    """What was asked, and whether it is so."""
    seen = [h for h in held if not unseen(h)]
    passed = [h for h in seen if h.violates and not h.is_right]
    beyond = sum(h.violates and not h.is_right for h in held) - len(passed)
    failed = [h for h in held if h.violates and h.is_right]
    named, given = share(rows, OURS), answered(rows, OURS)
    least = min((len(group) for name, group in by_condition(rows).items() if name != "on a border"), default=0)
    return table(
        ["asked", "found", "met"],
        [
            ["3,000 known derivatives under every condition", f"{least:,} at least; {len(rows):,} in all", yes(least >= 3000)],
            [
                "smooth: the true error inside the bound in 99.9 %",
                f"{100 * named:.3f} % of {len(given):,} answers; {len(rows) - len(given)} cases without an answer",
                yes(named >= COVERED),
            ],
            [
                "smooth: the median bound at most 30 times the true error",
                f"{ratio(rows, OURS):.1f}; the medians' ratio {bound_of(rows, OURS) / error_of(rows, OURS):.1f}",
                yes(ratio(rows, OURS) <= RATIO),
            ],
            [
                "kinks and jumps: no PASS of a wrong claim",
                f"{len(passed)} of {sum(not h.is_right for h in seen):,}; "
                f"{sum(map(dull, passed))} of these wrong by less than the PASS says it can tell; {beyond} more beyond float64",
                yes(not passed),
            ],
            [
                "kinks and jumps: no FAIL of a valid (sub)gradient",
                f"{len(failed)} of {sum(h.is_right for h in held):,}",
                yes(not failed),
            ],
        ],
    )


def yes(met: bool) -> str:
    """Yes or no."""
    return "yes" if met else "**no**"


def smooth_tables(rows: Sequence[Row]) -> list[str]:
    """Ours by condition; ours by kind of estimate; and beside the other tools."""
    groups = by_condition(rows)
    shared = [r for r in rows if PEERS[0] in r.answers]
    verdicts = {name: Counter(r.answers[OURS].verdict for r in group) for name, group in groups.items()}
    order = (Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.FAIL)
    return [
        "## By condition",
        "",
        *table(
            ["condition", *CELLS, "the truth passes / undecided / fails"],
            [[name, *figures(g, OURS), " / ".join(str(verdicts[name][v]) for v in order)] for name, g in groups.items()],
        ),
        "",
        "The cheap estimate alone and the careful one alone, on all cases:",
        "",
        *table(["estimate", *CELLS], [[name, *figures(rows, name)] for name in METHODS]),
        "",
        "## Beside other tools",
        "",
        f"On every {BESIDE}th case of each condition and all on a border, {len(shared):,} in all. A tool has no answer",
        "where it raises, or where its value or its error estimate is not finite.",
        "",
        *table(["tool", *CELLS], [[name, *figures(shared, name)] for name in (OURS, *PEERS)]),
        "",
        "Inside its own bound, and median relative error, by condition:",
        "",
        *table(["condition", "cases", OURS, *PEERS], [peer_row(name, g) for name, g in by_condition(shared).items()]),
        "",
    ]


def peer_row(name: str, rows: Sequence[Row]) -> list[str]:
    """One condition's line in the table of tools."""
    return [name, str(len(rows)), *(f"{100 * share(rows, t):.1f} %, {error_of(rows, t):.0e}" for t in (OURS, *PEERS))]


def lists(rows: Sequence[Row], held: Sequence[Held]) -> list[str]:
    """Every miss and every violation."""
    missed = sorted((r for r in answered(rows, OURS) if not r.covered(OURS)), key=miss, reverse=True)
    wrong = [h for h in held if h.violates and (h.is_right or not unseen(h))]
    return [
        f"## Smooth cases outside the bound: {len(missed)}",
        "",
        *table(["condition", "function", "x", "value", "exact", "bound", "error / bound"], map(missed_row, missed[:LISTED])),
        "",
        f"## Violations at kinks and jumps: {len(wrong)}",
        "",
        *table(["function", "x", "x - c", "claim", "value", "wrong by", "verdict"], map(violation_row, wrong)),
    ]


def missed_row(r: Row) -> list[str]:
    """One smooth case whose bound does not hold."""
    a = r.answers[OURS]
    numbers = (repr(r.case.x), f"{a.value:.17g}", f"{r.case.exact:.17g}", f"{a.bound:.1e}", f"{miss(r):.3g}")
    return [r.case.condition, f"`{r.case.name}`", *numbers]


def violation_row(h: Held) -> list[str]:
    """One claim at a kink or a jump with the wrong verdict."""
    numbers = (repr(h.at.x), f"{h.at.x - h.at.c:.3e}", h.claim, f"{h.value:.6g}", f"{h.off:.1e}")
    return [f"`{h.at.function.name}`", *numbers, told_of(h)]


def miss(row: Row) -> float:
    """True error over the bound."""
    return row.error(OURS) / max(row.answers[OURS].bound, 5e-324)


def told_of(h: Held) -> str:
    """A verdict with its reason, and the resolution that a PASS states."""
    return f"{h.verdict.value} {h.reason.code}" + (f", right to {h.resolution:.0e}" if math.isfinite(h.resolution) else "")


# --- charts


KINDS = {
    "float64 and scales": ("o", "#4477aa"),
    "float32": ("^", "#228833"),
    "noise": ("x", "#997700"),
    "border": ("s", "#aa3377"),
}
MARKS = dict(zip((OURS, *PEERS), (("o", "black"), ("s", "#4477aa"), ("^", "#228833"), ("x", "#aa3377")), strict=True))


def scatter(rows: Sequence[Row], path: Path) -> list[str]:
    """Bound against true error."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 5.5))
    axes = figure.add_subplot()
    for kind, (marker, colour) in KINDS.items():
        points = [(r.error(OURS) / abs(r.case.exact), r.answers[OURS].bound / abs(r.case.exact)) for r in chosen(rows, kind)]
        axes.plot(*zip(*points, strict=True), marker, color=colour, mfc="none", ms=4, mew=0.7, label=kind) if points else None
    ends = (1e-17, 1e2)
    axes.plot(ends, ends, color="black", lw=1, label="bound = error")
    axes.plot(ends, [RATIO * end for end in ends], color="black", lw=1, ls="--", label=f"bound = {RATIO:.0f} × error")
    axes.set(xscale="log", yscale="log", xlim=ends, ylim=ends, xlabel="true error, relative", ylabel="bound, relative")
    axes.legend(frameon=False)
    return chart(figure, path, "Bound and true error", "one mark per derivative; below the full line the bound does not hold")


def chosen(rows: Sequence[Row], kind: str) -> list[Row]:
    """An even choice of a kind's answers."""
    found = [r for r in answered(rows, OURS) if kind_of(r.case.condition) == kind and r.case.exact != 0]
    return found[:: max(1, len(found) // SHOWN)]


def kind_of(condition: str) -> str:
    """Which mark of the scatter chart a condition gets."""
    return next((k for k in ("float32", "noise", "border") if k in condition), "float64 and scales")


def dots(rows: Sequence[Row], path: Path) -> list[str]:
    """Share outside the bound and median error, by condition and tool."""
    from matplotlib.figure import Figure

    groups = by_condition([r for r in rows if PEERS[0] in r.answers])
    figure = Figure(figsize=(9, 4.5))
    left, right = figure.subplots(1, 2, sharey=True)
    places = np.arange(len(groups))
    for tool, (marker, colour) in MARKS.items():
        outside = [100 * (1 - share(g, tool)) for g in groups.values()]
        left.plot(outside, places, marker, color=colour, ms=6, mfc="none", label=tool)
        right.plot([error_of(g, tool) for g in groups.values()], places, marker, color=colour, ms=6, mfc="none")
    left.set_xscale("symlog", linthresh=0.1)
    left.set(xlabel="answers outside the tool's own bound, %", yticks=places, yticklabels=list(groups))
    left.set_xlim(-0.02, 100)
    right.set(xscale="log", xlabel="median error, relative")
    left.invert_yaxis()
    for axes in (left, right):
        axes.grid(axis="y", lw=0.4)
    figure.legend(*left.get_legend_handles_labels(), loc="upper center", ncols=4, frameon=False)
    return chart(figure, path, "Four tools by condition", "share of answers outside their own bound, and median true error")


# --- the run


def looked_at(only: str) -> Iterator[Row]:
    """Every smooth case through gradcheck, every so many-th through the other tools."""
    rng, seen = np.random.default_rng(SEED), Counter[str]()
    for case in (*smooth_cases(rng, EACH), *bordered_cases(rng, EACH_BORDER)):
        if only not in f"{case.condition}: {case.name}":
            continue
        seen[case.condition] += 1
        others = theirs(case) if seen[case.condition] % BESIDE == 0 or case.condition == "on a border" else {}
        yield Row(case, ours(case) | others)


def text(rows: Sequence[Row], held: Sequence[Held], out: Path) -> list[str]:
    """The page."""
    packages = ("numpy", "torch", "mpmath", *PEERS[:1], "scipy", "jacobi")
    return [
        *heading("Accuracy: evidence that knows its own error", __file__, packages),
        *INTRODUCTION,
        "",
        *asks(rows, held),
        "",
        *READING,
        "",
        *LIMITS,
        "",
        *scatter(rows, out.with_name("accuracy_bounds.svg")),
        *smooth_tables(rows),
        *dots(rows, out.with_name("accuracy_tools.svg")),
        *break_tables(held),
        *BREAKS_READING,
        "",
        *lists(rows, held),
    ]


INTRODUCTION = (
    f"Seed {SEED}. {len(SMOOTH)} smooth functions, {len(BORDERED)} with a border of their domain, {len(BROKEN)} with",
    "a kink or a jump; the truth is mpmath's derivative at 60 digits at the very float that the function is given.",
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
    f"{UNSEEN:.0f} units in the last place of f, so that its values cannot tell them apart. A right claim that fails",
    "counts as a violation there too.",
)


def main() -> None:
    """Run the study and write its page."""
    only, out = arguments(__doc__ or "", __file__, "cases whose 'condition: function' contains this")
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    began = time.perf_counter()
    rows = list(looked_at(only))
    points = [at for at in breaks(np.random.default_rng(SEED)) if only in f"break: {at.function.name}"]
    held = [h for at in points for h in hold(at)]
    write(text(rows, held, out), out)
    sys.stdout.write("\n".join([*asks(rows, held), f"{time.perf_counter() - began:.0f} s"]) + "\n")


if __name__ == "__main__":
    main()

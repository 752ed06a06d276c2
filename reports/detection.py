"""Study: is a wrong gradient caught? Faults of many kinds and sizes, planted in the gradients of functions and layers.

    python reports/detection.py            # writes reports/detection.md and its charts; about half an hour on one core

It needs JAX and Matplotlib.
"""

from __future__ import annotations

import math
import statistics
import sys
import textwrap
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import page
import torch
from catalogue import SEED, SUBJECTS, Subject
from faults import KINDS
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from rivals import LARGEST, RIVALS
from trials import DTYPES, EDGE, FULL, MAGNITUDES, PROBE, Outcome, Problem, noticeable, study

CHECKERS = (FULL, PROBE, *RIVALS)
OURS = (FULL, PROBE)
STYLES = dict(zip(CHECKERS, ["o-", "s-", "^--", "v--", "D:"], strict=True))
COLOURS = dict(zip(CHECKERS, ["#0072b2", "#d55e00", "#009e73", "#56b4e9", "#cc79a7"], strict=True))
CLASSES = (1, 10, 100, 1_000, 10_000, 100_000, 1_000_000)  # numbers of inputs up to which a size class goes
PROMISE = 0.01  # of the faults above the resolution a probe may miss
LISTED = 60
FEWEST = 5  # faults that make a point of the chart
WIDTH = 128


def problems(only: str) -> Iterator[Problem]:
    """A kind of fault for every function, size and dtype: of those that change its gradient, the one used least so far."""
    used: Counter[str] = Counter()
    for number, subject in enumerate(SUBJECTS):
        had: set[str] = set()
        for size, dtype in ((s, d) for s in subject.sizes for d in DTYPES):
            order = sorted(KINDS, key=lambda k: (k in had, used[k], (list(KINDS).index(k) + 7 * number) % len(KINDS)))
            problem = next(p for k in order if noticeable(p := Problem(subject, size, dtype, k)))
            used[problem.kind] += 1
            had.add(problem.kind)
            if only in subject.name:
                yield problem


def share(outcomes: Iterable[Outcome], hit: Callable[[Outcome], bool]) -> str:
    """How many of the outcomes are hits, as a count of all."""
    found = [hit(o) for o in outcomes]
    return f"{sum(found)} of {len(found)}" if found else "-"


def percent(outcomes: Sequence[Outcome]) -> str:
    """The share of the faults that was told from the right gradient."""
    return f"{100 * statistics.mean(o.caught for o in outcomes):.0f} %" if outcomes else "-"


def of(outcomes: Iterable[Outcome], *checkers: str, **wanted: object) -> list[Outcome]:
    """The outcomes of some checkers, of problems with some attributes."""
    return [o for o in outcomes if o.checker in checkers and all(getattr(o.problem, k) == v for k, v in wanted.items())]


def verdict_on(faults: Sequence[Outcome]) -> list[str]:
    """Whether the ask is met, with figures."""
    above, missed = [o for o in faults if o.above], [o for o in faults if o.missed]
    unseen = [o for o in missed if not o.shown]
    probe = [o for o in above if o.checker == PROBE and o.shown]
    rate = statistics.mean(o.missed for o in probe) if probe else 0.0
    lies = [o for o in faults if o.excess > 1]
    text = (
        f"**{'Not met' if missed else 'Met'}**: of {len(above)} faults above it {len(above) - len(missed)} are caught, "
        f"{len(missed)} are not. Of these, {len(unseen)} show in none of the gradients that gradcheck asks for. Of those that "
        f"show, full mode misses {sum(o.checker == FULL and o.shown for o in missed)} and probe mode {100 * rate:.2f} % (its "
        f"promise: at most {100 * PROMISE:.0f} %)."
    )
    passes = sum(o.verdict == "PASS" for o in faults)
    honest = f"A PASS states how right it is. Of {passes} PASSes of a faulty gradient, {len(lies)} state more than is true."
    ask = "Ask: every fault above the stated resolution is caught, in probe mode too."
    return [ask, *textwrap.wrap(text, WIDTH), "", *textwrap.wrap(honest, WIDTH)]


def overview(right: Sequence[Outcome], faults: Sequence[Outcome]) -> list[str]:
    """Every checker and dtype: false alarms, faults caught, time."""
    rows = []
    for checker, dtype in ((c, d) for c in CHECKERS for d in DTYPES):
        good, bad = of(right, checker, dtype=dtype), of(faults, checker, dtype=dtype)
        above = [o for o in bad if o.above]
        if good:
            median = statistics.median(o.seconds for o in (*good, *bad))
            judged = share(above, lambda o: not o.missed) if checker in OURS else "nothing stated"
            told = share(bad, lambda o: o.caught)
            rows.append((checker, dtype, share(good, lambda o: not o.right), told, judged, f"{1e3 * median:.0f} ms"))
    columns = ("checker", "dtype", "right gradients not passed", "faults caught", "caught of those above", "median time")
    return page.table(columns, rows)


def by_magnitude(faults: Sequence[Outcome], dtype: str) -> list[str]:
    """Detection against the size of the fault."""
    rows = [
        (f"{m:.0e}", *(percent([o for o in of(faults, c, dtype=dtype) if o.magnitude == m]) for c in CHECKERS))
        for m in MAGNITUDES
    ]
    return page.table((f"fault, {dtype}", *CHECKERS), rows)


def by_kind(faults: Sequence[Outcome]) -> list[str]:
    """Every kind of fault."""
    rows = []
    for name, kind in KINDS.items():
        chosen = [o for o in faults if o.problem.kind == name]
        above = [o for o in chosen if o.above]
        functions = len({o.problem.subject.name for o in chosen})
        counts = (functions, share(above, lambda o: not o.missed), *(percent(of(chosen, c)) for c in CHECKERS))
        rows.append((name, kind.text, *counts))
    return page.table(("kind", "what is wrong", "functions", "caught of those above", *CHECKERS), rows)


def by_size(right: Sequence[Outcome], faults: Sequence[Outcome], checker: str) -> list[str]:
    """Every size class, with the resolution that is stated there, as a table's rows."""
    rows = []
    for low, high in zip((0, *CLASSES), CLASSES, strict=False):
        inside = [o for o in of(faults, checker) if low < o.entries <= high]
        stated = [o.resolution for o in of(right, checker) if low < o.entries <= high and not math.isnan(o.resolution)]
        if inside and stated:
            functions, above = len({o.problem.subject.name for o in inside}), [o for o in inside if o.above]
            resolution = f"{statistics.median(stated):.0e}, {max(stated):.0e}"
            rows.append((checker, f"{low + 1:,} to {high:,}", functions, resolution, share(above, lambda o: not o.missed)))
    columns = ("checker", "input numbers", "functions", "resolution: median, dullest", "caught of those above")
    return page.table(columns, rows)[0 if checker == FULL else 2 :]


def by_jacobian(faults: Sequence[Outcome]) -> list[str]:
    """Dense and sparse Jacobians."""
    rows = []
    for name, sparse in (("dense", False), ("sparse", True)):
        chosen = [o for o in faults if o.problem.subject.sparse == sparse]
        above = [o for o in chosen if o.above]
        functions = len({o.problem.subject.name for o in chosen})
        rows.append((name, functions, share(above, lambda o: not o.missed), *(percent(of(chosen, c)) for c in CHECKERS)))
    return page.table(("Jacobian", "functions", "caught of those above", *CHECKERS), rows)


def curves(faults: Sequence[Outcome], folder: Path) -> list[str]:
    """Chart: detection against the size of the fault, a panel per dtype."""
    figure, panels = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True)
    for panel, dtype in zip(panels, DTYPES, strict=True):
        for checker in CHECKERS:
            chosen = of(faults, checker, dtype=dtype)
            line = [statistics.mean(o.caught for o in chosen if o.magnitude == m) for m in MAGNITUDES] if chosen else []
            if line:
                panel.plot(MAGNITUDES, line, STYLES[checker], color=COLOURS[checker], label=checker, markersize=4)
        dress(panel, dtype, "relative size of the fault")
        panel.invert_xaxis()
    panels[0].set_ylabel("faults caught")
    panels[1].legend(fontsize=7)
    text = "share of the planted faults that each checker catches, against their relative size, from 1 to 1e-8"
    return page.chart(figure, folder / "detection_curves.svg", "Detection against fault size", text)


def step(faults: Sequence[Outcome], folder: Path) -> list[str]:
    """Chart: detection by gradcheck against the fault's error in units of what is stated as detectable."""
    figure, panels = plt.subplots(1, 2, figsize=(9, 3.2), sharey=True)
    edges = np.arange(-4, 8.5, 0.5)
    for panel, checker in zip(panels, OURS, strict=True):
        for dtype, style in zip(DTYPES, ("o-", "s--"), strict=True):
            chosen = [o for o in of(faults, checker, dtype=dtype) if o.ratio > 0]
            place = np.digitize([math.log10(o.ratio) for o in chosen], edges) - 1
            bins = [[o for o, k in zip(chosen, place, strict=True) if k == j] for j in range(edges.size)]
            full = [
                (10 ** (edges[j] + 0.25), statistics.mean(o.caught for o in b)) for j, b in enumerate(bins) if len(b) >= FEWEST
            ]
            panel.plot(*zip(*full, strict=True) if full else ([], []), style, label=dtype, markersize=4)
        dress(panel, checker, "error of the fault / what is stated as detectable")
        panel.axvline(1.0, color="black", linewidth=0.8)
    panels[0].set_ylabel("faults caught")
    panels[0].legend(fontsize=7)
    text = "share of the faults that gradcheck catches, against their error in units of resolution plus rtol: a step at 1"
    return page.chart(figure, folder / "detection_step.svg", "Detection against the stated resolution", text)


def dress(panel: Axes, title: str, label: str) -> None:
    """Axes that both charts share."""
    panel.set_xscale("log")
    panel.set_title(title, fontsize=10)
    panel.set_xlabel(label)
    panel.set_ylim(-0.03, 1.03)
    panel.grid(alpha=0.3)


def call(o: Outcome) -> str:
    """Python that repeats a check."""
    p, mode = o.problem, "auto" if not o.problem.small else "probe" if o.checker == PROBE else "full"
    return f'show("{p.subject.name}", {p.size}, "{p.dtype}", "{p.kind}", {o.magnitude:.0e}, "{mode}")'


def listed(title: str, chosen: Sequence[Outcome]) -> list[str]:
    """A table of single checks, the magnitudes of a problem together, with the call that repeats the worst of them."""
    groups: dict[tuple[Problem, str], list[Outcome]] = {}
    for o in sorted(chosen, key=lambda o: (o.shown, -o.ratio)):
        groups.setdefault((o.problem, o.checker), []).append(o)
    rows = [
        (
            f"`{call(g[0])}`",
            len(g),
            g[0].verdict,
            f"{g[0].ratio:.3g}",
            f"{g[0].excess:.3g}",
            f"{g[0].resolution:.0e}",
            seen(g[0]),
        )
        for g in groups.values()
    ]
    columns = ("call (from `trials`)", "so many", "verdict", "error / detectable", "error / this PASS", "resolution", "seen")
    more = [f"... and {len(rows) - LISTED} more."] if len(rows) > LISTED else []
    return ["", f"## {title}", "", *(page.table(columns, rows[:LISTED]) if rows else ["None."]), *more]


def seen(o: Outcome) -> str:
    """What gradcheck remarked."""
    return o.said if o.shown or not o.magnitude else "the gradients asked for do not show it"


def below(faults: Sequence[Outcome]) -> list[str]:
    """What became of faults that are not above the stated resolution."""
    rows = []
    for checker, dtype in ((c, d) for c in OURS for d in DTYPES):
        counts = Counter(o.verdict for o in of(faults, checker, dtype=dtype) if o.ratio <= 1)
        rows.append((checker, dtype, *(counts[v] for v in ("FAIL", "INCONCLUSIVE", "PASS"))))
    return page.table(("checker", "dtype", "FAIL", "INCONCLUSIVE", "PASS"), rows)


def subjects(outcomes: Sequence[Outcome]) -> list[str]:
    """The functions and their sizes, in a paragraph."""

    def text(s: Subject) -> str:
        sizes = sorted({o.entries for o in outcomes if o.problem.subject is s})
        return f"{s.name}{' (sparse)' if s.sparse else ''}: {', '.join(f'{n:,}' for n in sizes)}"

    told = "; ".join(text(s) for s in SUBJECTS if any(o.problem.subject is s for o in outcomes))
    return textwrap.wrap(f"{told}.", WIDTH)


METHOD = f"""
Each fault is planted in a `torch.autograd.Function` whose forward is the function and whose backward is the right gradient g,
moved towards a spoilt one: g + r (spoilt - g), r from 1 to 1e-8. Each function at each of its sizes and in each dtype gets one
kind of fault, the one used least so far among those that change its gradient. Small problems are checked in full mode and,
forced, in probe mode; large ones in the mode that gradcheck chooses. All inputs and faults derive from seed {SEED}.

First the right gradient is checked; its PASS states a resolution. A fault is *above* it if

- full mode: the largest relative error of an entry, in the gradients that gradcheck asks for, exceeds resolution + rtol: from
  there on it is certainly wrong by more than rtol (1e-8 in float64, 1e-4 in float32). Entries that are zero, that the table
  counts as `small`, or that are below the resolution beside their leaf's largest are measured by that largest;
- probe mode: its norm over the size of a typical entry exceeds resolution + rtol: a fault e moves a random probe by about |e|,
  as one wrong entry of that size would; the three dense probes count with their geometric mean. It must also be wrong by more
  than {EDGE} rtol in the root mean square over the entries it touches: below rtol a FAIL would be wrong.

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


def report(outcomes: Sequence[Outcome], seconds: float, folder: Path) -> list[str]:
    """The whole page."""
    right, faults = ([o for o in outcomes if bool(o.magnitude) == bad] for bad in (False, True))
    ours = of(faults, *OURS)
    functions, kinds = len({o.problem.subject.name for o in outcomes}), len({o.problem.kind for o in outcomes})
    return [
        *page.heading("Detection: planted faults", __file__, ["gradcheck", "torch", "jax", "numpy"]),
        f"{kinds} kinds of faults in the gradients of {functions} functions and layers, {len(ours):,} checks of a fault by",
        f"gradcheck, {len(faults) - len(ours):,} by others, in {seconds / 60:.0f} minutes on one core, seed {SEED}.",
        "",
        *verdict_on(ours),
        "",
        *overview(right, faults),
        "",
        *curves(faults, folder),
        *step(ours, folder),
        *by_magnitude(faults, "float64"),
        "",
        *by_magnitude(faults, "float32"),
        *listed("Faults above the stated resolution that were not caught", [o for o in ours if o.missed]),
        *listed(
            "PASSes that state more than is true, though not above the right gradient's",
            [o for o in ours if o.excess > 1 >= o.ratio],
        ),
        *listed("Right gradients that do not pass", [o for o in of(right, *OURS) if o.verdict != "PASS"]),
        *["", "## By kind of fault", "", *by_kind(faults)],
        *["", "## By size", "", *by_size(right, ours, FULL), *by_size(right, ours, PROBE)],
        *["", "## By Jacobian", "", *by_jacobian(faults)],
        *["", "## Faults not above the stated resolution", "", *below(ours)],
        *["", "## How it is measured", *METHOD.splitlines()],
        *["", "## The functions and their input numbers", "", *subjects(outcomes)],
    ]


def main() -> None:
    """Run the study and write its page."""
    only, out = page.arguments(__doc__ or "", __file__, "functions whose name contains this")
    warnings.simplefilter("ignore")
    mpl.use("svg")
    torch.set_num_threads(1)
    began = time.process_time()
    outcomes: list[Outcome] = []
    for problem in problems(only):
        outcomes += study(problem)
        sys.stderr.write(f"{time.process_time() - began:6.0f} s  {problem.name}\n")
    lines = report(outcomes, time.process_time() - began, out.parent)
    page.write(lines, out)
    sys.stdout.write("\n".join(lines[4:22]) + "\n")


if __name__ == "__main__":
    main()

"""The tables of the detection study."""

from __future__ import annotations

import math
import statistics
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import study_page
from functions import STUDIED_FUNCTIONS, StudiedFunction
from other_checkers import OTHER_CHECKERS
from planted_faults import FAULT_KINDS
from trial import DEFAULT, DTYPES, FULL, MAGNITUDES, PROBE, Outcome, Problem

OURS = (DEFAULT, FULL, PROBE)
CHECKERS = (*OURS, *OTHER_CHECKERS)
SIZE_CLASSES = (1, 10, 100, 1_000, 10_000, 100_000, 1_000_000)  # the largest number of input entries in each class
MAX_PROBE_MISSES = 0.01  # share of the faults above the resolution that probe mode may miss
CHECKS_LISTED = 60  # rows of a list of single checks
LINE_WIDTH = 128  # characters in a line of a paragraph


def count_share(outcomes: Iterable[Outcome], is_hit: Callable[[Outcome], bool]) -> str:
    """Count the outcomes that are hits, as 'hits of all'."""
    hits = [is_hit(outcome) for outcome in outcomes]
    return f"{sum(hits)} of {len(hits)}" if hits else "-"


def percent_caught(outcomes: Sequence[Outcome]) -> str:
    """Return the share of the faults that are caught, as a percentage."""
    return f"{100 * statistics.mean(outcome.caught for outcome in outcomes):.0f} %" if outcomes else "-"


def select(outcomes: Iterable[Outcome], *checkers: str, **attributes: object) -> list[Outcome]:
    """Select the outcomes of some checkers, for problems with some attributes."""
    return [
        outcome
        for outcome in outcomes
        if outcome.checker in checkers and all(getattr(outcome.problem, k) == v for k, v in attributes.items())
    ]


def make_conclusion(faults: Sequence[Outcome]) -> list[str]:
    """Say whether the requirement is met, with figures."""
    above, missed = [outcome for outcome in faults if outcome.above], [outcome for outcome in faults if outcome.missed]
    unseen = [outcome for outcome in missed if not outcome.shown]
    probe = [outcome for outcome in above if outcome.checker == PROBE and outcome.shown]
    rate = statistics.mean(outcome.missed for outcome in probe) if probe else 0.0
    by_default, full = (sum(outcome.checker == checker and outcome.shown for outcome in missed) for checker in (DEFAULT, FULL))
    overstated = [outcome for outcome in faults if outcome.excess > 1]
    text = (
        f"**{'Not met' if missed else 'Met'}**: of {len(above)} faults above it {len(above) - len(missed)} are caught, "
        f"{len(missed)} are not. Of these, {len(unseen)} show in none of the gradients that gradcheck asks for. Of those that "
        f"show, the default on small inputs misses {by_default}, full mode {full} and probe mode {100 * rate:.2f} % "
        f"(its promise: at most {100 * MAX_PROBE_MISSES:.0f} %)."
    )
    passes = sum(outcome.verdict == "PASS" for outcome in faults)
    overstatement = (
        f"A PASS states how right it is. Of {passes} PASSes of a faulty gradient, {len(overstated)} state more than is true."
    )
    requirement = "Ask: every fault above the stated resolution is caught, in probe mode too."
    return [requirement, *textwrap.wrap(text, LINE_WIDTH), "", *textwrap.wrap(overstatement, LINE_WIDTH)]


def make_overview(right: Sequence[Outcome], faults: Sequence[Outcome]) -> list[str]:
    """Tabulate false alarms, faults caught and times by checker and dtype."""
    rows = []
    for checker, dtype in ((c, d) for c in CHECKERS for d in DTYPES):
        good, bad = select(right, checker, dtype=dtype), select(faults, checker, dtype=dtype)
        above = [outcome for outcome in bad if outcome.above]
        if good:
            median = statistics.median(outcome.seconds for outcome in (*good, *bad))
            judged = count_share(above, lambda outcome: not outcome.missed) if checker in OURS else "nothing stated"
            caught = count_share(bad, lambda outcome: outcome.caught)
            rows.append(
                (checker, dtype, count_share(good, lambda outcome: not outcome.right), caught, judged, f"{1e3 * median:.0f} ms")
            )
    columns = ("checker", "dtype", "right gradients not passed", "faults caught", "caught of those above", "median time")
    return study_page.make_table(columns, rows)


def tabulate_magnitudes(faults: Sequence[Outcome], dtype: str) -> list[str]:
    """Tabulate detection by the size of the fault."""
    rows = [
        (
            f"{m:.0e}",
            *(
                percent_caught([outcome for outcome in select(faults, c, dtype=dtype) if outcome.magnitude == m])
                for c in CHECKERS
            ),
        )
        for m in MAGNITUDES
    ]
    return study_page.make_table((f"fault, {dtype}", *CHECKERS), rows)


def tabulate_kinds(faults: Sequence[Outcome]) -> list[str]:
    """Tabulate detection by the kind of fault."""
    rows = []
    for name, kind in FAULT_KINDS.items():
        chosen = [outcome for outcome in faults if outcome.problem.kind == name]
        above = [outcome for outcome in chosen if outcome.above]
        functions = len({outcome.problem.subject.name for outcome in chosen})
        counts = (
            functions,
            count_share(above, lambda outcome: not outcome.missed),
            *(percent_caught(select(chosen, c)) for c in CHECKERS),
        )
        rows.append((name, kind.text, *counts))
    return study_page.make_table(("kind", "what is wrong", "functions", "caught of those above", *CHECKERS), rows)


def tabulate_sizes(right: Sequence[Outcome], faults: Sequence[Outcome], checker: str) -> list[str]:
    """Tabulate detection by size class, with the resolution stated there; only full mode's table has a heading."""
    rows = []
    for low, high in zip((0, *SIZE_CLASSES), SIZE_CLASSES, strict=False):
        inside = [outcome for outcome in select(faults, checker) if low < outcome.entries <= high]
        stated = [
            outcome.resolution
            for outcome in select(right, checker)
            if low < outcome.entries <= high and not math.isnan(outcome.resolution)
        ]
        if inside and stated:
            functions, above = (
                len({outcome.problem.subject.name for outcome in inside}),
                [outcome for outcome in inside if outcome.above],
            )
            resolution = f"{statistics.median(stated):.0e}, {max(stated):.0e}"
            rows.append(
                (
                    checker,
                    f"{low + 1:,} to {high:,}",
                    functions,
                    resolution,
                    count_share(above, lambda outcome: not outcome.missed),
                )
            )
    columns = ("checker", "input numbers", "functions", "resolution: median, coarsest", "caught of those above")
    return study_page.make_table(columns, rows)[0 if checker == FULL else 2 :]


def tabulate_jacobians(faults: Sequence[Outcome]) -> list[str]:
    """Tabulate detection for dense and for sparse Jacobians."""
    rows = []
    for name, sparse in (("dense", False), ("sparse", True)):
        chosen = [outcome for outcome in faults if outcome.problem.subject.sparse == sparse]
        above = [outcome for outcome in chosen if outcome.above]
        functions = len({outcome.problem.subject.name for outcome in chosen})
        rows.append(
            (
                name,
                functions,
                count_share(above, lambda outcome: not outcome.missed),
                *(percent_caught(select(chosen, c)) for c in CHECKERS),
            )
        )
    return study_page.make_table(("Jacobian", "functions", "caught of those above", *CHECKERS), rows)


def format_call(outcome: Outcome) -> str:
    """Format the Python call that repeats a check."""
    problem = outcome.problem
    mode = {DEFAULT: "auto", FULL: "full", PROBE: "probe"}[outcome.checker] if problem.has_both_modes else "auto"
    arguments = (
        f'"{problem.subject.name}", {problem.size}, "{problem.dtype}", "{problem.kind}", {outcome.magnitude:.0e}, "{mode}"'
    )
    return f"show({arguments})"


def list_checks(title: str, chosen: Sequence[Outcome]) -> list[str]:
    """List single checks, one row per problem and checker, with the call that repeats the worst magnitude."""
    groups: dict[tuple[Problem, str], list[Outcome]] = {}
    for outcome in sorted(chosen, key=lambda outcome: (outcome.shown, -outcome.ratio)):
        groups.setdefault((outcome.problem, outcome.checker), []).append(outcome)
    rows = [
        (
            f"`{format_call(group[0])}`",
            len(group),
            group[0].verdict,
            f"{group[0].ratio:.3g}",
            f"{group[0].excess:.3g}",
            f"{group[0].resolution:.0e}",
            describe_remark(group[0]),
        )
        for group in groups.values()
    ]
    columns = (
        "call (from `reports/detection/trial.py`)",
        "checks",
        "verdict",
        "error / detectable",
        "error / this PASS",
        "resolution",
        "seen",
    )
    rest = [f"... and {len(rows) - CHECKS_LISTED} more."] if len(rows) > CHECKS_LISTED else []
    return ["", f"## {title}", "", *(study_page.make_table(columns, rows[:CHECKS_LISTED]) if rows else ["None."]), *rest]


def describe_remark(outcome: Outcome) -> str:
    """Describe gradcheck's remark, or say that the gradients do not show the fault."""
    return outcome.remark if outcome.shown or not outcome.magnitude else "the gradients asked for do not show it"


def tabulate_small_faults(faults: Sequence[Outcome]) -> list[str]:
    """Tabulate the verdicts on faults that are not above the stated resolution."""
    rows = []
    for checker, dtype in ((c, d) for c in OURS for d in DTYPES):
        counts = Counter(outcome.verdict for outcome in select(faults, checker, dtype=dtype) if outcome.ratio <= 1)
        rows.append((checker, dtype, *(counts[v] for v in ("FAIL", "INCONCLUSIVE", "PASS"))))
    return study_page.make_table(("checker", "dtype", "FAIL", "INCONCLUSIVE", "PASS"), rows)


def describe_functions(outcomes: Sequence[Outcome]) -> list[str]:
    """Describe the functions and their sizes in a paragraph."""

    def describe(function: StudiedFunction) -> str:
        sizes = sorted({outcome.entries for outcome in outcomes if outcome.problem.subject is function})
        return f"{function.name}{' (sparse)' if function.sparse else ''}: {', '.join(f'{n:,}' for n in sizes)}"

    descriptions = "; ".join(
        describe(function) for function in STUDIED_FUNCTIONS if any(outcome.problem.subject is function for outcome in outcomes)
    )
    return textwrap.wrap(f"{descriptions}.", LINE_WIDTH)

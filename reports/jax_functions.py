"""Study: JAX's own functions and planted custom rules through gradcheck, beside `jax.test_util.check_grads`.

This is what makes the page:

    python reports/jax_functions.py            # writes reports/jax_functions.md; about a quarter of an hour on two cores
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import sys
import time
import warnings
from collections import Counter
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import page

PROCESSES = 2
DTYPES = ("float32", "float64")
TOGETHER = 20  # cases after which what was compiled is let go
TRIANGLE = (
    "true of the partial derivatives: it reads one triangle of its input, and JAX shares the derivative out over both. Called"
    " with (a + aᵀ)/2, as `symmetric ...` here, it passes"
)
EXPLAINED = {
    "numpy.floor": "a number beside an integer: between two steps the claimed zero is right, across many it is not",
    "scipy.special.spence": "true: `jax.grad(spence)(1.4)` is NaN, as for all between 1 and 2; forward mode is right",
    "scipy.special.betainc of a, b": "JAX has no derivative with respect to a and b, and says so",
    "scipy.special.bessel_jn": "the value itself is NaN in float32: its recurrence overflows",
    "scipy.stats.beta.": "JAX has no derivative with respect to a and b, and says so",
    "scipy.stats.gumbel": "true: the derivative with respect to `scale` raises in both modes; those of x and loc are right",
    "scipy.linalg.sqrtm": "JAX has no derivative of the Schur form, and says so",
    "scipy.linalg.cho": TRIANGLE,
    "scipy.linalg.solve pos": TRIANGLE,
}


@dataclass(frozen=True)
class Row:
    """What became of one case in one dtype.

    Attributes:
        ours, theirs: PASS, FAIL, INCONCLUSIVE or what was raised.
        seconds: that gradcheck took; `others`: that check_grads took.
    """

    name: str
    dtype: str
    ours: str
    theirs: str
    seconds: float
    others: float
    reason: str = ""
    detail: str = ""


def own_row(index: int, dtype: str) -> Row:
    """One of JAX's functions."""
    import jax_cases

    case = list(jax_cases.cases())[index]
    return _row(case.name, dtype, case.function, lambda: case.inputs(dtype), ("fwd", "rev"))


def planted_row(index: int, dtype: str) -> Row:
    """One planted rule."""
    import jax_rules

    one = list(jax_rules.planted())[index]
    modes = ("rev",) if one.rule == "custom_vjp" else ("fwd", "rev")
    return _row(f"{one.problem.name}|{one.rule}|{one.fault}", dtype, one.function(), lambda: [one.input(dtype)], modes)


def _row(name: str, dtype: str, function: Any, inputs: Any, modes: tuple[str, ...]) -> Row:
    import jax

    with jax.enable_x64(dtype == "float64"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        given = inputs()
        ours, seconds, reason, detail = _ours(name, function, given)
        theirs, others = _theirs(function, given, modes)
    return Row(name, dtype, ours, theirs, seconds, others, reason, detail)


def _ours(name: str, function: Any, given: list[Any]) -> tuple[str, float, str, str]:
    import gradcheck

    began = time.perf_counter()
    try:
        result = gradcheck.check(function, *given, framework="jax", name=name)
        said = (result.verdict.value, time.perf_counter() - began, result.reason.code, detail_of(result))
    except Exception as error:
        said = (type(error).__name__, time.perf_counter() - began, "", str(error)[:200])
    return said


def detail_of(result: Any) -> str:
    """The first comparison, or contract, that did not pass."""
    for c in result.comparisons:
        if c.verdict.value != "PASS":
            return f"{c.reason.code}: d/d{c.wrt} {c.method} {c.claimed:.4g}, {c.against} {c.estimate:.4g} ± {c.bound:.0e}"
    broken = [c.message for c in result.contracts if c.verdict.value == "FAIL"]
    return (broken[0] if broken else result.message or "").replace("\n", " ")[:200]


def _theirs(function: Any, given: list[Any], modes: tuple[str, ...]) -> tuple[str, float]:
    from jax.test_util import check_grads

    began = time.perf_counter()
    try:
        check_grads(function, tuple(given), order=1, modes=list(modes))  # type: ignore[no-untyped-call]
        said = "pass"
    except AssertionError:
        said = "fail"
    except Exception as error:
        said = f"raises {type(error).__name__}"
    return said, time.perf_counter() - began


def several(job: tuple[str, list[int], str]) -> list[Row]:
    """Some rows, after which what was compiled for them is let go."""
    import jax

    kind, indices, dtype = job
    found = [(own_row if kind == "own" else planted_row)(i, dtype) for i in indices]
    jax.clear_caches()
    return found


def rows_of(kind: str, indices: list[int]) -> list[Row]:
    """All cases in both dtypes, over a few processes."""
    parts = [indices[k : k + TOGETHER] for k in range(0, len(indices), TOGETHER)]
    jobs = [(kind, part, dtype) for dtype in DTYPES for part in parts]
    rows = []
    with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
        for found in pool.imap(several, jobs):
            rows += found
            bad = ", ".join(f"{row.name} {row.ours}" for row in found if row.ours != "PASS")
            sys.stderr.write(f"{len(rows)} of {len(DTYPES) * len(indices)}{f': {bad}' * (kind == 'own' and bool(bad))}\n")
    return rows


# --- the page


def own_page(rows: list[Row]) -> list[str]:
    """Counts, and whatever did not pass."""
    import jax_cases

    lines = ["## JAX's own functions", ""]
    cells = []
    for dtype in DTYPES:
        some = [row for row in rows if row.dtype == dtype]
        for title, part in filter(itemgetter(1), (("`jax.nn`", [r for r in some if r.name.startswith("nn.")]), ("all", some))):
            found = told(r.ours for r in part), told(r.theirs.split()[0] for r in part)
            cells.append((title, dtype, len(part), *found, times(part)))
    lines += page.table(("functions", "dtype", "cases", "gradcheck", "check_grads", "median, gradcheck and check_grads"), cells)
    bad = [row for row in rows if row.ours != "PASS"]
    left = [(f"`{row.name}`", row.dtype, f"{row.ours} {row.reason}", row.detail, known(row.name)) for row in bad]
    apart = ", ".join(f"`{name}` ({why})" for name, why in jax_cases.not_of_nn().items())
    lines += ["", f"Of `jax.nn` every function is among them but {apart}.", "", "### Not passed", ""]
    return [*lines, *page.table(("function", "dtype", "verdict", "seen", "explanation"), left), ""]


def planted_page(rows: list[Row]) -> list[str]:
    """Who caught what."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        _, rule, fault = row.name.split("|")
        groups.setdefault((fault, rule), []).append(row)
    cells = []
    for (fault, rule), part in groups.items():
        for dtype in DTYPES:
            some = [row for row in part if row.dtype == dtype]
            ours, theirs = sum(r.ours == "FAIL" for r in some), sum(r.theirs == "fail" for r in some)
            cells.append((fault, rule, dtype, len(some), ours, theirs))
    lines = ["## Planted faults", ""]
    lines += page.table(("fault", "rule", "dtype", "problems", "gradcheck: FAIL", "check_grads: fails"), cells)
    missed = [r for r in rows if ("|none" in r.name) != (r.ours == "PASS") or r.ours not in ("PASS", "FAIL")]
    if missed:
        left = [(row.name.replace("|", ", "), row.dtype, f"{row.ours} {row.reason}", row.detail) for row in missed]
        lines += ["", "Not as it should be:", "", *page.table(("case", "dtype", "verdict", "seen"), left)]
    return lines


def told(outcomes: Any) -> str:
    """Counts of some outcomes, in words."""
    return ", ".join(f"{count} {name}" for name, count in Counter(outcomes).most_common())


def times(rows: list[Row]) -> str:
    """Medians."""
    return f"{statistics.median(r.seconds for r in rows):.2f} s, {statistics.median(r.others for r in rows):.2f} s"


def known(name: str) -> str:
    """What was found out about a function that does not pass."""
    return next((text for start, text in EXPLAINED.items() if name.startswith(start)), "not looked into yet")


def main() -> None:
    """Run the study and write its page."""
    only, out = page.arguments(__doc__ or "", __file__, "functions whose name contains this")
    os.environ["OMP_NUM_THREADS"] = "1"
    import jax_cases
    import jax_rules

    own = [i for i, case in enumerate(jax_cases.cases()) if only in case.name]
    rules = [i for i, one in enumerate(jax_rules.planted()) if only in f"{one.problem.name}|{one.rule}|{one.fault}"]
    lines = [
        *page.heading("JAX: its own functions, and planted rules", __file__, ("jax", "numpy")),
        "Right functions and wrong custom rules through gradcheck and through `jax.test_util.check_grads`, both at their",
        "defaults, in one process after the other with what they compile themselves. x64 is enabled for float64 alone.",
        "",
        *(own_page(rows_of("own", own)) if own else []),
        *(planted_page(rows_of("planted", rules)) if rules else []),
    ]
    page.write(lines, out)
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()

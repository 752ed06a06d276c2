"""Study: JAX's own functions and wrong custom rules through gradcheck and through `jax.test_util.check_grads`.

python reports/jax_functions/study.py            # writes reports/jax_functions.md; a quarter of an hour on two cores
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
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1] / "common"))
import study_page

PROCESSES = 2
DTYPES = ("float32", "float64")
CASES_PER_JOB = 20  # cases after which the cache of compiled functions is cleared
TRIANGLE = (
    "true of the partial derivatives: it reads one triangle of its input, and JAX shares the derivative out over both. Called"
    " with (a + aᵀ)/2, as `symmetric ...` here, it passes"
)
EXPLAINED = {
    "numpy.floor": "a number next to an integer: between two steps the claimed zero is right, across many it is not",
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
    """The outcomes of one case in one dtype.

    Attributes:
        gradcheck_outcome: gradcheck's verdict, or the name of the exception.
        check_grads_outcome: 'pass', 'fail' or 'raises' with the name of the exception.
        seconds: the time that gradcheck took.
        check_grads_seconds: the time that check_grads took.
    """

    name: str
    dtype: str
    gradcheck_outcome: str
    check_grads_outcome: str
    seconds: float
    check_grads_seconds: float
    reason: str = ""
    detail: str = ""


def check_function(index: int, dtype: str) -> Row:
    """Check one of JAX's functions."""
    import functions

    case = list(functions.make_cases())[index]
    return _run_both(case.name, dtype, case.function, lambda: case.inputs(dtype), ("fwd", "rev"))


def check_planted_rule(index: int, dtype: str) -> Row:
    """Check one custom rule with a fault."""
    import planted_rules

    rule = list(planted_rules.make_rules())[index]
    modes = ("rev",) if rule.rule == "custom_vjp" else ("fwd", "rev")
    return _run_both(rule.name, dtype, rule.function(), lambda: [rule.input(dtype)], modes)


def _run_both(name: str, dtype: str, function: Any, inputs: Any, modes: tuple[str, ...]) -> Row:
    import jax

    with jax.enable_x64(dtype == "float64"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        arrays = inputs()
        gradcheck_outcome, seconds, reason, detail = _run_gradcheck(name, function, arrays)
        check_grads_outcome, check_grads_seconds = _run_check_grads(function, arrays, modes)
    return Row(name, dtype, gradcheck_outcome, check_grads_outcome, seconds, check_grads_seconds, reason, detail)


def _run_gradcheck(name: str, function: Any, arrays: list[Any]) -> tuple[str, float, str, str]:
    import gradcheck

    began = time.perf_counter()
    try:
        result = gradcheck.check(function, *arrays, framework="jax", name=name)
        outcome = (result.verdict.value, time.perf_counter() - began, result.reason.code, describe_failure(result))
    except Exception as error:
        outcome = (type(error).__name__, time.perf_counter() - began, "", str(error)[:200])
    return outcome


def describe_failure(result: Any) -> str:
    """Describe the first comparison that did not pass, or else the first broken contract or the message."""
    for comparison in result.comparisons:
        if comparison.verdict.value != "PASS":
            claim = f"d/d{comparison.wrt} {comparison.method} {comparison.claimed:.4g}"
            estimate = f"{comparison.against} {comparison.estimate:.4g} ± {comparison.bound:.0e}"
            return f"{comparison.reason.code}: {claim}, {estimate}"
    broken = [contract.message for contract in result.contracts if contract.verdict.value == "FAIL"]
    return (broken[0] if broken else result.message or "").replace("\n", " ")[:200]


def _run_check_grads(function: Any, arrays: list[Any], modes: tuple[str, ...]) -> tuple[str, float]:
    from jax.test_util import check_grads

    began = time.perf_counter()
    try:
        check_grads(function, tuple(arrays), order=1, modes=list(modes))  # type: ignore[no-untyped-call]
        outcome = "pass"
    except AssertionError:
        outcome = "fail"
    except Exception as error:
        outcome = f"raises {type(error).__name__}"
    return outcome, time.perf_counter() - began


def run_job(job: tuple[str, list[int], str]) -> list[Row]:
    """Check some cases, then clear the cache of compiled functions."""
    import jax

    kind, indices, dtype = job
    rows = [(check_function if kind == "functions" else check_planted_rule)(i, dtype) for i in indices]
    jax.clear_caches()
    return rows


def run_jobs(kind: str, indices: list[int]) -> list[Row]:
    """Check all cases in both dtypes, over a few processes."""
    parts = [indices[k : k + CASES_PER_JOB] for k in range(0, len(indices), CASES_PER_JOB)]
    jobs = [(kind, part, dtype) for dtype in DTYPES for part in parts]
    rows = []
    with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
        for job_rows in pool.imap(run_job, jobs):
            rows += job_rows
            bad = ", ".join(f"{row.name} {row.gradcheck_outcome}" for row in job_rows if row.gradcheck_outcome != "PASS")
            sys.stderr.write(f"{len(rows)} of {len(DTYPES) * len(indices)}{f': {bad}' * (kind == 'functions' and bool(bad))}\n")
    return rows


# --- the page


def make_functions_section(rows: list[Row]) -> list[str]:
    """Make the section on JAX's own functions: counts, and every case that did not pass."""
    import functions

    lines = ["## JAX's own functions", ""]
    cells = []
    for dtype in DTYPES:
        dtype_rows = [row for row in rows if row.dtype == dtype]
        nn_rows = [row for row in dtype_rows if row.name.startswith("nn.")]
        for title, part in filter(itemgetter(1), (("`jax.nn`", nn_rows), ("all", dtype_rows))):
            counts = count_outcomes(row.gradcheck_outcome for row in part)
            check_grads_counts = count_outcomes(row.check_grads_outcome.split()[0] for row in part)
            cells.append((title, dtype, len(part), counts, check_grads_counts, median_times(part)))
    columns = ("functions", "dtype", "cases", "gradcheck", "check_grads", "median, gradcheck and check_grads")
    lines += study_page.make_table(columns, cells)
    failures = [row for row in rows if row.gradcheck_outcome != "PASS"]
    failure_cells = [
        (f"`{row.name}`", row.dtype, f"{row.gradcheck_outcome} {row.reason}", row.detail, explain(row.name)) for row in failures
    ]
    omitted = ", ".join(f"`{name}` ({why})" for name, why in functions.list_omitted_nn_functions().items())
    lines += ["", f"Of `jax.nn` every function is among them but {omitted}.", "", "### Not passed", ""]
    return [*lines, *study_page.make_table(("function", "dtype", "verdict", "seen", "explanation"), failure_cells), ""]


def make_rules_section(rows: list[Row]) -> list[str]:
    """Make the section on planted faults: how many each checker catches."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        _, rule, fault = row.name.split("|")
        groups.setdefault((fault, rule), []).append(row)
    cells = []
    for (fault, rule), part in groups.items():
        for dtype in DTYPES:
            dtype_rows = [row for row in part if row.dtype == dtype]
            failed = sum(row.gradcheck_outcome == "FAIL" for row in dtype_rows)
            check_grads_failed = sum(row.check_grads_outcome == "fail" for row in dtype_rows)
            cells.append((fault, rule, dtype, len(dtype_rows), failed, check_grads_failed))
    lines = ["## Planted faults", ""]
    lines += study_page.make_table(("fault", "rule", "dtype", "problems", "gradcheck: FAIL", "check_grads: fails"), cells)
    missed = [
        row
        for row in rows
        if ("|none" in row.name) != (row.gradcheck_outcome == "PASS") or row.gradcheck_outcome not in ("PASS", "FAIL")
    ]
    if missed:
        missed_cells = [
            (row.name.replace("|", ", "), row.dtype, f"{row.gradcheck_outcome} {row.reason}", row.detail) for row in missed
        ]
        lines += ["", "Not as it should be:", "", *study_page.make_table(("case", "dtype", "verdict", "seen"), missed_cells)]
    return lines


def count_outcomes(outcomes: Any) -> str:
    """Count outcomes, the most frequent first."""
    return ", ".join(f"{count} {name}" for name, count in Counter(outcomes).most_common())


def median_times(rows: list[Row]) -> str:
    """Format the median times of gradcheck and of check_grads."""
    seconds = statistics.median(row.seconds for row in rows)
    return f"{seconds:.2f} s, {statistics.median(row.check_grads_seconds for row in rows):.2f} s"


def explain(name: str) -> str:
    """Return the explanation of a function that does not pass."""
    return next((text for start, text in EXPLAINED.items() if name.startswith(start)), "not looked into yet")


def main() -> None:
    """Run the study and write its page."""
    only, out = study_page.read_arguments(__doc__ or "", __file__, "functions whose name contains this")
    os.environ["OMP_NUM_THREADS"] = "1"
    import functions
    import planted_rules

    function_indices = [i for i, case in enumerate(functions.make_cases()) if only in case.name]
    rule_indices = [i for i, rule in enumerate(planted_rules.make_rules()) if only in rule.name]
    lines = [
        *study_page.make_heading("JAX: its own functions, and planted rules", __file__, ("jax", "numpy")),
        "Right functions and wrong custom rules through gradcheck and through `jax.test_util.check_grads`, both at their",
        "defaults, in one process after the other with what they compile themselves. x64 is enabled for float64 alone.",
        "",
        *(make_functions_section(run_jobs("functions", function_indices)) if function_indices else []),
        *(make_rules_section(run_jobs("rules", rule_indices)) if rule_indices else []),
    ]
    study_page.write_page(lines, out)
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()

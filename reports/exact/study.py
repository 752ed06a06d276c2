"""Study: how much can be decided exactly? PyTorch's operator database and the reference models, with `--exact`.

python reports/exact/study.py                # writes reports/exact.md; about ten minutes on one core
python reports/exact/study.py --only softmax # the operators whose name contains a text; writes the page elsewhere with --out
python reports/exact/study.py --only numpy # the reference models in NumPy alone
"""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

sys.path.append(str(Path(__file__).resolve().parents[1] / "common"))
sys.path.append(str(Path(__file__).resolve().parents[1] / "false_alarms"))
import planted
import study_page
from operator_samples import CHOSEN, LARGEST, Sample, load_samples

import gradcheck
from gradcheck import CheckResult, Reason, Verdict
from gradcheck.exact import identity
from gradcheck.options import Options
from gradcheck.report.load import read_run
from gradcheck.run.case import check_case
from gradcheck.targets.discover import collect_declared_cases, import_target

NOT_AVAILABLE = re.compile(r"exact not available( for [^:]*)?: ")
OUTCOMES = ("proved", "remark", "refuted", "not available", "empty", "not checked")
WORST_FIRST = ("refuted", "remark", "not available", "not checked", "proved", "empty")
MAX_NAMES = 12

# Why a right gradient is refuted, or a claim proved that `numeric` does not pass, by the beginning of the name.
EXPLAINED = {
    "as_strided_scatter": "PyTorch's backward gives the gradient to the overwritten entries, none to those that are kept",
    "nn.functional.max_unpool": "a sample with repeated indices: the last write wins in the value, the derivative goes to all",
    "round": "values in steps: the claimed zero is right between two of them",
    "gradcheck.reference.textbook:broadcast_mse": "its mistake is meant: the gradient is that of another loss",
    "normal": "the sample is reparametrised in value, but PyTorch defines the derivative as zero",
}


@dataclass(frozen=True)
class Row:
    """What became of one sample or model.

    Attributes:
        outcome: one of OUTCOMES.
        detail: why it is not available, or the values that differ.
        numeric: the verdict without the exact method.
        seconds: of the check with the exact method, and without.
    """

    name: str
    outcome: str
    detail: str
    numeric: str
    seconds: tuple[float, float]


def check_sample(sample: Sample) -> Row:
    """Check one sample with the exact method and without."""
    began = time.perf_counter()
    result = run_check(sample, exact=True)
    between = time.perf_counter()
    plain = run_check(sample, exact=False)
    seconds = (between - began, time.perf_counter() - between)
    return Row(sample.name, *describe(result), "refused" if plain is None else plain.verdict.value, seconds)


def run_check(sample: Sample, *, exact: bool) -> CheckResult | None:
    """Check one sample; None if its inputs are refused."""
    try:
        return gradcheck.check(
            sample.function,
            *sample.args,
            kwargs=sample.kwargs,
            framework=sample.framework,
            name=sample.name,
            exact=exact,
            contracts=False,
            methods=("reverse", "numeric"),
        )
    except gradcheck.UsageError:
        return None


def describe(result: CheckResult | None, method: str = "reverse") -> tuple[str, str]:
    """Return the outcome of the exact method for the claim of a method, and its detail."""
    if result is None or result.verdict is Verdict.ERROR:
        return "not checked", "refused or raised"
    if result.reason is Reason.EMPTY:
        return "empty", ""
    rows = [row for row in result.comparisons if row.against == "exact" and row.method == method]
    for outcome, reason in (("refuted", Reason.IDENTITY_REFUTED), ("remark", Reason.SMALL_DIFFERENCE)):
        found = next((row for row in rows if row.reason is reason), None)
        if found is not None:
            return outcome, f"{found.wrt}: {found.claimed:.6g} for {found.estimate:.6g}, relative error {found.rel_err:.1e}"
    if rows:
        return "proved", ""
    why = next((note[found.end() :] for note in result.notes if (found := NOT_AVAILABLE.match(note))), "")
    return ("not available", why) if why else ("not checked", result.reason.code)


def check_models() -> list[Row]:
    """Check the reference models that are written in PyTorch."""
    with_exact, without = (run_models(option) for option in ("--exact", "--no-exact"))
    return [
        Row(name, *describe(result), without[name].verdict.value, (result.seconds, without[name].seconds))
        for name, result in with_exact.items()
    ]


def run_models(option: str) -> dict[str, CheckResult]:
    """Run all reference models through the command line."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.json"
        command = [sys.executable, "-m", "gradcheck", "run", "gradcheck.reference", option, "--no-contracts", "-q"]
        subprocess.run([*command, "--json", str(path)], check=False, capture_output=True)
        run = read_run(str(path))
    return {result.case: result for result in run.results if result.framework == "torch"}


def check_numpy_models() -> tuple[list[Row], planted.Score]:
    """Check the reference models that are written in NumPy, with their derivatives by hand, and plant faults in the proved."""
    rows, proved = list[Row](), list[Callable[[], object]]()
    for case in collect_declared_cases(import_target("gradcheck.reference")):
        options = Options(contracts=False, exact=True)
        result = check_case(case, options)
        if result.framework == "numpy" and case.claims:
            plain = check_case(case, replace(options, exact=False))
            rows.append(Row(case.name, *describe(result, "analytic"), plain.verdict.value, (result.seconds, plain.seconds)))
            if rows[-1].outcome == "proved":
                proved.append(partial(check_case, case, options))
    return rows, plant_in_proved(proved)


def plant_in_samples(samples: list[Sample], rows: list[Row]) -> planted.Score:
    """Plant faults in the graphs of the first proved sample of each operator."""
    first = {row.name: sample for sample, row in reversed(list(zip(samples, rows, strict=True))) if row.outcome == "proved"}
    return plant_in_proved([partial(run_check, sample, exact=True) for sample in first.values()])


def plant_in_proved(checks: Sequence[Callable[[], object]]) -> planted.Score:
    """Plant faults in the first graph that each check decides."""
    effective = refuted = 0
    for number, check in enumerate(checks):
        kept = list[identity.Identity]()
        decide = identity.decide
        identity.decide = lambda graph, seed, seconds, kept=kept, decide=decide: (
            kept.append(graph),
            decide(graph, seed, seconds),
        )[1]
        try:
            check()
        finally:
            identity.decide = decide
        for graph in kept[:1]:
            score = planted.plant_faults(graph, number)
            effective, refuted = effective + score.effective, refuted + score.refuted
    return planted.Score(effective, refuted)


def shorten(reason: str) -> str:
    """Shorten a reason so that equal ones count together."""
    return re.sub(r"(raised \w+).*", r"\1", re.sub(r"(the rule for \w+) .*", r"\1", reason))


def choose_worst(rows: list[Row]) -> list[Row]:
    """Return one row per operator: the worst sample."""
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row.name].append(row)
    return [min(group, key=lambda row: WORST_FIRST.index(row.outcome)) for group in groups.values()]


def count_outcomes(title: str, rows: list[Row]) -> list[str]:
    """Return the cells of a line that counts outcomes."""
    counts = Counter(row.outcome for row in rows)
    decided = counts["proved"] + counts["remark"] + counts["refuted"]
    share = 100 * decided / max(len(rows) - counts["empty"], 1)
    times = [f"{1e3 * statistics.median([row.seconds[k] for row in rows] or [0.0]):.0f} ms" for k in (0, 1)]
    return [title, *(str(counts[outcome]) for outcome in OUTCOMES), f"{share:.0f} %", *times]


def explain(name: str) -> str:
    """Return the explanation of a disagreement."""
    return next((text for beginning, text in EXPLAINED.items() if name.startswith(beginning)), "")


def list_reasons(rows: list[Row]) -> list[list[str]]:
    """Return the cells of the table of reasons, the most frequent first."""
    reasons: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        if row.outcome in ("not available", "not checked"):
            reasons[shorten(row.detail)].append(f"`{row.name}`")
    ordered = sorted(reasons.items(), key=lambda pair: -len(pair[1]))
    return [
        [reason, str(len(names)), ", ".join(names[:MAX_NAMES]) + " ..." * (len(names) > MAX_NAMES)] for reason, names in ordered
    ]


def make_page(
    operators: list[Row], models: list[Row], numpy_models: list[Row], score: planted.Score, numpy_score: planted.Score
) -> list[str]:
    """Return the lines of the page."""
    by_operator = choose_worst(operators)
    counts = [count_outcomes("operators", by_operator), count_outcomes("their samples", operators)]
    counts += [count_outcomes("reference models", models)] if models else []
    counts += [count_outcomes("reference models in NumPy", numpy_models)] if numpy_models else []
    differing = [
        [f"`{row.name}`", row.outcome, row.numeric, row.detail, explain(row.name)]
        for row in (*operators, *models, *numpy_models)
        if row.outcome in ("refuted", "remark") or (row.outcome == "proved" and row.numeric != "PASS")
    ]
    undecided = [[f"`{row.name}`", row.outcome, row.detail] for row in (*models, *numpy_models) if row.outcome != "proved"]
    return [
        *study_page.make_heading("Exact: what can be decided in prime fields", __file__, ["torch", "numpy"]),
        f"{CHOSEN} samples of up to {LARGEST} numbers of every operator of PyTorch's database with a derivative on the CPU, in",
        "float64, and the reference models that are written in PyTorch. The claim is that of reverse mode, and for the models",
        "in NumPy the derivative by hand. An operator counts by its worst sample, and is decided if that is proved, refuted or",
        "a remark. Times are medians of whole checks, with `--exact` and without, contracts and forward mode left out, and",
        "PyTorch's tracer already loaded.",
        "",
        *study_page.make_table(["", *OUTCOMES, "decided", "exact", "without"], counts),
        "",
        f"Planted faults: up to {planted.FAULTS} operators of each proved backward were changed, one at a time, by the factors",
        f"2, 1 + 1e-12 and -1. Of {score.effective} faults that change the gradient, {score.refuted} were not proved; of",
        f"{numpy_score.effective} faults in the derivatives by hand of the NumPy models, {numpy_score.refuted}.",
        "",
        "## Refuted, or proved where the check without `--exact` does not pass",
        "",
        *study_page.make_table(["target", "exact", "without", "values", "explanation"], differing),
        "",
        "## Not decided, by reason",
        "",
        *study_page.make_table(["reason", "operators", "which"], list_reasons(by_operator)),
        "",
        "## Reference models that are not proved",
        "",
        *study_page.make_table(["model", "exact", "why"], undecided),
    ]


def main() -> None:
    """Run the study."""
    only, out = study_page.read_arguments(__doc__, __file__, "only operators whose name contains this text")
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    samples = [sample for sample in load_samples(torch.float64) if sample.chosen and only in sample.name]
    for sample in samples[:1]:
        check_sample(sample)  # loads what PyTorch traces with
    rows = [check_sample(sample) for sample in samples]
    score = plant_in_samples(samples, rows)
    numpy_models, numpy_score = check_numpy_models() if only in ("", "numpy") else ([], planted.Score(0, 0))
    page = make_page(rows, [] if only else check_models(), numpy_models, score, numpy_score)
    out.write_text("\n".join(page) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

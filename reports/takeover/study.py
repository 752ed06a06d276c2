"""Study: what does a takeover find in the gradient tests of other projects, and what does it cost?

    git clone https://github.com/HIPS/autograd                # the page names the commits
    git clone https://github.com/kornia/kornia
    git clone https://github.com/jax-ml/jax                   # at the tag of the installed version
    git clone https://github.com/e3nn/e3nn
    pip install --no-deps kornia-rs absl-py entmax e3nn opt-einsum-fx scikit-learn narwhals threadpoolctl
    python reports/takeover/study.py FOLDER                   # the folder of the checkouts; about fifteen minutes

The tests of each project run twice under pytest, as they are: alone, and with `--gradcheck-takeover`. Their generators are
seeded before each test, so that both runs see the same inputs. The page is written to `reports/takeover.md`.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1] / "common"))
import explanations
import study_page

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
BUDGET = "5s"
LOOSE = 100.0  # factor from which on a tolerance is counted as looser than needed


@dataclass(frozen=True)
class Suite:
    """The tests of a project that check gradients.

    Attributes:
        name: of the project, and of its checkout.
        files: the files or folders of the tests, relative to the checkout or to the folder of the installed packages.
        select: what the names of the tests must match, as for pytest's `-k`.
        package: the installed package that contains the tests; '' if they are in the checkout.
        paths: folders of the checkout to import from.
        options: further options of pytest.
    """

    name: str
    files: tuple[str, ...]
    select: str = ""
    package: str = ""
    paths: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


KORNIA = tuple(f"tests/{folder}" for folder in ("color", "enhance", "filters", "geometry", "losses", "metrics"))
JAX = tuple(f"tests/{name}_test.py" for name in ("custom_root", "fft"))
SKLEARN = tuple(
    f"sklearn/{file}.py" for file in ("linear_model/tests/test_huber", "manifold/tests/test_t_sne", "neighbors/tests/test_nca")
)
SCIPY = ("scipy/optimize/tests/test_optimize.py", "scipy/optimize/tests/test__numdiff.py")
IMPORTLIB = ("--import-mode=importlib",)  # for tests inside of packages
SUITES = (
    Suite("autograd", ("tests",), paths=(".",)),
    Suite("kornia", KORNIA, "gradcheck", paths=(".",)),
    Suite("jax", JAX, "grad or Grad or root or testFftn", paths=("tests",)),
    Suite("entmax", ("entmax",), package="entmax", options=IMPORTLIB),
    Suite("e3nn", ("tests/math/soft_unit_step_test.py", "tests/o3/cartesian_spherical_harmonics_test.py"), options=IMPORTLIB),
    Suite("scikit-learn", SKLEARN, "grad", package="sklearn", options=IMPORTLIB),
    Suite("scipy", SCIPY, "check", package="scipy", options=IMPORTLIB),
)


def run_tests(suite: Suite, folder: Path, report: Path | None) -> tuple[float, str]:
    """Run the tests of a suite in a process of its own; return its CPU time in seconds and the last line that pytest prints."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "seed_tests", "-o", "addopts="]
    command += ["-o", "required_plugins=", "-o", "filterwarnings=", "-W", "ignore", *suite.options]
    command += ["-k", suite.select] * bool(suite.select)
    if report is not None:
        command += [
            "--gradcheck-takeover=report",
            f"--gradcheck-takeover-budget={BUDGET}",
            f"--gradcheck-takeover-json={report}",
        ]
    paths = [str(HERE), *(str(folder / path) for path in suite.paths), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [*command, *suite.files], cwd=folder, env=environment, capture_output=True, text=True, check=False, errors="replace"
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    counts = [line for line in done.stdout.splitlines() if " passed" in line or " failed" in line or "error" in line]
    return seconds, (counts or [done.stdout[-300:] + done.stderr[-300:]])[-1].strip("= ")


def study_suite(suite: Suite, checkouts: Path) -> dict[str, Any]:
    """Run a suite alone and with the takeover; return the report of the takeover with the times of both."""
    folder = checkouts / suite.name
    if suite.package:
        spec = importlib.util.find_spec(suite.package)
        assert spec is not None
        assert spec.origin is not None
        folder = Path(spec.origin).parents[1]
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "takeover.json"
        alone, outcome = run_tests(suite, folder, None)
        together, outcome_together = run_tests(suite, folder, report)
        run: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
    sys.stderr.write(f"{suite.name}: {outcome} ({alone:.0f} s); {outcome_together} ({together:.0f} s)\n")
    return run | {
        "suite": suite,
        "source": describe_source(suite, folder),
        "alone": alone,
        "together": together,
        "outcomes": (count_outcomes(outcome), count_outcomes(outcome_together)),
    }


def count_outcomes(line: str) -> str:
    """Return the counts of pytest's last line without the time."""
    return line.partition(" in ")[0]


def describe_source(suite: Suite, folder: Path) -> str:
    """Say which version of a project was tested."""
    if suite.package:
        return f"{suite.name} {find_version(suite.name)}, as installed"
    commit = subprocess.run(
        ["git", "-C", folder, "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    return f"commit `{commit[:10]}`" if commit else f"{suite.name} {find_version(suite.name)}, the tests of this tag"


def find_version(name: str) -> str:
    """Return the version of an installed distribution; '' if there is none."""
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def make_summary(runs: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the table with a row for each suite, and the sums."""
    rows = []
    for run in runs:
        totals = run["totals"]
        agree = totals["agree-pass"] + totals["agree-fail"]
        rows.append(
            [
                run["suite"].name,
                totals["calls"],
                agree,
                totals["finding"],
                totals["theirs-failed"],
                totals["inconclusive"],
                totals["not-compared"] + totals["ours-alone"],
                totals["passes_zero_gradient"],
                sum(float(call["looseness"] or "nan") >= LOOSE for call in run["calls"]),
                f"{run['alone']:.0f} s",
                f"{run['together']:.0f} s",
                f"{run['together'] / run['alone']:.1f}",
            ]
        )
    columns = ["suite", "calls", "agree", "findings", "theirs fails, ours passes", "inconclusive", "not compared"]
    columns += ["would pass zero", "tolerance 100x too loose", "alone", "with takeover", "ratio"]
    yield from study_page.make_table(columns, rows)
    yield ""


def make_details(run: dict[str, Any]) -> Iterator[str]:
    """Yield the section of a suite: the calls on which the two checkers differ, with an explanation of each."""
    suite, (alone, together) = run["suite"], run["outcomes"]
    yield f"## {suite.name}"
    yield ""
    yield f"{run['source']}; {', '.join(f'`{file}`' for file in suite.files)}" + f", `-k '{suite.select}'`" * bool(suite.select)
    yield ""
    same = "the same with the takeover" if alone == together else f"with the takeover {together}"
    yield f"Tests: {alone}; {same}. Time in its checkers {run['totals']['theirs_seconds']:.1f} s, in gradcheck"
    yield f"{run['totals']['ours_seconds']:.1f} s, in the further runs of its checkers {run['totals']['extra_seconds']:.1f} s."
    yield ""
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
    for call in run["calls"]:
        if call["category"] not in ("agree-pass", "agree-fail"):
            name = call["test"].partition("[")[0].rpartition("/")[2] or f"{Path(call['file']).name}:{call['line']}"
            groups[call["category"], name, call["reason"] or call["not_compared"], call["cause"]].append(call)
    rows = [
        [
            f"`{name}`",
            category,
            len(calls),
            reason + (f", {cause}" if cause else ""),
            explanations.explain(suite.name, name) or calls[0]["summary"][:160],
        ]
        for (category, name, reason, cause), calls in sorted(groups.items())
    ]
    if rows:
        yield from study_page.make_table(["test", "category", "calls", "reason", "what it is"], rows)
    else:
        yield "The two checkers agree on every call."
    yield ""


def make_zero_table(runs: list[dict[str, Any]]) -> Iterator[str]:
    """Yield which of the suites' checks would also pass a gradient of zero, by checker."""
    counts: Counter[str] = Counter()
    tried: Counter[str] = Counter()
    for run in runs:
        for call in run["calls"]:
            tried[call["checker"]] += call["passes_zero_gradient"] is not None
            counts[call["checker"]] += bool(call["passes_zero_gradient"])
    rows = [
        (f"`{name}`", number, counts[name], f"{100 * counts[name] / number:.0f} %") for name, number in tried.items() if number
    ]
    yield "## What the suites' own checkers would have passed"
    yield ""
    yield "Each call is repeated with a derivative of zero, where the right one is not zero."
    yield ""
    yield from study_page.make_table(["checker", "calls", "pass with a gradient of zero", "share"], rows)
    yield ""


def main() -> None:
    """Run the study and write its page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("checkouts", type=Path, help="the folder that contains the checkouts")
    parser.add_argument("--only", default="", help="names of suites, separated by commas")
    parser.add_argument("--out", type=Path, default=study_page.page_path(__file__))
    arguments = parser.parse_args()
    chosen = [suite for suite in SUITES if not arguments.only or suite.name in arguments.only.split(",")]
    runs = [study_suite(suite, arguments.checkouts.resolve()) for suite in chosen]
    alone, together = (sum(run[key] for run in runs) for key in ("alone", "together"))
    lines = [
        *study_page.make_heading("Takeover of other projects' suites", __file__, ("numpy", "torch", "jax", "scipy"), "FOLDER"),
        "The gradient tests of each project run as they are, once alone and once with `--gradcheck-takeover`, which calls",
        f"gradcheck after each call of the suite's own checker, with a budget of {BUDGET} a call. The times are CPU times of",
        "the whole process on one thread, so the fixtures and the imports of the suite count too.",
        "",
        *make_summary(runs),
        f'All suites together take {together / alone:.1f} times as long with the takeover. "Would pass zero" counts calls that',
        "the suite's checker passes again when the derivative is replaced by zero.",
        "",
        *make_zero_table(runs),
    ]
    for run in runs:
        lines += make_details(run)
    study_page.write_page(lines, arguments.out)
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()

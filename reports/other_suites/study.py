"""Study: what do the gradient tests of other projects cost with gradcheck in the place of their own checker?

    git clone https://github.com/HIPS/autograd               # the page names the commits
    git clone https://github.com/kornia/kornia
    pip install kornia-rs                                    # which kornia imports; kornia itself is taken from the checkout
    python reports/other_suites/study.py autograd kornia     # writes reports/other_suites.md; four minutes on one core

The tests run under pytest as they are. Each call of the project's checker is intercepted: first the checker runs, then
`gradcheck.check` on the same function, inputs and derivative, in the same process, both timed by their CPU time.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import gradcheck

sys.path.append(str(Path(__file__).resolve().parents[1] / "common"))
import explanations
import study_page

SLOWEST = 10  # calls that are listed
# The test files of each project, relative to its checkout, and how its checker is called.
FILES = {
    "autograd": ("tests",),
    "kornia": tuple(f"tests/{folder}" for folder in ("color", "enhance", "filters", "geometry", "losses", "metrics")),
}
TESTS = {"autograd": "", "kornia": "gradcheck"}  # pytest's -k: kornia has thousands of other tests
CHECKERS = {
    "autograd": "`check_grads` as the tests call it: forward and reverse mode, orders 1 and 2, each along one random direction",
    "kornia": "`torch.autograd.gradcheck` as the tests call it: in fast mode, unless a test asks for the slow one",
}
URLS = {"autograd": "https://github.com/HIPS/autograd", "kornia": "https://github.com/kornia/kornia"}


class Interceptor:
    """A plugin of pytest that calls `gradcheck.check` after each call of a project's checker, and records both."""

    def __init__(self, project: str) -> None:
        self.calls: list[dict[str, Any]] = []
        self.test, self.busy = "", False
        intercept = {"autograd": self.intercept_autograd, "kornia": self.intercept_torch}[project]
        intercept()

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Remember the test that makes the next calls, and seed the generators that it draws its inputs from."""
        self.test = item.nodeid
        np.random.seed(0)
        torch.manual_seed(0)

    def intercept_autograd(self) -> None:
        """Replace `check_grads`, which its higher orders call again."""
        from autograd import test_util
        from autograd.wrap_util import unary_to_nary

        original = test_util.check_grads

        def check_grads(function: Callable[..., Any], x: Any, *args: Any, **kwargs: Any) -> Any:
            def check() -> gradcheck.CheckResult:
                inputs = make_arrays(x)
                claims = {"vjp": make_vjp(function), "methods": ("analytic", "numeric"), "framework": "numpy"}
                return gradcheck.check(lambda x: make_arrays(function(x)), inputs, name=self.test, **claims)

            return self.compare(lambda: original(function, 0, *args, **kwargs)(x), check)

        test_util.check_grads = unary_to_nary(check_grads)

    def intercept_torch(self) -> None:
        """Replace `torch.autograd.gradcheck`."""
        original = torch.autograd.gradcheck

        def check_gradients(function: Callable[..., Any], inputs: Any, *args: Any, **kwargs: Any) -> Any:
            values = tuple(inputs) if isinstance(inputs, tuple | list) else (inputs,)
            return self.compare(
                lambda: original(function, inputs, *args, **kwargs),
                lambda: gradcheck.check(function, *values, name=self.test, framework="torch"),
            )

        torch.autograd.gradcheck = check_gradients

    def compare(self, theirs: Callable[[], Any], ours: Callable[[], gradcheck.CheckResult]) -> Any:
        """Call both checkers and record them; return or raise what the project's own checker did."""
        if self.busy:
            return theirs()
        self.busy, error, returned = True, None, None
        began = time.process_time()
        try:
            returned = theirs()
        except Exception as raised:
            error = raised
        ended = time.process_time()
        call = {"test": self.test, "theirs": ended - began, "passes": error is None and returned is not False}
        began = time.process_time()
        try:
            with warnings.catch_warnings():
                result = ours()
            call |= {"verdict": result.verdict.value, "reason": result.reason.code, "evaluations": result.evaluations}
            call["detail"] = result.message or str(result)
        except gradcheck.UsageError as refusal:
            call |= {"verdict": "REFUSED", "reason": "", "evaluations": 0, "detail": str(refusal)}
        self.calls.append(call | {"ours": time.process_time() - began})
        self.busy = False
        if error is not None:
            raise error
        return returned


def make_arrays(x: Any) -> Any:
    """Turn the Python numbers of a structure into NumPy's, which gradcheck differentiates."""
    if isinstance(x, float | complex):
        return np.asarray(x)[()]
    if type(x) in (tuple, list):
        return type(x)(make_arrays(part) for part in x)
    return {key: make_arrays(part) for key, part in x.items()} if type(x) is dict else x


def make_vjp(function: Callable[[Any], Any]) -> Callable[[Any, Any], Any]:
    """Return autograd's vjp, in gradcheck's convention for complex numbers."""
    from autograd.core import make_vjp as make_vjp_of_autograd
    from autograd.core import vspace

    def vjp(cotangent: Any, x: Any) -> Any:
        pull_back, _ = make_vjp_of_autograd(function, x)
        return vspace(x).covector(pull_back(vspace(cotangent).covector(cotangent)))

    return vjp


def record_calls(project: str, path: Path, only: str, out: Path) -> None:
    """Run the gradient tests of a project in this process and write its calls as JSON."""
    sys.path.insert(0, str(path))
    os.chdir(path)
    gradcheck.check(lambda x: x * x, np.ones(2), vjp=lambda v, x: 2 * x * v)  # loads what every check needs
    gradcheck.check(torch.square, torch.ones(2, dtype=torch.float64))
    interceptor = Interceptor(project)
    options = ["-q", "-p", "no:cacheprovider", "-o", "addopts=", "-o", "required_plugins=", "-W", "ignore"]
    pytest.main([*options, "-k", only or TESTS[project], *FILES[project]], plugins=[interceptor])
    out.write_text(json.dumps(interceptor.calls), encoding="utf-8")


def run_project(project: str, path: Path, only: str) -> list[dict[str, Any]]:
    """Run the tests of a project in a process of its own and return its calls."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "calls.json"
        command = [sys.executable, __file__, str(path), "--record", project, "--only", only, "--out", str(out)]
        subprocess.run(command, check=True, stdout=sys.stderr)
        calls: list[dict[str, Any]] = json.loads(out.read_text(encoding="utf-8"))
    return calls


def describe_project(project: str, path: Path, calls: list[dict[str, Any]]) -> list[str]:
    """Write the section of a project."""
    commit = subprocess.run(["git", "-C", path, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    theirs, ours = (sum(call[side] for call in calls) for side in ("theirs", "ours"))
    median = statistics.median(call["ours"] / call["theirs"] for call in calls)
    outcomes = Counter((call["verdict"], call["reason"], "pass" if call["passes"] else "fail") for call in calls)
    tests = defaultdict(list)
    for call in calls:
        tests[call["test"]].append(call)
    slowest = sorted(calls, key=lambda call: -call["ours"])[:SLOWEST]
    return [
        f"## {project}",
        "",
        f"`git clone {URLS[project]}`, commit `{commit}`.",
        f"Tests in {', '.join(f'`{file}`' for file in FILES[project])}. The checker is {CHECKERS[project]}.",
        "",
        *study_page.make_table(
            ("calls", "tests", "its checker", "gradcheck", "ratio of the totals", "median ratio"),
            [(len(calls), len(tests), f"{theirs:.1f} s", f"{ours:.1f} s", f"{ours / theirs:.1f}", f"{median:.1f}")],
        ),
        "",
        *study_page.make_table(
            ("gradcheck", "reason", "its checker", "calls"), [(*outcome, count) for outcome, count in outcomes.most_common()]
        ),
        "",
        "The calls that took longest:",
        "",
        *study_page.make_table(
            ("test", "outcome", "evaluations", "its checker", "gradcheck", "ratio"),
            [
                (
                    f"`{shorten(call['test'])}`",
                    f"{call['verdict']} {call['reason']}",
                    call["evaluations"],
                    f"{1e3 * call['theirs']:.1f} ms",
                    f"{1e3 * call['ours']:.0f} ms",
                    f"{call['ours'] / call['theirs']:.0f}",
                )
                for call in slowest
            ],
        ),
        "",
        *describe_differences(calls),
    ]


def describe_differences(calls: list[dict[str, Any]]) -> list[str]:
    """List the calls that pass the project's checker and do not pass gradcheck, with the explanation of each."""
    counts = Counter(
        (f"`{shorten(call['test'])}`", f"{call['verdict']} {call['reason']}", explanations.explain(call))
        for call in calls
        if call["passes"] and call["verdict"] != "PASS"
    )
    if not counts:
        return ["No call that passes the project's checker has another verdict than PASS.", ""]
    rows = [(test, outcome, count, why) for (test, outcome, why), count in sorted(counts.items())]
    table = study_page.make_table(("test", "outcome", "calls", "why"), rows)
    return ["The calls that pass the project's checker and do not pass gradcheck:", "", *table, ""]


def shorten(test: str) -> str:
    """Leave out the folder of a test and the parameters that every test of kornia has."""
    return test.rpartition("/")[2].replace("[cpu-float32]", "").replace("[cpu]", "").replace("cpu-float32-", "")


def main() -> None:
    """Run the study and write its page."""
    if os.environ.get("OMP_NUM_THREADS") != "1":
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "OMP_NUM_THREADS": "1"})
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("checkouts", nargs="+", type=Path, help="folders called autograd and kornia")
    parser.add_argument("--only", default="", help="what the names of the tests must match, as for pytest's -k")
    parser.add_argument("--out", type=Path, default=study_page.page_path(__file__))
    parser.add_argument("--record", choices=FILES, help=argparse.SUPPRESS)  # the process of one project
    arguments = parser.parse_args()
    if arguments.record:
        record_calls(arguments.record, arguments.checkouts[0].resolve(), arguments.only, arguments.out)
        return
    lines = [
        *study_page.make_heading("Gradient tests of other projects", __file__, ("numpy", "torch"), "autograd kornia"),
        "Each call of a checker in a project's tests is followed by `gradcheck.check` on the same function, inputs and",
        "derivative, in the same process. gradcheck runs with its defaults; for autograd, the vjp is given and PyTorch does",
        "not trace the code. The times are CPU times on one thread. The generators are seeded before each test.",
        "",
    ]
    for path in arguments.checkouts:
        lines += describe_project(path.name, path, run_project(path.name, path, arguments.only))
    study_page.write_page(lines, arguments.out)
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()

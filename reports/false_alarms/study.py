"""Study: does a right gradient ever fail? PyTorch's own operator database through gradcheck and through PyTorch's gradcheck.

python reports/false_alarms/study.py            # writes reports/false_alarms.md; about half an hour on two cores
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import statistics
import sys
import time
import warnings
from collections import Counter
from pathlib import Path

import torch

sys.path.append(str(Path(__file__).resolve().parents[1] / "common"))
import study_page
from operator_samples import CHOSEN, LARGEST, Sample, load_samples

import gradcheck
from gradcheck import CheckResult, Reason, Verdict

PROCESSES = 2

# Why operators do not pass, by the beginning of their names.
EXPLAINED = {
    "bfloat16": "the operator rounds to bfloat16: its values come in coarse steps, its derivative is that of no rounding",
    "half": "the operator rounds to float16: its values come in coarse steps, its derivative is that of no rounding",
    "chalf": "complex32 outputs are not supported",
    "round": "the values come in steps: the claimed zero is right between two of them, the slope across many is one",
    "normal": "the sample is reparametrised in value, but PyTorch defines the derivative as zero",
    "nn.functional.max_unpool": "a sample with repeated indices: the last write wins in the value, the derivative goes to all",
    "nn.functional.hardsigmoid": "the float64 derivative is the float32 number nearest to 1/6: wrong by 3e-8",
    "nn.functional.linear_cross_entropy": "forward mode returns zero tangents where reverse mode and differences agree",
    "as_strided_scatter": "backward gives the gradient to the overwritten entries, none to those that are kept",
    "as_strided": "defined by the storage of the sample, which a copy does not share",
    "sparse.": "sparse inputs are refused with a message",
    "special.ndtr": "the value underflows to exactly 0, the derivative (1e-16) does not",
    "nn.functional.cosine_embedding_loss": "the labels are differentiated too, and the loss jumps with them",
    "nn.functional.hinge_embedding_loss": "the labels are differentiated too, and the loss jumps with them",
    "cholesky_inverse": "with upper=True forward mode is off (5e-6 relative here); reverse mode and differences agree",
    "max_pool2d_with_indices_backward": "piecewise constant in that input: zero is right between two changes of the maximum",
    "masked.log_softmax": "the derivative 1 - p of a p next to 1 cancels in float32: 1.31e-6 for 1.26e-6",
    "native_layer_norm": "normalising a single number gives a constant: what is left of its derivative is rounding",
    "nn.functional.layer_norm": "normalising a single number gives a constant: what is left of its derivative is rounding",
    "nn.functional.normalize": "x / |x| of a single number is its sign: what is left of its derivative is rounding",
    "linalg.norm subgradients_at_zero": "the 0-norm counts entries, and jumps at zero",
    "copysign": "piecewise constant in the sign's source: steps of float32 between it and a claimed zero",
    "nn.functional.multi_head_attention_forward": "an entry of 1e-13 next to larger ones, lost in the noise",
    "logcumsumexp": "in float32 reverse mode loses the digits of entries near 1e-6; forward mode and differences agree",
    "__rpow__": "the value itself is NaN",
    "bernoulli": "a random sample whose derivative is defined as zero",
    "div": "rounded quotients: piecewise constant, which the claimed zero and coarse steps do not distinguish",
}


@dataclasses.dataclass(frozen=True)
class Row:
    """One checker's outcome on one sample.

    Attributes:
        index: the sample's place among those of its operator.
        outcome: a verdict, or a word for what happened instead.
        reason: gradcheck's reason code.
        detail: the first comparison that did not pass, or the message.
    """

    name: str
    index: int
    chosen: bool
    outcome: str
    seconds: float
    reason: str = ""
    detail: str = ""


def check_with_gradcheck(sample: Sample) -> Row:
    """Check one sample with gradcheck."""
    began = time.perf_counter()
    try:
        result = gradcheck.check(
            sample.function, *sample.args, kwargs=sample.kwargs, framework="torch", name=f"{sample.name} {sample.index}"
        )
        outcome, reason, detail = describe_outcome(result), result.reason.code, describe_comparison(result)
    except gradcheck.UsageError as error:
        outcome, reason, detail = "refused", "", str(error)
    except Exception as error:
        outcome, reason, detail = "crash", "", f"{type(error).__name__}: {error}"
    return Row(sample.name, sample.index, sample.chosen, outcome, time.perf_counter() - began, reason, detail)


SAMPLES: list[Sample] = []  # the forked workers inherit them, as functions cannot be sent


def check_in_parallel(samples: list[Sample]) -> list[Row]:
    """Check samples on a few processes, each with one thread."""
    SAMPLES[:] = samples
    with multiprocessing.get_context("fork").Pool(PROCESSES) as pool:
        return pool.map(_check_sample, range(len(samples)), chunksize=20)


def _check_sample(i: int) -> Row:
    warnings.simplefilter("ignore")
    return check_with_gradcheck(SAMPLES[i])


def describe_outcome(result: CheckResult) -> str:
    """Describe a verdict in a word; a sample without entries has nothing to check and is 'empty'."""
    return "empty" if result.reason is Reason.EMPTY else result.verdict.value


def describe_comparison(result: CheckResult) -> str:
    """Describe the first comparison that did not pass, or else the message or reason."""
    failures = [failure for failure in result.comparisons if failure.verdict is not Verdict.PASS]
    if not failures:
        return result.message.splitlines()[0] if result.message else result.reason.message
    failure = failures[0]
    claim = f"{failure.method} {failure.claimed:.3g}"
    return f"{failure.reason.code}: {claim}, {failure.against} {failure.estimate:.3g} ± {failure.bound:.0e}"


def check_with_torch(sample: Sample, *, fast: bool) -> Row:
    """Check one sample with PyTorch's gradcheck at its defaults."""
    began = time.perf_counter()
    differentiable = [x for x in sample.args if isinstance(x, torch.Tensor) and x.requires_grad]
    try:
        passed = bool(differentiable) and torch.autograd.gradcheck(
            lambda *args: sample.function(*args, **sample.kwargs), sample.args, fast_mode=fast, raise_exception=False
        )
        outcome = "pass" if passed else "fail"
    except Exception as error:
        outcome = f"raises {type(error).__name__}"
    return Row(sample.name, sample.index, sample.chosen, outcome, time.perf_counter() - began)


def make_counts_row(title: str, rows: list[Row]) -> tuple[str, ...]:
    """Make the table row with the counts and times of one checker."""
    counts = Counter(row.outcome.split()[0] for row in rows)
    spent, median = sum(r.seconds for r in rows), statistics.median(r.seconds for r in rows)
    outcomes = ", ".join(f"{count} {name}" for name, count in counts.most_common())
    return title, str(len(rows)), outcomes, f"{spent:.0f} s", f"{1e3 * median:.0f} ms"


def list_not_passed(title: str, rows: list[Row]) -> list[str]:
    """List what did not pass, a row for each operator and outcome, with its explanation."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        if row.outcome not in ("PASS", "empty"):
            groups.setdefault((row.name, row.outcome, row.reason), []).append(row)
    cells = [
        (f"`{name}`", len(group), group[0].index, f"{outcome} {reason}".strip(), shorten_detail(group[0]), explain(name))
        for (name, outcome, reason), group in groups.items()
    ]
    return [
        "",
        f"## Not passed, {title}",
        "",
        *study_page.make_table(("operator", "samples", "first", "verdict", "seen", "explanation"), cells),
    ]


def shorten_detail(row: Row) -> str:
    """Shorten the detail of a row to one line."""
    return row.detail.replace("\n", " ")[:140]


def explain(name: str) -> str:
    """Return the explanation of an operator that does not pass."""
    return next((text for start, text in EXPLAINED.items() if name.startswith(start)), "not looked into yet")


def main() -> None:
    """Run the study and write its page."""
    only, out = study_page.read_arguments(__doc__ or "", __file__, "operators whose name contains this")
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    wide, narrow = ([sample for sample in load_samples(d) if only in sample.name] for d in (torch.float64, torch.float32))
    checked = {"float64": check_in_parallel(wide), "float32": check_in_parallel(narrow)}
    some = {"float64": [sample for sample in wide if sample.chosen], "float32": [sample for sample in narrow if sample.chosen]}
    runs = {
        **{f"gradcheck, {dtype}": rows for dtype, rows in checked.items()},
        **{f"gradcheck, {dtype}, {CHOSEN} samples each": [r for r in rows if r.chosen] for dtype, rows in checked.items()},
        "torch.autograd.gradcheck, fast, float64": [check_with_torch(sample, fast=True) for sample in some["float64"]],
        "torch.autograd.gradcheck, slow, float64": [check_with_torch(sample, fast=False) for sample in some["float64"]],
        "torch.autograd.gradcheck, slow, float32": [check_with_torch(sample, fast=False) for sample in some["float32"]],
    }
    lines = [
        *study_page.make_heading("False alarms: PyTorch's operators", __file__, ("torch", "numpy")),
        f"Every operator of PyTorch's database with a derivative on the CPU, every sample of it of up to {LARGEST} numbers,",
        f"through gradcheck; {CHOSEN} samples of each operator through PyTorch's own checkers, in the same run. Each checker",
        "at its defaults. `empty` samples hold no entry. PyTorch's own tests pass each operator a tolerance and switches of",
        "its own; here it gets none, as gradcheck gets none. Times are of one process with one thread.",
        "",
        *study_page.make_table(
            ("checker", "samples", "outcomes", "time", "median"), [make_counts_row(title, rows) for title, rows in runs.items()]
        ),
        *(line for dtype, rows in checked.items() for line in list_not_passed(dtype, rows)),
    ]
    study_page.write_page(lines, out)
    sys.stdout.write("\n".join(lines[9:18]) + "\n")


if __name__ == "__main__":
    main()

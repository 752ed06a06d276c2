"""Study: does a right gradient ever fail? PyTorch's own operator database through gradcheck, beside PyTorch's gradcheck.

    python reports/false_alarms.py            # writes reports/false_alarms.md; about half an hour on two cores

The database ships with PyTorch (`torch.testing._internal.common_methods_invocations.op_db`; it needs `expecttest`).
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import statistics
import sys
import time
import warnings
from collections import Counter
from typing import Any

import page
import torch
from torch.testing._internal.common_methods_invocations import op_db

import gradcheck
from gradcheck import CheckResult, Reason, Verdict

LARGEST = 100  # numbers in the tensors of a sample: every such sample goes through gradcheck
CHOSEN = 2  # samples of an operator, spread over those there are, that go through PyTorch's checkers too
PROCESSES = 2

# What was found out about the operators that do not pass.
EXPLAINED = {
    "bfloat16": "the operator rounds to bfloat16: its values come in coarse steps, its derivative is that of no rounding",
    "half": "the same with float16",
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
    "nn.functional.layer_norm": "the same",
    "nn.functional.normalize": "x / |x| of a single number is its sign: what is left of its derivative is rounding",
    "linalg.norm subgradients_at_zero": "the 0-norm counts entries, and jumps at zero",
    "copysign": "piecewise constant in the sign's source: steps of float32 between it and a claimed zero",
    "nn.functional.multi_head_attention_forward": "an entry of 1e-13 beside others, lost in the noise",
    "logcumsumexp": "in float32 reverse mode loses the digits of entries near 1e-6; forward mode and differences agree",
    "__rpow__": "the value itself is NaN",
    "bernoulli": "a random sample whose derivative is defined as zero",
    "div": "rounded quotients: piecewise constant, the claimed zero could not be told from coarse steps",
}


@dataclasses.dataclass(frozen=True)
class Sample:
    """One operator on one sample."""

    name: str
    number: int
    function: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    chosen: bool


@dataclasses.dataclass(frozen=True)
class Row:
    """What became of a sample."""

    name: str
    number: int
    chosen: bool
    outcome: str
    seconds: float
    reason: str = ""
    detail: str = ""


def samples(dtype: torch.dtype) -> list[Sample]:
    """The samples of every operator that has a derivative in a dtype."""
    found = []
    for op in op_db:
        if not op.supports_autograd or dtype not in op.supported_backward_dtypes("cpu"):
            continue
        small = [s for s in op.sample_inputs("cpu", dtype, requires_grad=True) if size(s) <= LARGEST]
        chosen = {round(i * (len(small) - 1) / max(CHOSEN - 1, 1)) for i in range(CHOSEN)}
        found += [sample_of(op, sample, i, chosen=i in chosen) for i, sample in enumerate(small)]
    return found


def size(sample: Any) -> int:
    """Numbers in the tensors of a sample."""
    leaves = torch.utils._pytree.tree_leaves((sample.input, sample.args, sample.kwargs))
    return sum(leaf.numel() for leaf in leaves if isinstance(leaf, torch.Tensor))


def sample_of(op: Any, sample: Any, number: int, *, chosen: bool) -> Sample:
    """The operator as a function of a sample's inputs, wrapped as PyTorch's own tests wrap it."""

    def function(*args: Any, **kwargs: Any) -> Any:
        return sample.output_process_fn_grad(op.gradcheck_wrapper(op.op, *args, **kwargs))

    name = f"{op.name} {op.variant_test_name}".strip()
    return Sample(name, number, function, (sample.input, *sample.args), sample.kwargs, chosen)


def ours(sample: Sample) -> Row:
    """Check one sample with gradcheck."""
    began = time.perf_counter()
    try:
        result = gradcheck.check(
            sample.function, *sample.args, kwargs=sample.kwargs, framework="torch", name=f"{sample.name} {sample.number}"
        )
        outcome, reason, detail = outcome_of(result), result.reason.code, detail_of(result)
    except gradcheck.UsageError as error:
        outcome, reason, detail = "refused", "", str(error)
    except Exception as error:
        outcome, reason, detail = "crash", "", f"{type(error).__name__}: {error}"
    return Row(sample.name, sample.number, sample.chosen, outcome, time.perf_counter() - began, reason, detail)


SAMPLES: list[Sample] = []  # what the forked workers inherit: functions cannot be sent


def through_gradcheck(wanted: list[Sample]) -> list[Row]:
    """Check samples on a few processes, each with one thread."""
    SAMPLES[:] = wanted
    with multiprocessing.get_context("fork").Pool(PROCESSES) as pool:
        return pool.map(_nth, range(len(wanted)), chunksize=20)


def _nth(i: int) -> Row:
    warnings.simplefilter("ignore")
    return ours(SAMPLES[i])


def outcome_of(result: CheckResult) -> str:
    """A verdict in a word; a sample without entries has nothing to check."""
    return "empty" if result.reason is Reason.EMPTY else result.verdict.value


def detail_of(result: CheckResult) -> str:
    """The first comparison that did not pass."""
    bad = [c for c in result.comparisons if c.verdict is not Verdict.PASS]
    if not bad:
        return result.message.splitlines()[0] if result.message else result.reason.message
    c = bad[0]
    return f"{c.reason.code}: {c.method} {c.claimed:.3g}, {c.against} {c.estimate:.3g} ± {c.bound:.0e}"


def theirs(sample: Sample, *, fast: bool) -> Row:
    """Check one sample with PyTorch's gradcheck at its defaults."""
    began = time.perf_counter()
    call = [a for a in sample.args if isinstance(a, torch.Tensor) and a.requires_grad]
    try:
        passed = bool(call) and torch.autograd.gradcheck(
            lambda *args: sample.function(*args, **sample.kwargs), sample.args, fast_mode=fast, raise_exception=False
        )
        outcome = "pass" if passed else "fail"
    except Exception as error:
        outcome = f"raises {type(error).__name__}"
    return Row(sample.name, sample.number, sample.chosen, outcome, time.perf_counter() - began)


def table(title: str, rows: list[Row]) -> tuple[str, ...]:
    """Counts and times of one checker."""
    counts = Counter(row.outcome.split()[0] for row in rows)
    spent, median = sum(r.seconds for r in rows), statistics.median(r.seconds for r in rows)
    told = ", ".join(f"{count} {name}" for name, count in counts.most_common())
    return title, str(len(rows)), told, f"{spent:.0f} s", f"{1e3 * median:.0f} ms"


def findings(title: str, rows: list[Row]) -> list[str]:
    """What did not pass, a line for each operator and outcome, with what is known about it."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        if row.outcome not in ("PASS", "empty"):
            groups.setdefault((row.name, row.outcome, row.reason), []).append(row)
    cells = [
        (f"`{name}`", len(found), found[0].number, f"{outcome} {reason}".strip(), seen(found[0]), known(name))
        for (name, outcome, reason), found in groups.items()
    ]
    return [
        "",
        f"## Not passed, {title}",
        "",
        *page.table(("operator", "samples", "first", "verdict", "seen", "explanation"), cells),
    ]


def seen(row: Row) -> str:
    """What the first of them showed, in one line."""
    return row.detail.replace("\n", " ")[:140]


def known(name: str) -> str:
    """What was found out about an operator that does not pass."""
    return next((text for start, text in EXPLAINED.items() if name.startswith(start)), "not looked into yet")


def main() -> None:
    """Run the study and write its page."""
    only, out = page.arguments(__doc__ or "", __file__, "operators whose name contains this")
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    wide, narrow = ([s for s in samples(d) if only in s.name] for d in (torch.float64, torch.float32))
    checked = {"float64": through_gradcheck(wide), "float32": through_gradcheck(narrow)}
    some = {"float64": [s for s in wide if s.chosen], "float32": [s for s in narrow if s.chosen]}
    runs = {
        **{f"gradcheck, {dtype}": rows for dtype, rows in checked.items()},
        **{f"gradcheck, {dtype}, {CHOSEN} samples each": [r for r in rows if r.chosen] for dtype, rows in checked.items()},
        "torch.autograd.gradcheck, fast, float64": [theirs(s, fast=True) for s in some["float64"]],
        "torch.autograd.gradcheck, slow, float64": [theirs(s, fast=False) for s in some["float64"]],
        "torch.autograd.gradcheck, slow, float32": [theirs(s, fast=False) for s in some["float32"]],
    }
    lines = [
        *page.heading("False alarms: PyTorch's operators", __file__, ("torch", "numpy")),
        f"Every operator of PyTorch's database with a derivative on the CPU, every sample of it of up to {LARGEST} numbers,",
        f"through gradcheck; {CHOSEN} samples of each operator through PyTorch's own checkers, in the same run. Each checker",
        "at its defaults. `empty` samples hold no entry. PyTorch's own tests pass each operator a tolerance and switches of",
        "its own; here it gets none, as gradcheck gets none. Times are of one process with one thread.",
        "",
        *page.table(("checker", "samples", "outcomes", "time", "median"), [table(title, rows) for title, rows in runs.items()]),
        *(line for dtype, rows in checked.items() for line in findings(dtype, rows)),
    ]
    page.write(lines, out)
    sys.stdout.write("\n".join(lines[9:18]) + "\n")


if __name__ == "__main__":
    main()

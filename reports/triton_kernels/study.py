"""Study: Triton kernels with hand-written backwards: those of gradcheck's tests, right and wrong, and liger-kernel's.

    pip install --no-deps liger-kernel
    python reports/triton_kernels/study.py            # writes reports/triton_kernels.md; about three minutes on one core

Without a GPU the kernels run in Triton's interpreter, which does not run all of them.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

import gradcheck
from gradcheck import CheckResult, Verdict, integers, normal

sys.path.append(str(Path(__file__).resolve().parents[1] / "common"))
sys.path.append(str(Path(__file__).resolve().parents[2] / "tests" / "support"))
import kernels  # chooses the interpreter where there is no GPU, before liger-kernel is imported
import study_page

ROW = (3, 8)
KernelCase = tuple[Callable[..., Any], tuple[Any, ...]]
TEST_KERNELS: dict[str, KernelCase] = {
    "softmax": (kernels.Softmax, (normal(*ROW),)),
    "softmax, sum over the row forgotten": (kernels.UncentredSoftmax, (normal(*ROW),)),
    "RMSNorm": (kernels.RMSNorm, (normal(*ROW), normal(8))),
    "RMSNorm, scale taken for a constant": (kernels.RMSNormOfConstantScale, (normal(*ROW), normal(8))),
    "cross-entropy": (kernels.CrossEntropy, (normal(*ROW), integers(0, 8, 3))),
    "cross-entropy, labels counted from 1": (kernels.CrossEntropyFromOne, (normal(*ROW), integers(0, 8, 3))),
}
EXPLAINED = {  # why kernels of liger-kernel do not pass
    "cross_entropy": "by design: the forward overwrites the logits with the gradient, and the backward scales it there; a "
    "second backward of the same graph gets what the first has left",
    "fused_linear_cross_entropy": "by design, as cross_entropy: the backward scales what the forward has stored, in place",
}


def make_liger_cases() -> dict[str, KernelCase]:
    """Make liger-kernel's Functions with small float32 inputs."""

    def op(module: str, name: str) -> Any:
        return getattr(importlib.import_module(f"liger_kernel.ops.{module}"), f"Liger{name}Function")

    torch.manual_seed(0)
    x, w, b, y = torch.randn(ROW), torch.randn(8), torch.randn(8), torch.tensor([1, 0, 7])
    p, q = torch.randn(ROW).softmax(-1), torch.randn(ROW).softmax(-1)
    heads, cos, sin = torch.randn(2, 1, 2, 4, 8), torch.randn(1, 4, 8), torch.randn(1, 4, 8)
    cross, fused = op("cross_entropy", "CrossEntropy"), op("fused_linear_cross_entropy", "FusedLinearCrossEntropy")
    sparsemax, rope, norm = op("sparsemax", "Sparsemax"), op("rope", "Rope"), op("rms_norm", "RMSNorm")
    layer_norm, kl, tvd = op("layer_norm", "LayerNorm"), op("kl_div", "KLDivLoss"), op("tvd", "TVDLoss")
    group, poly = op("group_norm", "GroupNorm"), op("poly_norm", "PolyNorm")
    return {
        "softmax": (op("softmax", "Softmax"), (x,)),
        "cross_entropy": (lambda x, y: cross.apply(x, y, None)[0], (x, y)),
        "fused_linear_cross_entropy": (lambda x, w, y: fused.apply(x, w, y)[0], (x, torch.randn(8, 8), y)),
        "sparsemax": (lambda x: sparsemax.apply(x, -1), (x,)),
        "rope": (lambda q, k: rope.apply(q.clone(), k.clone(), cos, sin), (heads[0], heads[1])),
        "relu_squared": (op("relu_squared", "ReLUSquared"), (x,)),
        "rms_norm": (lambda x, w: norm.apply(x, w, 1e-6, 0.0, "llama", False), (x, w)),
        "layer_norm": (lambda x, w, b: layer_norm.apply(x, w, b, 1e-6), (x, w, b)),
        "group_norm": (
            lambda x, w, b: group.apply(x, w, b, 4, 2, 1e-5)[0],
            (torch.randn(2, 4, 6), torch.randn(4), torch.randn(4)),
        ),
        "poly_norm": (lambda x, w, b: poly.apply(x, w, b, 1e-6, False), (x, torch.randn(3), torch.randn(1))),
        "swiglu": (op("swiglu", "SiLUMul"), (x, torch.randn(ROW))),
        "geglu": (op("geglu", "GELUMul"), (x, torch.randn(ROW))),
        "dyt": (op("dyt", "DyT"), (x, torch.randn(1), w, b)),
        "kl_div": (lambda a, b: kl.apply(a, b, "batchmean", False, 1e-10), (p.log(), q)),
        "tvd": (lambda a, b: tvd.apply(a, b, None, "batchmean", -100), (p, q)),
    }


def check_kernel(name: str, case: KernelCase, dtype: str | None = None) -> list[Any]:
    """Check one kernel; return its verdict, resolution, broken contracts, seconds and a description."""
    function, inputs = case
    began = time.perf_counter()
    result = gradcheck.check(function, *inputs, name=name, framework="torch", dtype=dtype)
    seconds = time.perf_counter() - began
    broken = ", ".join(f"`{c.name}`" for c in result.contracts if c.verdict is Verdict.FAIL)
    return [
        name,
        result.verdict.value,
        f"{result.resolution:.0e}" if result.ok else "",
        broken,
        f"{seconds:.1f}",
        _describe_result(result),
    ]


def _describe_result(result: CheckResult) -> str:
    if result.verdict is Verdict.ERROR:
        where = "the interpreter does not run it" if not torch.cuda.is_available() else "it does not run"
        return f"{where}: {result.message.partition('raised ')[2].partition(', given')[0]}"
    if result.verdict is Verdict.PASS:
        return ""
    wrong = [c.wrt for c in result.comparisons if c.verdict is Verdict.FAIL]
    return EXPLAINED.get(result.case, f"wrong: {', '.join(dict.fromkeys(wrong))}" if wrong else "not looked into yet")


def make_kernels_table(cases: dict[str, KernelCase], only: str, dtypes: Sequence[str | None] = (None,)) -> list[str]:
    """Check some kernels and make their table."""
    rows = [check_kernel(name, case, dtype) for dtype in dtypes for name, case in cases.items() if only in name]
    return study_page.make_table(("kernel", "verdict", "right to", "contracts broken", "seconds", "what is seen"), rows)


def main() -> None:
    """Run the study and write its page."""
    only, out = study_page.read_arguments(__doc__ or "", __file__, "kernels whose name contains this")
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "Triton's interpreter, on the CPU"
    assert torch.cuda.is_available() or os.environ["TRITON_INTERPRET"] == "1"
    lines = [
        *study_page.make_heading("Triton kernels", __file__, ("gradcheck", "triton", "liger-kernel", "torch")),
        f"They run in {device}. One thread, on a machine that others used.",
        "",
        "## The kernels of the tests, in float32",
        "",
        *make_kernels_table(TEST_KERNELS, only, ("float32",)),
        "",
        "## liger-kernel, in float32",
        "",
        *make_kernels_table(make_liger_cases(), only),
    ]
    study_page.write_page(lines, out)
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
